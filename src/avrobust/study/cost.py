"""The cost of a study before it starts: trainings, passes through networks, disk, and time on this machine."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avrobust.attacks import Transfer
from avrobust.config import digest
from avrobust.data.entry import SPLITS
from avrobust.data.manifest import Manifest
from avrobust.data.orchestra import CLASSES, Orchestra
from avrobust.data.shards import clip_bytes
from avrobust.models.network import Modality, Network, Spec
from avrobust.models.zoo import NetSpec
from avrobust.progress import duration
from avrobust.study.plan import Study
from avrobust.types import AV, Signals

MODALITIES: tuple[Modality, ...] = ("A", "V", "AV")
FORWARD = 1 / 3  # of a pass forth and back
TIMED = {"cpu": 4, "cuda": 32}  # in the batch that is timed


@dataclass(frozen=True)
class Cost:
    """`passes` count clips that go through a network forth and back, by what is computed of it: "A", "V" or both.

    They are those of training and of searches, to first order: without the iterations of feature memories, and with
    one pass for whatever a search does in a step.  `prepared` and `weights` are bytes.
    """

    networks: int
    trainings: int
    passes: Mapping[str, float]
    prepared: int
    weights: int

    def seconds(self, per_pass: Mapping[str, float]) -> float:
        """The duration of all passes, from that of one pass of each kind."""
        return sum(n * per_pass[part] for part, n in self.passes.items())

    def __str__(self) -> str:
        """Two sentences for the user."""
        passes = sum(self.passes.values())
        number = f"{passes / 1e6:.2g} million" if passes >= 1e6 else f"{passes:,.0f}"
        return (
            f"{self.networks} network{'s' if self.networks > 1 else ''}, {self.trainings} trainings in all, {number} passes "
            f"of a clip, forwards and backwards. On disk {size(self.prepared)} of prepared clips and {size(self.weights)} of weights."
        )


def cost(study: Study, clips: Mapping[str, int]) -> Cost:
    """What a study costs on so many clips of "train", "val" and "test".

    >>> from avrobust.study.selftest import study
    >>> found = cost(study, {"train": 1100, "val": 330, "test": 660})
    >>> found.networks, found.trainings, round(found.prepared / 1e6)
    (9, 3, 389)
    """
    attacked = min(study.attacked or clips["test"], clips["test"])
    passes: dict[str, float] = dict.fromkeys(MODALITIES, 0.0)
    weights = trainings = 0
    crafted: set[str] = set()  # by transfer attacks: once for all victims
    sizes = {
        key: _numbers(spec, study.clip.rate) for key, spec in {digest(c.spec): c.spec for c in study.models}.items()
    }
    for c in study.models:
        kept = sizes[digest(c.spec)]
        weights += 4 * kept * (1 if c.feature_defense is None else 2)  # what it starts from is kept beside
        if c.epochs != 0:
            trainings += 1
            crafting = getattr(getattr(c.loss, "attack", None), "steps", 0)
            passes[c.spec.modality] += study.recipe(c).epochs * (
                clips["train"] * (1 + crafting) + clips["val"] * (FORWARD + crafting)
            )
        for cell in study.cells(c.name, study.seeds[0]):
            if isinstance(cell.attack, Transfer):
                if (key := digest(cell.attack, cell.threat)) in crafted:
                    continue
                crafted.add(key)
            if cell.steps:
                passes[cell.threat.subset] += cell.steps * attacked
    seeds = len(study.seeds)
    return Cost(
        networks=len(study.models),
        trainings=trainings * seeds,
        passes={part: n * seeds for part, n in passes.items()},
        prepared=clip_bytes(study.clip) * sum(clips.values()),
        weights=weights * seeds,
    )


def counted(manifest: Manifest) -> dict[str, int]:
    """How many clips a manifest lists in each split."""
    found = Counter(e.split for e in manifest.entries)
    return {split: found[split] for split in SPLITS}


def announced(study: Study) -> dict[str, int] | None:
    """How many clips a study is written for: the orchestra's, or those of its lists.  None: nobody knows yet."""
    if isinstance(study.data, Orchestra):
        each = (study.data.train, study.data.val, study.data.test)
        return {split: n * len(CLASSES) for split, n in zip(SPLITS, each, strict=True)}
    if study.data.path is None and study.listed is not None:
        return dict(zip(SPLITS, study.listed, strict=True))
    return None


def seconds_per_pass(study: Study, device: torch.device) -> dict[str, float]:
    """How long one clip takes forth and back on this machine, by what is computed: "A", "V", "AV"."""
    n, view, first = TIMED[device.type], study.view, study.models[0].spec

    def made(spec: Spec) -> Network:
        return spec.for_clips(11, study.clip.rate).build(seed=0).to(device).train()

    def timed(run: Callable[[Signals], Tensor]) -> float:
        x = AV(audio=torch.rand(n, view.samples), visual=torch.rand(n, view.frames, 3, view.size, view.size))
        for _ in range(2):  # the first one chooses algorithms
            began = time.perf_counter()
            torch.autograd.backward(run(x.map(lambda s: s.to(device).requires_grad_())).sum())
            if device.type == "cuda":
                torch.cuda.synchronize()
        return (time.perf_counter() - began) / n

    if isinstance(first, NetSpec):
        return {m: timed(made(NetSpec(modality=m, width=first.width))) for m in MODALITIES}
    net = made(first)
    passes: dict[str, Callable[[Signals], Tensor]] = dict.fromkeys(MODALITIES, net)
    if net.encoders is not None:  # one stream alone, as an attack on it runs it
        ear, eye = net.encoders
        passes |= {"A": lambda x: ear(x.audio), "V": lambda x: eye(x.visual)}
    return {m: timed(run) for m, run in passes.items()}


def estimate(study: Study, clips: Mapping[str, int]) -> str:
    """The cost in words, with the time that it takes here at least; measured in seconds."""
    found = cost(study, clips)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    least = duration(found.seconds(seconds_per_pass(study, device)))
    return f"{study.name}: {found} {least} on this machine at least; feature memories and reports come on top."


def _numbers(spec: Spec, rate: int) -> int:
    """The size of a network's state."""
    asked = spec.for_clips(11, rate)
    if isinstance(asked, NetSpec):
        with torch.device("meta"):  # shapes without numbers: of a ResNet-18, whatever it starts from
            return _count(replace(asked, visual_weights=None).build(seed=0))
    return _count(asked.build(seed=0))


def _count(net: Network) -> int:
    return sum(t.numel() for t in net.state_dict().values())


def size(count: float) -> str:
    """Bytes as people say them.

    >>> size(61.3e9), size(2_500_000)
    ('61.3 GB', '2.5 MB')
    """
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
