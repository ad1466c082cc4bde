"""Test-time adaptation: a copy of a network that adapts itself to the clips that it is asked about, without labels."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avrobust.models.network import Network
from avrobust.types import Signals

# A batch of clips, as they come -> their logits (b k); it may change itself on the way.
Adapter = Callable[[Signals], Tensor]
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm)


@runtime_checkable
class Adaptation(Protocol):
    """A way to adapt: `begin` gives an adapter that starts from the network as it was trained and leaves it as it is.

    Nothing but signals reaches an adapter, so it cannot see labels; see `evaluation.adapting.adapted`.
    """

    @property
    def name(self) -> str: ...

    def begin(self, net: Network) -> Adapter: ...


@dataclass(frozen=True)
class Tent:
    """Entropy minimisation on the scales and shifts of normalisation layers (Wang et al., ICLR 2021).

    BatchNorm layers use the statistics of the batch at hand.  `steps` steps of Adam of size `rate` on each batch; as in the
    authors' code, the answer to a batch is that of the last pass before its last step.

    >>> from avrobust.models import NetSpec
    >>> from avrobust.types import AV
    >>> net = NetSpec(classes=3, width=16).build(seed=0).eval()
    >>> adapter = Tent().begin(net)
    >>> adapter(AV(torch.randn(4, 4096).clamp(-1, 1), torch.rand(4, 1, 3, 32, 32))).shape
    torch.Size([4, 3])
    """

    rate: float = 1e-3
    steps: int = 1
    name: ClassVar[str] = "Tent"

    def begin(self, net: Network) -> Adapter:
        """An adapter that starts from `net`.  Raises `ValueError` for a network without such layers."""
        own = copy.deepcopy(net).eval()
        norms = [m for m in own.modules() if isinstance(m, NORMS)]
        for norm in norms:
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
        learned = _learned(own, norms, "normalisation layers with weights")
        return _Adapting(own, learned, lambda logits: _entropies(logits).mean(), self.rate, self.steps, again=False)


@dataclass(frozen=True)
class Read:
    """Confident, balanced predictions, by what decides from both modalities (READ: Yang et al., ICLR 2024).

    Adapts the fusion and what follows it, `Network`'s own where they have weights; the encoders stay as they are.  The loss
    is the mean of -p log p over clips, p the highest probability, minus the entropy of the mean prediction.  Differs from
    the authors' code, which is for one architecture, adapts the first joint attention block only, and takes the softmax of
    summed probabilities for the mean prediction.  The answer to a batch is that after its last step, as in their code.

    >>> Read(rate=1e-4).name
    'READ'
    """

    rate: float = 1e-4
    steps: int = 1
    name: ClassVar[str] = "READ"

    def begin(self, net: Network) -> Adapter:
        """An adapter that starts from `net`.  Raises `ValueError` where nothing but its encoders has weights."""
        own, learned = _deciding(net)
        return _Adapting(own, learned, _reliable, self.rate, self.steps, again=True)


@dataclass(frozen=True)
class Selective:
    """Entropy minimisation that leaves out unsure clips, on what decides from both modalities.

    In the manner of AV2C (AVRobustBench, NeurIPS 2025), which penalises clips of high entropy; how it weights them could not
    be verified.  The weights here are those of EATA (Niu et al., ICML 2022): exp(limit - entropy) below the limit, a share
    `unsure` of the entropy of guessing, and 0 above.  Adapts what `Read` adapts.

    >>> Selective().name
    'selective entropy'
    """

    rate: float = 1e-4
    steps: int = 1
    unsure: float = 0.4
    name: ClassVar[str] = "selective entropy"

    def begin(self, net: Network) -> Adapter:
        """An adapter that starts from `net`.  Raises `ValueError` where nothing but its encoders has weights."""
        own, learned = _deciding(net)

        def loss(logits: Tensor) -> Tensor:
            entropy, limit = _entropies(logits), self.unsure * math.log(logits.shape[1])
            weights = (limit - entropy.detach()).exp() * (entropy.detach() < limit)
            return (weights * entropy).mean()

        return _Adapting(own, learned, loss, self.rate, self.steps, again=True)


def _deciding(net: Network) -> tuple[Network, list[nn.Parameter]]:
    """A copy of a network, and the weights of all but its encoders."""
    own = copy.deepcopy(net).eval()
    encoders = {id(p) for encoder in own.encoders or () for p in encoder.parameters()}
    parts = [m for m in own.children() if encoders.isdisjoint(map(id, m.parameters()))] if encoders else []
    return own, _learned(own, parts, "encoders, and weights that decide from their features")


def _learned(own: Network, parts: Iterable[nn.Module], what: str) -> list[nn.Parameter]:
    """The weights of these parts, the only ones that gradients reach."""
    own.requires_grad_(False)
    learned = [p for part in parts for p in part.parameters()]
    for p in learned:
        p.requires_grad_()
    if not learned:
        raise ValueError(
            f"expected a network with {what}, got {type(own).__name__} without. Choose another adaptation."
        )
    return learned


class _Adapting:
    """A network that takes some steps down a loss of its own answers, on every batch."""

    def __init__(
        self, own: Network, learned: Sequence[nn.Parameter], loss: Callable[[Tensor], Tensor], rate: float, steps: int, again: bool
    ) -> None:  # fmt: skip
        self._own, self._loss, self._steps, self._again = own, loss, steps, again
        self._optimizer = torch.optim.Adam(learned, lr=rate)

    @torch.enable_grad()
    def __call__(self, x: Signals) -> Float[Tensor, "b k"]:
        for _ in range(self._steps):
            logits = self._own(x)
            self._optimizer.zero_grad()
            self._loss(logits).backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        with torch.no_grad():
            answer: Tensor = self._own(x) if self._again else logits.detach()
        return answer


def _entropies(logits: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def _reliable(logits: Float[Tensor, "b k"]) -> Tensor:
    p, top = logits.softmax(1).mean(0), logits.log_softmax(1).amax(1)
    return -(top.exp() * top).mean() + (p * p.clamp_min(1e-12).log()).sum()
