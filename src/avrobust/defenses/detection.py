"""Detectors: which modality of a clip is attacked, by what its features look like.

A detector is a module from features `AV[(b d)]` to `AV[(b)]`, what it suspects of each modality.  Above 0 it takes the
modality for attacked; on clean clips that it was not fitted on, a share `alarms` of them is above 0.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from avrobust.attacks.base import check_settings, raising
from avrobust.budget_check import check
from avrobust.defenses.embedded import Embedded, embedded
from avrobust.models.network import Measure, Network, weights_drawn_by
from avrobust.objectives import Undetected, cross_entropy, display_name
from avrobust.seeds import Seeds, stable_hash
from avrobust.threat import Threat
from avrobust.types import AV, NAMES, Attack, Batch

ALARMS = 0.05  # of clean clips, per modality
HELD_OUT = 4  # every fourth clip calibrates, the others fit
Features = AV[Tensor]


class Detection(ABC):
    """Settings of a detector.  As a feature defense of its own, it changes no features; `Gate` acts by what it finds."""

    @abstractmethod
    def fit(self, net: Network, clips: Sequence[Batch], known: Embedded, seed: int) -> nn.Module:
        """The detector of a network in evaluation mode and without a feature defense, by its training clips.

        `known` is `embedded(net, clips)`.
        """

    @torch.inference_mode(False)
    def fill(self, net: Network, clips: Iterable[Batch], seed: int) -> "Watch":
        """The detector as a feature defense that only says what it suspects."""
        clips = list(clips)
        return Watch(self.fit(net, clips, embedded(net, clips), seed)).eval()


class Detector(nn.Module):
    """Raw scores of each modality, standardised: 0 where a share `alarms` of clean clips scores more, in their spread."""

    threshold: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.zeros(2))
        self.register_buffer("spread", torch.ones(2))

    def scores(self, f: Features) -> AV[Float[Tensor, " b"]]:
        """Larger for stranger features."""
        raise NotImplementedError

    def forward(self, f: Features) -> AV[Float[Tensor, " b"]]:
        """What is suspected of each modality."""
        places: AV[int] = AV(audio=0, visual=1)
        return self.scores(f).map(lambda s, at: (s - self.threshold[at]) / self.spread[at], places)

    @torch.no_grad()
    def calibrate(self, f: Features, alarms: float) -> None:
        """Set 0 by clean clips."""
        for at, s in enumerate(self.scores(f)):
            self.threshold[at] = s.quantile(1 - alarms)
            self.spread[at] = s.std().clamp_min(1e-6)


class Watch(nn.Module):
    """A feature defense that changes no features, but says which modality `detector` takes for attacked."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    @property
    def measures(self) -> AV[Measure] | None:
        """What the detector needs to know of the signals themselves, if anything."""
        found = (getattr(m, "measures", None) for m in self.detector.modules())
        return next((measures for measures in found if measures is not None), None)

    def plain(self, f: Features) -> Features:
        """(b d) as the encoders give them, without what is measured beside them."""
        return f if self.measures is None else f.map(lambda s: s[:, :-1])

    def suspicion(self, f: Features) -> AV[Float[Tensor, " b"]]:
        """(b) each, of features as the encoders give them; above 0 the modality is taken for attacked."""
        found: AV[Tensor] = self.detector(f.map(Tensor.float))
        return found

    def forward(self, f: Features) -> Features:
        """The features themselves."""
        return self.plain(f)


@dataclass(frozen=True)
class Distance(Detection):
    """How far features lie from those of training clips: Mahalanobis, from the nearest class (Lee et al., NeurIPS 2018).

    One covariance for all classes, shrunk by `shrink` towards a multiple of the identity.  Needs no attacked clips.
    """

    shrink: float = 0.1
    alarms: float = ALARMS

    def fit(self, net: Network, clips: Sequence[Batch], known: Embedded, seed: int) -> "Distances":
        """Means and covariances of three quarters of the clips; calibrated on the others."""
        f, y, held = known.features, known.labels, held_out(known)
        fitted, rest = f.map(lambda s: s[~held]), f.map(lambda s: s[held])
        seen = torch.unique(y[~held])
        detector = Distances(len(seen), *(s.shape[1] for s in f))
        for name, s in fitted.items():
            means = torch.stack([s[y[~held] == k].mean(0) for k in seen])
            within = s - means[torch.searchsorted(seen, y[~held])]
            cov = within.T @ within / max(len(within) - 1, 1)
            scale = cov.diagonal().mean().clamp_min(1e-12)
            cov = (1 - self.shrink) * cov + self.shrink * scale * torch.eye(
                len(cov), dtype=cov.dtype, device=cov.device
            )
            white = torch.linalg.inv(torch.linalg.cholesky(cov.double().cpu())).T.float().to(s.device)
            getattr(detector, f"white_{name}").copy_(white)
            getattr(detector, f"means_{name}").copy_(means @ white)
        detector.to(y.device).calibrate(rest, self.alarms)
        return detector


class Distances(Detector):
    """The detector of `Distance`: class means and a whitening matrix per modality."""

    def __init__(self, classes: int, audio: int, visual: int) -> None:
        super().__init__()
        self.classes, self.audio, self.visual = classes, audio, visual
        for name, width in (("audio", audio), ("visual", visual)):
            self.register_buffer(f"white_{name}", torch.eye(width))
            self.register_buffer(f"means_{name}", torch.zeros(classes, width))

    def scores(self, f: Features) -> AV[Tensor]:
        """The squared distance to the nearest class, per feature."""

        def far(s: Tensor, name: str) -> Tensor:
            white, means = getattr(self, f"white_{name}"), getattr(self, f"means_{name}")
            gaps = (s @ white)[:, None] - means
            nearest: Tensor = gaps.square().mean(2).amin(1)
            return nearest

        return f.map(far, NAMES)


@dataclass(frozen=True)
class Learned(Detection):
    """A small network that learns which modality is attacked, from clips that `attack` attacks within each of `threats`.

    Beside them it sees clean clips, and clips whose video is from a clip of another class, both of which count as not
    attacked but for `mismatch`: then both modalities of such a pair count as suspicious (the odd-one-out network of Yang et
    al., CVPR 2021, for two modalities, which cannot say which one is odd).  Without threats it learns from these pairs alone,
    and never sees an attack.  In each of `rounds` after the first, clips are attacked through the detector of the round
    before: the attacker then also hides from it.
    """

    attack: Attack | None = None
    threats: tuple[Threat, ...] = ()
    mismatch: bool = True
    rounds: int = 1
    width: int = 128
    steps: int = 400
    alarms: float = ALARMS

    def __post_init__(self) -> None:
        if bool(self.threats) != (self.attack is not None) or not (self.threats or self.mismatch):
            raise ValueError(
                f"expected an attack with threats, or mismatch=True, got attack={self.attack}, threats={self.threats}, "
                f"mismatch={self.mismatch}. A detector learns from clips that are not clean."
            )
        check_settings(rounds=(self.rounds, 1), width=(self.width, 1), steps=(self.steps, 1))
        if self.rounds > 1 and (self.attack is None or getattr(self.attack, "objective", None) is not None):
            raise ValueError(
                f"expected an attack without an objective of its own for rounds={self.rounds}, got {self.attack}. It could not "
                "hide from the detector: leave its objective out, or give rounds=1."
            )

    def fit(self, net: Network, clips: Sequence[Batch], known: Embedded, seed: int) -> "Classified":
        """Trained on three quarters of the clips; calibrated on the others."""
        f, y, held = known.features, known.labels, held_out(known)
        with weights_drawn_by(stable_hash(seed, "detector")):
            detector = Classified(f.audio.shape[1], f.visual.shape[1], self.width).to(y.device)
        detector.normalise(f.map(lambda s: s[~held]))
        strange: list[tuple[Features, Tensor]] = []
        for number in range(self.rounds):
            if number:
                detector.calibrate(f.map(lambda s: s[held]), self.alarms)
            for threat in self.threats:
                assert self.attack is not None
                attacked = _attacked(net, clips, self.attack, threat, detector if number else None, seed)
                which = torch.tensor([float(b.active) for b in threat.map(lambda b: b)], device=y.device)
                strange.append((attacked, which))
            self._train(detector, f, y, held, strange, stable_hash(seed, "detector", number))
        detector.calibrate(f.map(lambda s: s[held]), self.alarms)
        return detector.eval()

    @torch.enable_grad()
    def _train(
        self, detector: "Classified", f: Features, y: Tensor, held: Tensor, strange: Sequence[tuple[Features, Tensor]], seed: int
    ) -> None:  # fmt: skip
        own = (~held).nonzero()[:, 0].cpu()
        draw = torch.Generator().manual_seed(seed % 2**63)
        optimizer = torch.optim.AdamW(detector.head.parameters(), lr=2e-3, weight_decay=1e-3)
        none = torch.zeros(2, device=y.device)
        for _ in range(self.steps):
            on = own[torch.randint(len(own), (64,), generator=draw)]
            groups = [(f.map(lambda s, on=on: s[on]), none), *((g.map(lambda s, on=on: s[on]), w) for g, w in strange)]
            if self.mismatch:
                other = on[torch.randperm(len(on), generator=draw)]
                odd = y[on] != y[other]
                groups.append((AV(f.audio[on][odd], f.visual[other][odd]), none + 1))
            loss = torch.stack(
                [
                    F.binary_cross_entropy_with_logits(torch.stack([*detector.scores(g)], 1), w.expand(len(g.audio), 2))
                    for g, w in groups
                    if len(g.audio)
                ]
            ).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


class Classified(Detector):
    """The detector of `Learned`: two layers on the normalised features of both modalities."""

    mean: Tensor
    scale: Tensor

    def __init__(self, audio: int, visual: int, width: int) -> None:
        super().__init__()
        self.audio, self.visual, self.width = audio, visual, width
        self.register_buffer("mean", torch.zeros(audio + visual))
        self.register_buffer("scale", torch.ones(audio + visual))
        self.head = nn.Sequential(
            nn.Linear(audio + visual, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
        )

    @torch.no_grad()
    def normalise(self, f: Features) -> None:
        """By the mean and the spread of these features."""
        both = torch.cat([*f], 1)
        self.mean.copy_(both.mean(0))
        self.scale.copy_(both.std(0).clamp_min(1e-6))

    def scores(self, f: Features) -> AV[Tensor]:
        """The log odds that each modality is attacked."""
        raw = self.head((torch.cat([*f], 1) - self.mean) / self.scale)
        return AV(audio=raw[:, 0], visual=raw[:, 1])


def held_out(known: Embedded) -> Bool[Tensor, " n"]:
    """Which clips calibrate, by their names; the others fit."""
    if len(known) < 2 * HELD_OUT:
        raise ValueError(
            f"expected at least {2 * HELD_OUT} clips to fit a detector, got {len(known)}. Check the split."
        )
    order = sorted(range(len(known)), key=lambda i: stable_hash("held out", known.ids[i]))
    held = torch.zeros(len(known), dtype=torch.bool)
    held[order[::HELD_OUT]] = True
    return held.to(known.labels.device)


def _attacked(
    net: Network, clips: Iterable[Batch], attack: Attack, threat: Threat, detector: nn.Module | None, seed: int
) -> Features:
    """The features of all clips, attacked within a threat; with a detector, by an attacker that hides from it."""
    if detector is not None:
        net = copy.deepcopy(net)
        net.feature_defense = Watch(detector)
        attack = raising(attack, Undetected(cross_entropy))
    found = []
    for batch in clips:
        x = attack(net, batch.x.map(torch.clone), batch.label, threat, Seeds(seed, batch.ids))
        check(threat, batch.x, x, batch.ids, display_name(attack))
        with torch.no_grad():
            found.append(net.embed(x).map(Tensor.float))
    return AV(torch.cat([s.audio for s in found]), torch.cat([s.visual for s in found]))
