"""The vocabulary: one noun, `AV`, and the shapes that everything else is written in.

Axes: `b` clips, `n` audio samples, `t` frames, `h w` pixels, `k` classes, `d` features.
Signals are what people hear and see: waveforms in [-1, 1], RGB in [0, 1].  Normalising, spectrograms and
resampling belong inside the model, so that a budget keeps its physical meaning.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class AV(Generic[T]):
    """The same kind of thing, once per modality.

    >>> AV(audio=1, visual=2).map(lambda a, b: a + b, AV(audio=10, visual=20))
    AV(audio=11, visual=22)
    """

    audio: T
    visual: T

    def map(self, f: Callable[..., R], *others: "AV[Any]") -> "AV[R]":
        """`f` on each modality, together with the same modality of `others`."""
        return AV(
            f(self.audio, *(o.audio for o in others)),
            f(self.visual, *(o.visual for o in others)),
        )

    def items(self) -> Iterator[tuple[str, T]]:
        """(name, value) pairs, audio first."""
        yield "audio", self.audio
        yield "visual", self.visual

    def __iter__(self) -> Iterator[T]:
        yield self.audio
        yield self.visual


Wave = Float[Tensor, "b n"]  # in [-1, 1]
Frames = Float[Tensor, "b t 3 h w"]  # RGB in [0, 1]
Signals = AV[Tensor]  # AV(audio=Wave, visual=Frames)
# Class numbers (b); for other objectives whatever they read, the clips first: (b k) floats of a multi-label model.
Labels = Shaped[Tensor, "b ..."]
Logits = Float[Tensor, "b k"]
Features = Float[Tensor, "b d"]
PerClip = Float[Tensor, " b"]

# Any callable is a model; `nn.Module`s are callables too.  It returns logits, or an answer that holds them: see `Output`.
Model = Callable[[Signals], Any]

# (model, clean signals, labels, threat, seeds) -> adversarial signals, inside the threat.  A plain function is an attack; a
# class may also have `name`, for display, and `info`, an `AttackInfo` for flags and reports: see `attacks`.
Attack = Callable[[Model, Signals, Tensor, Any, Any], Signals]

# What storing or sending does: signals in, signals of the same shapes out.
Channel = Callable[[Signals], Signals]


@dataclass(frozen=True)
class Output:
    """What a model answers about some clips.

    `logits` are (b k); of a model that does not classify, its predictions or embeddings, the clips first.  `features`
    are those that the decision is made from: (b d) each, or for the frames a map (b d t h w).  `heat` (b t h w) says how much
    the model looks at each place of the frames: positive, the sum over a clip is 1.  `suspicion` (b) each says whether the
    model takes a modality for attacked: above 0 it does.  `segments` (b s d) each are the features of consecutive parts of a
    clip, of each frame for example; `alone` (b k) each are the logits from one modality, the features of the other being 0.
    `clean` is the answer to the clean clips.  The last three are there where an objective asks for them; see
    `objectives.Objective.needs`.

    >>> Output(torch.tensor([[2.0, 0.5], [0.0, 1.0]])).subset([1]).logits
    tensor([[0., 1.]])
    """

    logits: Tensor
    features: AV[Tensor] | None = None
    heat: Tensor | None = None
    clean: "Output | None" = None
    suspicion: AV[Tensor] | None = None
    segments: AV[Tensor] | None = None
    alone: AV[Tensor] | None = None

    def map(self, f: Callable[..., Tensor], *others: "Output") -> "Output":
        """`f` on every tensor of it, together with the same tensor of `others`."""

        def each(part: Any, *same: Any) -> Any:
            return part if part is None else f(part, *same) if isinstance(part, Tensor) else part.map(f, *same)

        parts = (f.name for f in fields(self))
        return Output(*(each(*(getattr(out, name) for out in (self, *others))) for name in parts))

    def subset(self, clips: Any) -> "Output":
        """The answers to some of the clips, by any index of them."""
        return self.map(lambda s: s[clips])


NAMES: AV[str] = AV(audio="audio", visual="visual")
RANGE: AV[tuple[float, float]] = AV(audio=(-1.0, 1.0), visual=(0.0, 1.0))


def doubles(s: Tensor) -> NDArray[np.float64]:
    """The same numbers in double precision, in NumPy: not every device has that (Apple's MPS does not).

    >>> doubles(torch.tensor([0.5, 1.0], dtype=torch.bfloat16))
    array([0.5, 1. ])
    """
    s = s.detach().cpu()
    return (s.float() if s.dtype == torch.bfloat16 else s).numpy().astype(np.float64)


class InputError(ValueError):
    """The clips, the model or the objective cannot be attacked and measured as given."""


def _clips(label: Any) -> int:
    """How many clips there are, by their labels."""
    try:
        return len(label)
    except TypeError:
        raise InputError(
            f"labels should be class numbers shaped (b), got {label!r}. Give one for each clip; of a single clip, give "
            "wave[None], frames[None] and torch.tensor([k])."
        ) from None


@dataclass(frozen=True)
class Batch:
    """Clips with their labels and names.

    `x.audio` is (b n) in [-1, 1]; `x.visual` is (b t 3 h w) RGB in [0, 1]; `label` is (b) class numbers.
    `ids` name the clips: randomness is tied to them, and results carry them.  Without ids, clips are
    numbered from "0" within the batch, and by the harness through all batches; `named` says whether they were given.

    >>> batch = Batch(AV(torch.zeros(2, 8), torch.zeros(2, 1, 3, 4, 4)), label=torch.tensor([0, 1]))
    >>> batch.ids
    ('0', '1')
    """

    x: Signals
    label: Tensor
    ids: tuple[str, ...] = ()
    named: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named = self.ids is not None and len(self.ids) > 0  # ids may be an array, which is neither true nor false
        object.__setattr__(self, "named", named)
        if not named:
            object.__setattr__(self, "ids", tuple(str(i) for i in range(_clips(self.label))))

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def join(cls, batches: Iterable["Batch"]) -> "Batch":
        """Several batches as one."""
        parts = list(batches)
        if len(parts) == 1:
            return parts[0]
        x = AV(audio=torch.cat([b.x.audio for b in parts]), visual=torch.cat([b.x.visual for b in parts]))
        return cls(x, torch.cat([b.label for b in parts]), tuple(id for b in parts for id in b.ids))

    def subset(self, clips: Sequence[int]) -> "Batch":
        """Some of the clips, by their numbers."""
        on = torch.as_tensor(clips, dtype=torch.long, device=self.label.device)
        return Batch(self.x.map(lambda s: s[on]), self.label[on], tuple(self.ids[i] for i in on.tolist()))

    def to(self, device: torch.device | str) -> "Batch":
        """The same clips on another device."""
        x = self.x.map(lambda s: s.to(device, non_blocking=s.is_pinned()))
        return Batch(x, self.label.to(device, non_blocking=self.label.is_pinned()), self.ids)

    def pinned(self) -> "Batch":
        """The same clips in memory from which a GPU copies by itself."""
        return Batch(self.x.map(Tensor.pin_memory), self.label.pin_memory(), self.ids)
