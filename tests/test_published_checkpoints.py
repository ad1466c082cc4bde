"""The published code's checkpoints: its networks, written here once more, give the same logits as ours with their weights."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from avrobust.cli import main
from avrobust.media import write_mp4
from avrobust.papers.tian2021.defenses import MEMORIES, PublishedISTA
from avrobust.papers.tian2021.weights import CLASSES, load_any, load_published
from avrobust.training import CheckpointError, load, save
from avrobust.types import AV

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class Sound(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        row, channels = [], [1, 64, 64, 128, 128, 256, 256, 512, 512]
        for i in range(8):
            row += [nn.Conv1d(channels[i], channels[i + 1], kernel_size=3, stride=2, padding=1)]
            row += [nn.BatchNorm1d(channels[i + 1]), nn.ReLU()]
            row += [nn.MaxPool1d(2, 2)] if i % 2 else []
        self.features = nn.Sequential(*row)

    def forward(self, wave: Tensor) -> Tensor:
        return self.features(wave[:, None]).amax(2)


class Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.downsample = None
        if before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        z = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (z + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet18(nn.Module):
    """torchvision's, by the names and the order of its children."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        for i, (before, after) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)], 1):
            blocks = nn.Sequential(Block(before, after, 1 if i == 1 else 2), Block(after, after, 1))
            setattr(self, f"layer{i}", blocks)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(512, 1000)


class Frame(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*list(ResNet18().children())[:-1])

    def forward(self, frame: Tensor) -> Tensor:
        return self.features(frame).amax((2, 3))


class Classifier(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(1024, classes)

    def forward(self, picture: Tensor, sound: Tensor) -> Tensor:
        return self.fc1(torch.cat((picture, sound), dim=-1))


class Theirs(nn.Module):
    """The whole network, with random statistics in every normalisation; a feature defense works on columns, as theirs does."""

    def __init__(self, classes: int = 11) -> None:
        super().__init__()
        self.sound, self.frame, self.classifier = Sound(), Frame(), Classifier(classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.3, 0.3)
                nn.init.uniform_(module.running_var, 0.3, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.2, 0.4)
                module.num_batches_tracked += 7
            elif isinstance(module, nn.Conv1d | nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.uniform_(module.bias, -0.5, 0.5)
        nn.init.normal_(self.classifier.fc1.weight, std=0.1)
        self.eval()

    @torch.no_grad()
    def forward(self, x: AV[Tensor], feature_defense: Callable[..., Tensor] | None = None, **banks: Tensor) -> Tensor:
        picture, sound = self.frame((x.visual[:, 0] - MEAN) / STD), self.sound(x.audio)
        if feature_defense is not None:
            picture, sound = feature_defense(banks["dv"], picture.T).T, feature_defense(banks["da"], sound.T).T
        return self.classifier(picture, sound)

    def save(self, folder: Path, name: str = "best", **options: bool) -> Path:
        folder.mkdir(exist_ok=True)
        for part in ("sound", "frame", "classifier"):
            torch.save(getattr(self, part).state_dict(), folder / f"{part}_{name}.pth", **options)
        return folder


def signals(b: int = 3) -> AV[Tensor]:
    g = torch.Generator().manual_seed(1)
    wave, frames = torch.rand(b, 4096, generator=g) * 2 - 1, torch.rand(b, 1, 3, 64, 64, generator=g)
    loud = torch.linspace(0.1, 1, b)
    return AV(audio=wave * loud[:, None], visual=frames * loud.flip(0).view(-1, 1, 1, 1, 1))


def ista(bank: Tensor, x: Tensor, step: float) -> Tensor:
    """Theirs, on columns: one end for the whole batch, and half of each feature stays."""
    h = torch.zeros(bank.shape[1], x.shape[1])
    for _ in range(2001):
        before, h = h, h - step * bank.T @ (bank @ h - x)
        h = h.sign() * (h.abs() - step * 0.1).clamp(min=0)
        if (h - before).norm() < 0.0008:
            break
    return 0.5 * (bank @ h) + 0.5 * x


@pytest.fixture(scope="module")
def theirs() -> Theirs:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Theirs()


@pytest.fixture(scope="module")
def folder(theirs: Theirs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return theirs.save(tmp_path_factory.mktemp("published") / "best")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A folder of the same files, to put others beside them or in their place."""
    (tmp_path / "copy").mkdir()
    for file in folder.iterdir():
        (tmp_path / "copy" / file.name).symlink_to(file)
    return tmp_path / "copy"


def put(folder: Path, name: str, what: object, **options: bool) -> None:
    (folder / name).unlink(missing_ok=True)
    torch.save(what, folder / name, **options)


def same(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.std(0).min() > 0.1  # the logits tell the clips apart
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def test_gives_the_published_network_s_logits(theirs: Theirs, folder: Path, tmp_path: Path) -> None:
    net = load_published(folder)
    assert not net.training
    assert net.classifier.out_features == 11
    x = signals()
    with torch.no_grad():
        same(net(x), theirs(x))
        f = net.embed(x)
    torch.testing.assert_close(f.audio, theirs.sound(x.audio).detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(f.visual, theirs.frame((x.visual[:, 0] - MEAN) / STD).detach(), rtol=1e-4, atol=1e-4)

    save(net, tmp_path / "net.safetensors", {})  # from here on it is one of ours
    again, _ = load(tmp_path / "net.safetensors")
    with torch.no_grad():
        assert torch.equal(again(x), net(x))


def test_reads_the_format_of_torch_1_2_and_other_names_and_numbers_of_classes(tmp_path: Path) -> None:
    theirs = Theirs(classes=5)
    theirs.save(tmp_path, "latest", _use_new_zipfile_serialization=False)
    x = signals()
    with torch.no_grad():
        same(load_published(tmp_path, name="latest")(x), theirs(x))


def test_reads_weights_of_a_gpu_and_of_dataparallel(theirs: Theirs, copy: Path) -> None:
    file = copy / "classifier_best.pth"
    wrapped = {f"module.{name}": tensor for name, tensor in theirs.classifier.state_dict().items()}
    put(copy, file.name, wrapped, _use_new_zipfile_serialization=False)
    data = file.read_bytes()  # as a GPU would have written it: the names of the class and of the place
    assert b"ctorch\nFloatStorage\n" in data
    data = data.replace(b"ctorch\nFloatStorage\n", b"ctorch.cuda\nFloatStorage\n")
    file.write_bytes(data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    x = signals()
    with torch.no_grad():
        same(load_published(copy)(x), theirs(x))


@pytest.mark.parametrize("elsewhere", [False, True], ids=["beside", "elsewhere"])
def test_a_memory_of_the_published_dictionaries(theirs: Theirs, copy: Path, tmp_path: Path, elsewhere: bool) -> None:
    x = signals()
    g = torch.Generator().manual_seed(2)
    features = {"Dv": theirs.frame((x.visual[:, 0] - MEAN) / STD).detach(), "Da": theirs.sound(x.audio).detach()}
    where = tmp_path / "first stage" if elsewhere else copy
    where.mkdir(exist_ok=True)
    for name, f in features.items():  # one row per clip, then turned round: as they save them, not contiguous
        torch.save((f.mean() * torch.rand(30, 512, generator=g)).permute(1, 0), where / f"{name}_best.pth")
    dv, da = (torch.load(where / f"{name}_best.pth", weights_only=True)[:, :24] for name in ("Dv", "Da"))
    step = 0.9 / max(float(torch.linalg.matrix_norm(bank, 2)) ** 2 for bank in (dv, da))

    settings = replace(MEMORIES["music"], columns=24, solver=PublishedISTA(AV(step, step)))
    net = load_published(copy, memory=settings, banks=where if elsewhere else None)
    expected = theirs(x, lambda bank, f: ista(bank, f, step), dv=dv, da=da)
    with torch.no_grad():
        same(net(x), expected)
        assert (expected - theirs(x)).abs().max() > 0.05  # the memory does something
    save(net, tmp_path / "net.safetensors", {})
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "net.safetensors")[0](x), net(x))


def test_the_published_memories_say_what_the_code_says() -> None:
    assert all(
        (m.columns, m.weight, m.solver.iterations, m.solver.tolerance) == (1024, 0.1, 2001, 8e-4)
        for m in MEMORIES.values()
    )
    assert MEMORIES["kinetics_sounds"].blend == 0.6
    assert MEMORIES["music"].solver.step == AV(audio=1e-6, visual=6e-6)
    assert {name: len(classes) for name, classes in CLASSES.items()} == {"music": 11, "kinetics_sounds": 27, "ave": 28}
    assert all(len(set(classes)) == len(classes) for classes in CLASSES.values())


def drop(folder: Path, name: str) -> None:
    (folder / name).unlink()


def cut(folder: Path, name: str, to: int, **options: bool) -> None:
    put(folder, name, Classifier(11).state_dict(), **options)
    (folder / name).write_bytes((folder / name).read_bytes()[:to])


def changed(part: nn.Module, name: str, tensor: object) -> dict[str, object]:
    return {**part.state_dict(), name: tensor}


class Bomb:
    """An object that runs something when it is opened."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return Path.touch, (Path("bomb-went-off"),)  # type: ignore[return-value]


def tarred(folder: Path) -> None:
    file = folder / "sound_best.pth"
    file.unlink()
    with tarfile.open(file, "w") as tar:
        tar.addfile(tarfile.TarInfo("storages"), io.BytesIO())


FC = "classifier_best.pth"
ERRORS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda f: drop(f, "frame_best.pth"), r"frame_best.pth: expected .* no frame_\*.pth.*name='latest'"),
    "another name": (
        lambda f: (f / "sound_best.pth").rename(f / "sound_latest.pth"),
        "sound_best.pth: .* the folder has sound_latest.pth.",
    ),
    "shape": (
        lambda f: put(f, FC, changed(Classifier(11), "fc1.weight", torch.zeros(11, 512))),
        rf"{FC}: .*'fc1.weight' is \(11, 512\) instead of \(11, 1024\)\. Give",
    ),
    "one class": (lambda f: put(f, FC, Classifier(1).state_dict()), r"\(1, 1024\) instead of \(2, 1024\)"),
    "sound's shape": (
        lambda f: put(f, "sound_best.pth", changed(Sound(), "features.0.weight", torch.zeros(64, 1, 1, 3))),
        r"sound_best.pth: .*'features.0.weight' is \(64, 1, 1, 3\) instead of \(64, 1, 3\)",
    ),
    "missing name": (
        lambda f: put(f, FC, {"fc1.weight": torch.zeros(11, 1024)}),
        r"'fc1.bias' is missing instead of \(11,\)",
    ),
    "other names": (
        lambda f: put(f, "frame_best.pth", ResNet18().state_dict()),
        r"frame_best.pth: .*'features.0.weight' is missing .* and \d+ more",
    ),
    "unexpected name": (
        lambda f: put(f, FC, changed(Classifier(11), "extra", torch.zeros(2))),
        r"'extra' is \(2,\) instead of absent",
    ),
    "number beside tensors": (
        lambda f: put(f, FC, changed(Classifier(11), "epoch", 3)),
        f"{FC}: .* got more: 'epoch' is a int. Save the state_dict",
    ),
    "nested": (lambda f: put(f, FC, {"state_dict": Classifier(11).state_dict()}), "'state_dict' is a OrderedDict"),
    "a tensor alone": (lambda f: put(f, FC, torch.zeros(3)), "expected tensors by name, got a Tensor"),
    "a module": (lambda f: put(f, FC, Classifier(11)), rf"{FC}: .* a pickle that would run \S*Classifier when"),
    "code": (lambda f: put(f, FC, Bomb()), "a pickle that would run .* Where you trust it, save its state_dict alone"),
    "code, torch 1.2": (
        lambda f: put(f, FC, Bomb(), _use_new_zipfile_serialization=False),
        "a pickle that would run .* Where you trust it",
    ),
    "a tar archive": (tarred, "sound_best.pth: .* got a tar archive"),
    "cut short": (lambda f: cut(f, FC, 3000), f"{FC}: .* cut short, damaged or of another kind .* Copy it again"),
    "cut short, torch 1.2": (
        lambda f: cut(f, FC, 3000, _use_new_zipfile_serialization=False),
        f"{FC}: .* cut short, damaged or of another kind",
    ),
    "empty": (lambda f: cut(f, FC, 0), f"{FC}: .* cut short, damaged"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_says_which_file_cannot_be_used_and_why(what: str, copy: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    spoil, message = ERRORS[what]
    spoil(copy)
    with pytest.raises(CheckpointError, match=message):
        load_published(copy)
    assert not Path("bomb-went-off").exists()


BANK = torch.zeros(512, 40)
BANKS = {
    "missing": ({"Dv": BANK}, r"Da_best.pth: .* got no such file; .* Give banks="),
    "turned round": (
        {"Dv": BANK.T, "Da": BANK},
        r"Dv_best.pth: expected a tensor of 512 rows.* got one of \(40, 512\)",
    ),
    "not a tensor": ({"Dv": BANK, "Da": {"D": BANK}}, "Da_best.pth: .* got a dict"),
    "not a pair": ({"Dv": BANK, "Da": BANK[:, :30]}, "Da_best.pth: expected as many columns as Dv_best.pth has, 40"),
}


@pytest.mark.parametrize("what", BANKS)
def test_says_which_dictionary_cannot_be_used_and_why(what: str, copy: Path) -> None:
    files, message = BANKS[what]
    for name, bank in files.items():
        put(copy, f"{name}_best.pth", bank)
    with pytest.raises(CheckpointError, match=message):
        load_published(copy, memory=MEMORIES["music"])
    with pytest.raises(ValueError, match="expected settings"):
        load_published(copy, banks=copy)


def test_the_verbs_take_such_a_folder(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    always = Classifier(11)  # says tuba, whatever it hears and sees
    tuba = CLASSES["music"].index("tuba")
    nn.init.zeros_(always.fc1.weight)
    always.fc1.bias.data = 9 * torch.eye(11)[tuba]
    put(copy, FC, always.state_dict())
    rng = np.random.default_rng(0)
    for name in ("flute", "tuba"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        wave = rng.uniform(-0.5, 0.5, 6 * 11025).astype(np.float32)
        frames = rng.uniform(size=(6, 64, 64, 3)).astype(np.float32)
        write_mp4(tmp_path / "clips" / name / "a.mp4", wave, frames, 11025, 1.0)

    words = f"evaluate {copy} --on train --audio 0.01 --attacks FGSM --batch 2".split()
    words += ["--data", str(tmp_path / "clips"), "--prepared", str(tmp_path / "p")]
    assert main(words) == 0
    assert "50.0 % of 2" in capsys.readouterr().out  # by the model's numbers: by the alphabet, both would be wrong

    words = f"attack {tmp_path}/clips/flute/a.mp4 --model {copy} --audio 0.01 --attack PGD-2 --out {tmp_path}/a".split()
    assert main(words) == 0
    about = json.loads((tmp_path / "a/predictions.json").read_text())
    assert about["label"] == "tuba"
    assert about["view"] == {"samples": 65535, "frames": 1, "size": 224}
    assert {ranking[0][0] for ranking in about["predictions"].values()} == {"tuba"}


def test_a_network_of_unknown_classes_and_a_folder_without_any(copy: Path, tmp_path: Path) -> None:
    put(copy, FC, Classifier(5).state_dict())
    with pytest.raises(CheckpointError, match=r"expected a network of 11 classes \(music\).* got one of 5"):
        load_any(copy)
    with pytest.raises(CheckpointError, match=r"got a folder\. Give the .safetensors file in it"):
        load_any(tmp_path)
