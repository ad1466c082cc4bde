"""Checkpoints of the code of Tian & Xu 2021 (YapengTian/AV-Robustness-CVPR21) as networks of this package.

The code saves a network as three files of tensors by name, and its dictionaries as two more:

    sound_best.pth       `features.N`: Conv1d with bias, BatchNorm1d, ReLU and MaxPool1d in one row
    frame_best.pth       `features.N`: torchvision's ResNet-18 without its last layer, its parts numbered in a row
    classifier_best.pth  `fc1`: one linear layer on [video; audio]
    Dv_best.pth, Da_best.pth    (512 m) each, of video and of audio; beside the weights of the first stage

Only tensors are unpickled, because a checkpoint from a stranger must not run code.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avrobust.config import to_plain
from avrobust.defenses.memory import ExFMem, Memory
from avrobust.files import CheckpointError
from avrobust.media.spec import ClipSpec
from avrobust.models import torch_file
from avrobust.models.network import AVNet, Network
from avrobust.models.zoo import NetSpec
from avrobust.training.checkpoint import Meta, load
from avrobust.training.views import View
from avrobust.types import AV

FEATURES = 512  # of each encoder

# The order in which that code's scripts number their classes: not the alphabet's.
_ORDER = {
    "music": "flute acoustic_guitar accordion xylophone erhu tuba saxophone cello violin clarinet trumpet",
    "kinetics_sounds": """
        laughing playing_clarinet singing playing_harmonica playing_keyboard playing_xylophone playing_bass_guitar
        tapping_guitar playing_drums playing_piano ripping_paper playing_saxophone tickling playing_trumpet tapping_pen
        playing_organ tap_dancing playing_accordion blowing_nose shuffling_cards playing_guitar playing_trombone
        playing_bagpipes shoveling_snow bowling playing_violin chopping_wood""",
    "ave": """
        Church_bell Male_speech Bark airplane Race_car Female_speech Helicopter Violin Flute Ukulele Frying Truck Shofar
        Motorcycle Chainsaw Acoustic_guitar Train_horn Clock Banjo Goat Baby_cry Bus Cat Horse Toilet_flush Rodents
        Accordion Mandolin""",
}
CLASSES = {dataset: tuple(names.split()) for dataset, names in _ORDER.items()}

# The input of that code's networks: 5.9 s of audio, and the frame in its middle.
VIEW = View(samples=65535, frames=1, size=224)
CLIP = ClipSpec(seconds=VIEW.samples / 11025, rate=11025, fps=11025 / VIEW.samples, size=VIEW.size)


def load_published(
    folder: Path | str, *, name: str = "best", memory: ExFMem | None = None, banks: Path | str | None = None
) -> AVNet:
    """The network in `sound_<name>.pth`, `frame_<name>.pth` and `classifier_<name>.pth` of a folder, to be evaluated.

    Its logits are those of that network in evaluation mode, with that code's order of classes, for audio (b n) in
    [-1, 1] and RGB frames (b t 3 h w) in [0, 1], not normalised: our network normalises them itself.  That code has
    t = 1; with more frames, their features are averaged.

    With `memory`, for example `defenses.MEMORIES["ave"]` or another `ExFMem`, the dictionaries `Dv_best.pth` and
    `Da_best.pth` are its feature defense: the first `memory.columns` of their columns.  They are read from the folder
    `banks`, by default the same.  That code's second stage has weights in a new folder, and dictionaries in the first.

    Raises `CheckpointError` that names the file: not there, damaged, more than tensors, or of another network.
    """
    if memory is None and banks is not None:
        raise ValueError(
            "expected settings with the dictionaries, got none. Give memory=MEMORIES['music'], another's, or an ExFMem."
        )
    folder = Path(folder)
    path = AV(audio=folder / f"sound_{name}.pth", visual=folder / f"frame_{name}.pth")
    last = folder / f"classifier_{name}.pth"
    weights, head = path.map(_weights), _weights(last)

    rows = head["fc1.weight"].shape[:1] if "fc1.weight" in head else ()
    net = NetSpec(classes=max([2, *rows])).build(seed=0)
    slots, biases = _audio(net.audio)
    _fill(slots, weights.audio, path.audio)
    for normalised, bias in biases.items():
        slots[normalised] -= bias  # (z + b) - m = z - (m - b)
    _fill(_visual(net.visual), weights.visual, path.visual)
    columns = torch.empty(net.classifier.weight.shape)
    _fill({"fc1.weight": columns, "fc1.bias": net.classifier.bias.detach()}, head, last)
    net.classifier.weight.detach().copy_(columns.roll(FEATURES, dims=1))  # [video; audio] becomes [audio; video]
    if memory is not None:
        net.feature_defense = Memory(memory, _banks(folder if banks is None else Path(banks), memory.columns))
    return net.eval()


def load_any(path: Path | str, *, allow: Sequence[str] = ()) -> tuple[Network, Meta]:
    """The network of a checkpoint as `load` has it, or of a folder that the published code wrote, as metadata tells.

    Such a folder does not say what its network was trained on: a network of 11, 27 or 28 classes is taken for that
    code's own on MIT-MUSIC, Kinetics-Sounds or AVE, and has their classes' names.
    """
    if not any(Path(path).glob("classifier_*.pth")):
        return load(path, allow=allow)
    path = Path(path)
    net = load_published(path)
    for classes in CLASSES.values():
        if len(classes) == net.classes:
            return net, {"classes": list(classes), "clip": to_plain(CLIP), "view": to_plain(VIEW)}
    raise CheckpointError(
        f"{path}: expected a network of {', '.join(f'{len(c)} classes ({name})' for name, c in CLASSES.items())}, "
        f"got one of {net.classes}, whose names are not known. "
        "Load it yourself with avrobust.papers.tian2021.weights.load_published, and give it as module:name."
    )


def _audio(encoder: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Where the tensors of the published audio network belong in ours, by their names, which number the same row.

    Also the biases that ours has no place for, by the name of the mean that takes them up.
    """
    slots: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for i, layer in enumerate(encoder.get_submodule("layers").children()):
        for leaf, tensor in layer.state_dict().items():
            slots[f"features.{i}.{leaf}"] = tensor.squeeze(2) if tensor.ndim == 4 else tensor  # kernels: 1 x 3 here
        if isinstance(layer, nn.Conv2d):
            bias = torch.empty(layer.out_channels)
            slots[f"features.{i}.bias"] = biases[f"features.{i + 1}.running_mean"] = bias
    return slots, biases


def _visual(encoder: nn.Module) -> dict[str, Tensor]:
    """Where the tensors of the published video network belong in ours, by their names."""
    backbone = encoder.get_submodule("backbone").state_dict()
    return {f"features.{_theirs(name)}": tensor for name, tensor in backbone.items()}


def _theirs(name: str) -> str:
    """What torchvision's ResNet, its parts numbered in a row, calls a tensor of transformers' ResNet.

    In that row are 0 conv1, 1 bn1, 2 relu, 3 maxpool, 4 to 7 layer1 to layer4.

    >>> _theirs("encoder.stages.1.layers.0.layer.1.convolution.weight")
    '5.0.conv2.weight'
    """
    number = {"convolution": 0, "normalization": 1}
    short = {"convolution": "conv", "normalization": "bn"}
    match name.split("."):
        case ["embedder", "embedder", kind, leaf]:
            return f"{number[kind]}.{leaf}"
        case ["encoder", "stages", stage, "layers", block, "shortcut", kind, leaf]:
            return f"{int(stage) + 4}.{block}.downsample.{number[kind]}.{leaf}"
        case ["encoder", "stages", stage, "layers", block, "layer", layer, kind, leaf]:
            return f"{int(stage) + 4}.{block}.{short[kind]}{int(layer) + 1}.{leaf}"
    raise AssertionError(f"{name} is no tensor of a ResNet-18")


def _fill(slots: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: Path) -> None:
    """Copy the tensors of `path` to where they belong; all of them fit, or none is copied."""
    torch_file.check_names(
        weights,
        slots,
        path,
        "the published network",
        "the file that the published code wrote for this part of its network",
    )
    for name, slot in slots.items():
        slot.copy_(weights[name])


def _banks(folder: Path, columns: int) -> AV[Tensor]:
    """The first columns (512 m) of both dictionaries."""
    path = AV(audio=folder / "Da_best.pth", visual=folder / "Dv_best.pth")
    banks: AV[Any] = path.map(lambda file: torch_file.read(_there(file)))
    for (_, bank), (_, file) in zip(banks.items(), path.items(), strict=True):
        if not isinstance(bank, Tensor) or bank.ndim != 2 or len(bank) != FEATURES:
            came = f"one of {tuple(bank.shape)}" if isinstance(bank, Tensor) else f"a {type(bank).__name__}"
            raise CheckpointError(
                f"{file}: expected a tensor of {FEATURES} rows and a column per clip, got {came}. "
                "Give the dictionary as the published code wrote it."
            )
    if banks.audio.shape != banks.visual.shape:
        raise CheckpointError(
            f"{path.audio}: expected as many columns as {path.visual.name} has, {banks.visual.shape[1]}, got "
            f"{banks.audio.shape[1]}. Give both dictionaries of one training."
        )
    return banks.map(lambda bank: bank[:, :columns].float().contiguous())


def _weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names."""
    return torch_file.named_tensors(_there(path))


def _there(path: Path) -> Path:
    """The file, if it is there."""
    if not path.is_file():
        part = path.stem.split("_")[0]
        beside = ", ".join(sorted(file.name for file in path.parent.glob(f"{part}_*.pth"))) or f"no {part}_*.pth"
        raise CheckpointError(
            f"{path}: expected a file of the published code, got no such file; the folder has {beside}. "
            + (
                "Give banks=, the folder of the training that wrote the dictionaries."
                if part in ("Da", "Dv")
                else "Give the folder, and name='latest' for sound_latest.pth and so on."
            )
        )
    return path
