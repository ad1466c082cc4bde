"""CAV-MAE (Gong et al. 2023, "Contrastive audio-visual masked autoencoder"), fine-tuned to classify.

The architecture in our own words, which takes the published checkpoints (YuanGongND/cav-mae, BSD) by their names.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avrobust.facts import IMAGENET_MEAN, IMAGENET_STD
from avrobust.files import CheckpointError
from avrobust.models import torch_file
from avrobust.models.configurations import MOST_LAYERS
from avrobust.models.frontends import AudioFrontEnd, FrameSettings, MelFilters, MelSettings, VisualFrontEnd
from avrobust.models.fusion import Fusion
from avrobust.models.network import Absent, AVNet, Modality, Spec, known, refuse_few, weights_drawn_by
from avrobust.types import AV

# Which normalisations the joint blocks use, by the modality that it was fine-tuned in: "", or those of one.
NORMS = {"AV": "", "A": "_a", "V": "_v"}
PATCH, BANDS, SIDE = 16, 128, 224  # pixels, mel bands, pixels
# How the parts of this network, and what they hold, are called in a checkpoint.
THEIRS = {
    "audio.patches.": "patch_embed_a.proj.", "audio.modality": "modality_a", "audio.places": "pos_embed_a",
    "audio.blocks.": "blocks_a.",
    "visual.patches.": "patch_embed_v.proj.", "visual.modality": "modality_v", "visual.places": "pos_embed_v",
    "visual.blocks.": "blocks_v.",
    "fusion.blocks.": "blocks_u.", "fusion.norm": "norm", "fusion.last.": "mlp_head.0.", "classifier.": "mlp_head.1.",
}  # fmt: skip


@dataclass(frozen=True)
class CavMaeSize:
    """Widths and depths; the defaults are those of every published checkpoint, 164 million weights."""

    width: int = 768
    heads: int = 12
    separate: int = 11  # blocks of each modality
    joint: int = 1  # blocks of both
    frames: int = 1024  # of the spectrogram, 10 ms each

    def __post_init__(self) -> None:
        whole = min(self.width, self.heads, self.frames) > 0 and not (self.width % self.heads or self.frames % PATCH)
        if not whole or not all(0 < depth <= MOST_LAYERS for depth in (self.separate, self.joint)):
            raise ValueError(
                f"expected a width that is a multiple of the heads, frames that are a multiple of {PATCH}, and 1 to "
                f"{MOST_LAYERS} blocks, got {self}. Leave the size out: published checkpoints have the default."
            )


@dataclass(frozen=True)
class CavMaeSpec(Spec):
    """CAV-MAE as the network of a study: `cav_mae`, as settings.

    `classes` and `rate` None are those of the study's clips; `weights` are a fine-tuned checkpoint of that many classes,
    None: random.  A network that was built comes back from a checkpoint of this package without them.

    >>> CavMaeSpec(classes=3, rate=16_000, size=CavMaeSize(width=16, heads=2, separate=1, frames=64)).build(seed=0).classes
    3
    """

    weights: Path | str | None = None
    modality: Modality = "AV"
    multi_label: bool = False
    classes: int | None = None
    rate: int | None = None  # samples a second of the clips
    size: CavMaeSize = CavMaeSize()

    def __post_init__(self) -> None:
        refuse_few(self.classes)

    def for_clips(self, classes: int, rate: int) -> "CavMaeSpec":
        return replace(self, classes=classes, rate=rate)

    def build(self, seed: int) -> AVNet:
        net = self._assembled(seed, torch.device("cpu" if self.weights is None else "meta"))
        if self.weights is not None:
            _read(net, Path(self.weights), known(self.classes))
        return self._hearing_and_seeing(net)

    def rebuild(self) -> AVNet:
        return self._hearing_and_seeing(self._assembled(0, torch.get_default_device()))

    def _assembled(self, seed: int, device: torch.device) -> AVNet:
        if self.rate is None:
            raise ValueError("expected the samples a second of the clips, got none. Give rate=...")
        size, classes, inputs = self.size, known(self.classes), cav_mae_inputs(self.rate, self.size.frames)
        with weights_drawn_by(seed), device:
            encoders: AV[nn.Module] = AV(
                audio=Patches(inputs.audio, 1, (BANDS // PATCH) * (size.frames // PATCH), size),
                visual=Patches(inputs.visual, 3, (SIDE // PATCH) ** 2, size),
            )
            net = AVNet(encoders, Joint(size, self.modality), classes)
            net.classifier = OverFrames(size.width, classes, self.multi_label)
        return net

    def _hearing_and_seeing(self, net: AVNet) -> AVNet:
        """The network without the encoder of a modality that it ignores, which a checkpoint has all the same."""
        if self.modality == "V":
            net.audio = Absent()
        if self.modality == "A":
            net.visual = Absent()
        net.built_by(self)
        return net


def cav_mae(
    weights: Path | str | None,
    classes: int,
    *,
    rate: int,
    modality: Modality = "AV",
    multi_label: bool = False,
    size: CavMaeSize | None = None,
    seed: int = 0,
) -> AVNet:
    """The fine-tuned CAV-MAE in a `.pth` file of its authors, to be evaluated on clips of `rate` samples a second.

    AudioSet's have 527 classes and `multi_label=True`, VGGSound's 309 and False.  `modality` is the one that the checkpoint was
    fine-tuned in: its `ftmode` "multimodal" is "AV", "audioonly" "A", "videoonly" "V".  Without `weights` they are random, by
    `seed`.

    The features of a clip are the patches of each modality behind its own blocks, (b 512 d) and (b t 196 d); the joint blocks
    run once per frame.  The answer for t frames is the mean over them of the predicted probabilities, as in the published
    evaluation (of 10 frames); with one frame it is the network's own logits.

    Raises `CheckpointError`, naming the file, where it is not there or damaged, holds more than tensors, or holds another
    network: other classes, or CAV-MAE as it was pretrained (a decoder, no classifier).

    >>> net = cav_mae(None, 3, rate=16_000, size=CavMaeSize(width=16, heads=2, separate=1, frames=64))
    >>> net(AV(audio=torch.zeros(2, 8_000), visual=torch.zeros(2, 1, 3, 48, 64))).shape
    torch.Size([2, 3])
    """
    return CavMaeSpec(weights, modality, multi_label, classes, rate, size or CavMaeSize()).build(seed).eval()


def _read(net: AVNet, path: Path, classes: int) -> None:
    """Put the tensors of a checkpoint into the network, if they are those of such a network."""
    if not path.is_file():
        raise CheckpointError(
            f"{path}: expected a checkpoint of CAV-MAE, got no such file. Download a fine-tuned one from the table "
            "'Pretrained+Finetuned Models' of YuanGongND/cav-mae."
        )
    expected = {their_name(name): tensor for name, tensor in net.state_dict().items()}
    found = torch_file.named_tensors(path)
    torch_file.check_names(
        found, expected, path, f"a CAV-MAE that was fine-tuned on {classes} classes",
        "a fine-tuned checkpoint of that many classes; one of pretraining has a decoder_embed and no mlp_head, and "
        "classifies nothing",
    )  # fmt: skip
    net.load_state_dict({name: found[their_name(name)].float() for name in net.state_dict()}, assign=True)


def their_name(name: str) -> str:
    """What a checkpoint calls a tensor of this network.

    >>> their_name("audio.blocks.0.norm1_a.weight"), their_name("fusion.norm_v.bias"), their_name("fusion.norm.bias")
    ('blocks_a.0.norm1_a.weight', 'norm_v.bias', 'norm.bias')
    """
    [(ours, theirs)] = [pair for pair in THEIRS.items() if name.startswith(pair[0])]
    return theirs + name.removeprefix(ours)


def cav_mae_inputs(rate: int, frames: int = CavMaeSize.frames) -> AV[nn.Module]:
    """The front ends of CAV-MAE: 128 mel bands at 16 kHz, normalised by -5.081 and 4.4849; frames of 224 x 224 pixels.

    As its `dataloader.py` and its recipes for AudioSet and VGGSound have them.  Largest difference from torchaudio's
    `compliance.kaldi.fbank`, which it calls, on 20 real clips of music and speech: 5.5e-4 of values from -2.4 to 2.7 (its own
    rounding: it computes in float32; 1.0e-4 where it gets float64).  Longer clips are cut at 10.26 s; after shorter ones the
    spectrogram is 0 before it is normalised.  Frames are resized by the bilinear filter and cropped, as its
    `extract_video_frame.py` does.  It then stores them as JPEG; here they are not compressed, and not rounded to 8 bits
    (1 grey level, see `resize`).

    >>> cav_mae_inputs(rate=16_000).map(lambda front_end, s: front_end(s).shape, AV(torch.zeros(1, 800), torch.zeros(1, 2, 3, 90, 160)))
    AV(audio=torch.Size([1, 1024, 128]), visual=torch.Size([1, 2, 3, 224, 224]))
    """
    mel = MelSettings(
        rate=16_000, frame=400, hop=160, fft=512, kaldi=True, mel=MelFilters(BANDS, 20, 8_000, "kaldi"), frames=frames,
        floor=1.192092955078125e-07, log=math.e, mean=-5.081, std=4.4849,
    )  # fmt: skip
    pixels = FrameSettings(
        resize=SIDE, filter="bilinear", crop=(SIDE, SIDE), crop_to_even=True, mean=IMAGENET_MEAN, std=IMAGENET_STD
    )
    return AV(audio=AudioFrontEnd(mel, rate), visual=VisualFrontEnd(pixels))


class Patches(nn.Module):
    """The encoder of a modality: a front end, patches of what it gives, blocks of a transformer.

    Patches of a spectrogram are (b p d), those of frames (b t p d); bands and lines come one after the other.
    """

    def __init__(self, front_end: nn.Module, colours: int, places: int, size: CavMaeSize) -> None:
        super().__init__()
        self.front_end = front_end
        self.rate = getattr(front_end, "rate", None)
        self.patches = nn.Conv2d(colours, size.width, PATCH, PATCH)
        self.modality = nn.Parameter(nn.init.normal_(torch.empty(1, 1, size.width), std=0.02))
        self.places = nn.Parameter(nn.init.normal_(torch.empty(1, places, size.width), std=0.02))
        self.blocks = nn.ModuleList(Block(size.width, size.heads) for _ in range(size.separate))

    def forward(self, signal: Float[Tensor, "b ..."]) -> Float[Tensor, "b *t p d"]:
        """The patches behind the blocks."""
        pictures: Tensor = self.front_end(signal)
        several = pictures.ndim == 5  # frames (b t 3 h w), a spectrogram (b t m) otherwise
        z = self.patches(pictures.flatten(0, 1) if several else pictures.mT[:, None]).flatten(2).mT
        z = z + self.places + self.modality
        for block in self.blocks:
            z = block(z)
        out: Tensor = z.view(*pictures.shape[:2], *z.shape[1:]) if several else z
        return out


class Joint(Fusion):
    """Blocks over the patches of both modalities together, once per frame, and the mean over all patches: (b td), frame by frame."""

    def __init__(self, size: CavMaeSize, modality: Modality) -> None:
        super().__init__(AV(size.width, size.width))
        self.width = size.width
        self.modality = modality
        self.blocks = nn.ModuleList(Block(size.width, size.heads) for _ in range(size.joint))
        for kind in NORMS.values():
            self.add_module(f"norm{kind}", nn.LayerNorm(size.width))
        self.last = nn.LayerNorm(size.width)

    def forward(self, f: AV[Tensor]) -> Float[Tensor, "b td"]:
        """What is to be classified of each frame, side by side; without frames, once."""
        times = f.visual.shape[1] if self.modality != "A" else 1
        heard = [f.audio[:, None].expand(-1, times, -1, -1)] if self.modality != "V" else []
        seen = [f.visual] if self.modality != "A" else []
        z = torch.cat(heard + seen, 2).flatten(0, 1)
        kind = NORMS[self.modality]
        for block in self.blocks:
            z = block(z, kind)
        z = self.last(self.get_submodule(f"norm{kind}")(z).mean(1))
        joint: Tensor = z.view(len(f.audio), times * self.width)
        return joint


class OverFrames(nn.Linear):
    """Logits of the mean over frames of the probabilities, of one class per clip or of each label."""

    def __init__(self, width: int, classes: int, multi_label: bool) -> None:
        super().__init__(width, classes)
        self.multi_label = multi_label

    def forward(self, z: Float[Tensor, "b td"]) -> Float[Tensor, "b k"]:
        """The logits; of a single frame, its own."""
        return over_frames(super().forward(z.view(len(z), -1, self.in_features)), self.multi_label)


class Block(nn.Module):
    """Self-attention and two layers, each behind a normalisation; of these there is one for both modalities and one for each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        for kind in NORMS.values():
            self.add_module(f"norm1{kind}", nn.LayerNorm(width))
            self.add_module(f"norm2{kind}", nn.LayerNorm(width))
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(
            OrderedDict(fc1=nn.Linear(width, 4 * width), act=nn.GELU(), fc2=nn.Linear(4 * width, width))
        )

    def forward(self, z: Float[Tensor, "b p d"], kind: str = "") -> Float[Tensor, "b p d"]:
        """The tokens behind the block."""
        z = z + self.attn(self.get_submodule(f"norm1{kind}")(z))
        out: Tensor = z + self.mlp(self.get_submodule(f"norm2{kind}")(z))
        return out


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, z: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
        """Each token, from all of them."""
        q, k, v = self.qkv(z).unflatten(2, (3, self.heads, z.shape[2] // self.heads)).permute(2, 0, 3, 1, 4)
        out: Tensor = self.proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


def over_frames(logits: Float[Tensor, "b t k"], multi_label: bool) -> Float[Tensor, "b k"]:
    """Logits of the mean over frames of the probabilities; of a single frame, its own.

    >>> over_frames(torch.tensor([[[0.0, 0.0], [3.0, 0.0]]]), multi_label=False).softmax(1)
    tensor([[0.7263, 0.2737]])
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    if multi_label:
        yes, no = (nn.functional.logsigmoid(z).logsumexp(1) for z in (logits, -logits))
        return yes - no
    return logits.log_softmax(2).logsumexp(1) - math.log(logits.shape[1])
