"""The model as an attack sees it: a two-stream network opened into its encoders and the rest, any other as it is."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor

from avrobust.engine.chunks import HALF_A_MILLION, ChunkSize, joined
from avrobust.models.fusion import Attention
from avrobust.models.network import Absent, AVNet
from avrobust.types import AV, Model, Signals

if TYPE_CHECKING:
    from avrobust.engine.cache import CleanGradientCache

T = TypeVar("T")
# What a network computes, as an attack takes it apart.
STEPS = ("encoders", "embed", "represent", "fuse", "classify", "decide", "forward")


def as_victim(model: Model) -> Model:
    """`model` itself, its two streams within reach where it is an `AVNet` that computes what an `AVNet` does.

    Of float32 weights: what is cheaper for others is not known.
    """
    if isinstance(model, AVNet) and _as_written(model):
        device = model.classifier.weight.device
        return TwoStream(
            model, torch.float32, chunk_size=ChunkSize(HALF_A_MILLION if device.type == "cpu" else math.inf)
        )
    return model


def _as_written(net: AVNet) -> bool:
    """Whether what leads from its signals to its logits is `AVNet`'s own: nothing redefined, and nothing hooked on."""
    own = all(getattr(type(net), step) is getattr(AVNet, step) and step not in vars(net) for step in STEPS)
    plain = own and not (net._forward_hooks or net._forward_pre_hooks)
    return plain and all(s.dtype == torch.float32 for s in net.state_dict().values() if s.is_floating_point())


@dataclass(frozen=True)
class TwoStream:
    """A two-stream network as an attack sees it.

    A stream whose embedding is `known` is not run.  `clean` are the embeddings of the clean clips at hand, with no
    feature defense between: a network that points at places has none.  `feature_defense` is how gradients meet the network's feature defense:
    they go "through" it, "straight" back as if it were not there (what it gives is as it is; Athalye et al. 2018),
    or everything goes "past" it.  With several `draws` of a random feature defense, logits are the mean over them.
    `clean_gradients` are its gradients at the clean clips, all of them.
    """

    net: AVNet
    dtype: torch.dtype
    known: AV[Tensor | None] = field(default_factory=lambda: AV(audio=None, visual=None))
    clean: AV[Tensor] | None = None
    heard: list[Tensor] | None = None
    feature_defense: Literal["through", "straight", "past"] = "through"
    draws: int = 1
    chunk_size: ChunkSize = field(default_factory=ChunkSize)
    clean_gradients: "CleanGradientCache | None" = None

    def subset(self, clips: Any) -> "TwoStream":
        """The same, for some of the clips that it knows, by any index of them."""
        known = self.known.map(lambda f: None if f is None else f[clips])
        return replace(self, known=known, clean=self.clean and self.clean.map(lambda f: f[clips]), clean_gradients=None)

    def __call__(self, x: Signals) -> Tensor:
        f = self.embed(x)
        every = [self.net.decide(self._defended(f)) for _ in range(self.draws)]
        return self._hear(torch.stack(every).mean(0) if self.draws > 1 else every[0])

    def represent(self, x: Signals) -> AV[Tensor]:
        """The features that the decision is made from, in float32."""
        return self._defended(self.embed(x))

    def _defended(self, f: AV[Tensor]) -> AV[Tensor]:
        if self.feature_defense == "past":
            return f
        clean: AV[Tensor] = self.net.feature_defense(f)
        return clean if self.feature_defense == "through" else f.map(lambda s, c: s + (c - s).detach(), clean)

    def decide(self, f: AV[Tensor]) -> Tensor:
        """Logits of such features."""
        return self._hear(self.net.decide(f))

    def _hear(self, logits: Tensor) -> Tensor:
        if self.heard is not None:
            self.heard.append(logits.detach())
        return logits

    def heat(self, f: AV[Tensor]) -> Tensor:
        """The heat map of such features, where the network has one."""
        if not isinstance(self.net.fusion, Attention):
            raise TypeError(
                f"expected a network that points at places, got one with the fusion {type(self.net.fusion).__name__}. "
                "Build it with the fusion 'attention'."
            )
        return self.net.fusion.heat(f)

    def embed(self, x: Signals) -> AV[Tensor]:
        """What the encoders give, in float32."""
        # Gradients need a piece's whole way to the objective; see `value_and_grad`.
        if torch.is_grad_enabled():
            return self._embed(x)
        return joined(self.chunk_size.map(x, lambda on: self.subset(on)._embed(x.map(lambda s: s[on]))))

    def _embed(self, x: Signals) -> AV[Tensor]:
        with torch.autocast(x.audio.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            # A copy of what is known: a feature defense, or a fusion, may write into its features.
            features = self.net.encoders.map(lambda encode, s, f: encode(s) if f is None else f.clone(), x, self.known)
        return features.map(Tensor.float)


def subset(model: Model, clips: Any) -> Model:
    """`model` for some of the clips that it knows something of."""
    return model.subset(clips) if isinstance(model, TwoStream) else model


def map_chunks(model: Model, x: Signals, work: Callable[[slice], T]) -> list[T]:
    """What `work` makes of the clips, chunk by chunk.

    A model of somebody's own gets the whole batch: how large that is was their choice.
    """
    return model.chunk_size.map(x, work) if isinstance(model, TwoStream) else [work(slice(None))]


def is_absent(model: Model, modality: str) -> bool:
    """Whether the network was built without an encoder for this modality."""
    return isinstance(model, TwoStream) and isinstance(getattr(model.net, modality), Absent)


def with_normal_tensors(model: Model) -> Model:
    """`model`, what it knows of the clips in tensors that autograd may use."""
    if not isinstance(model, TwoStream):
        return model
    known: AV[Tensor | None] = model.known.map(lambda f: None if f is None else normal(f))
    return replace(model, known=known, clean=model.clean and model.clean.map(normal))


def normal(s: Tensor) -> Tensor:
    """A tensor that autograd may use: a copy, where `s` was made in inference mode."""
    return s.clone() if s.is_inference() else s
