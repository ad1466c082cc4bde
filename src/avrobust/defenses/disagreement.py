"""Disagreement of unimodal heads: how far each modality by itself contradicts the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avrobust.defenses.detection import ALARMS, Detection, Detector, Features, held_out
from avrobust.defenses.embedded import Embedded
from avrobust.models.network import Network, weights_drawn_by
from avrobust.types import AV, NAMES, Batch


@dataclass(frozen=True)
class Disagreement(Detection):
    """Two linear heads, one on the features of each modality, that contradict each other.

    What is suspected of a modality is its cross entropy against the other's answer, -sum_k p_other(k) log p_own(k): how
    little it thinks of what the other says.  Two witnesses who disagree show that one of them is wrong, and not which.
    What is left to tell them apart is that an attack, which pushes its modality away from the true class, makes it deny
    that class more than the other denies the wrong one; so the untouched modality is suspected too, only less.  An attack
    that makes both heads wrong alike is not seen, and clean clips whose modalities disagree are.

    The heads are logistic regressions on standardised features, with weight `decay` on the squares of their weights.
    Needs no attacked clips.
    """

    decay: float = 0.01
    alarms: float = ALARMS

    def __post_init__(self) -> None:
        if not self.decay > 0:
            raise ValueError(f"expected a decay above 0, got {self.decay}. Without it, heads are sure of everything.")

    def fit(self, net: Network, clips: Sequence[Batch], known: Embedded, seed: int) -> "Heads":
        """Fitted on three quarters of the clips; calibrated on the others."""
        f, y, held = known.features, known.labels, held_out(known)
        with weights_drawn_by(seed):  # which the regression replaces; the global random state stays as it is
            detector = Heads(f.audio.shape[1], f.visual.shape[1], int(y.max()) + 1).to(y.device)
        for name, s in f.map(lambda s: s[~held]).items():
            self._regress(detector.heads[name], s, y[~held])
        detector.calibrate(f.map(lambda s: s[held]), self.alarms)
        return detector.eval()

    def _regress(self, head: nn.Module, s: Tensor, y: Tensor) -> None:
        """The one minimum of a convex loss, so that nothing depends on a seed."""
        assert isinstance(head, nn.Linear)
        mean, scale = s.mean(0), s.std(0).clamp_min(1e-6)
        s = (s - mean) / scale
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        optimizer = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(head(s), y) + self.decay * head.weight.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        with torch.enable_grad():
            optimizer.step(loss)  # type: ignore[no-untyped-call]
        with torch.no_grad():  # the standardisation becomes part of the head
            head.weight.div_(scale)
            head.bias.sub_(head.weight @ mean)


class Heads(Detector):
    """The detector of `Disagreement`: a linear head per modality."""

    def __init__(self, audio: int, visual: int, classes: int) -> None:
        super().__init__()
        self.audio, self.visual, self.classes = audio, visual, classes
        self.heads = nn.ModuleDict({"audio": nn.Linear(audio, classes), "visual": nn.Linear(visual, classes)})

    def scores(self, f: Features) -> Features:
        """The cross entropy of each head against the other's answer, in nats."""
        says = f.map(lambda s, name: self.heads[name](s).log_softmax(1), NAMES)
        return says.map(lambda own, other: -(other.exp() * own).sum(1), AV(says.visual, says.audio))
