"""A two-stream model as a victim: a stream whose embedding is known is not run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from avrobust.engine.blackbox import declared_ways
from avrobust.engine.cache import CleanGradientCache
from avrobust.engine.chunks import ChunkSize, joined
from avrobust.engine.output import as_output
from avrobust.engine.victim import ValueAndGrad, Victim, Way
from avrobust.objectives import Need, Objective
from avrobust.threat import Threat
from avrobust.types import AV, Labels, Output, Signals

T = TypeVar("T")
Known = AV[Tensor | None]
# (network, clips, embeddings that are known) -> all embeddings; see `recognise`.
Embed = Callable[[Any, Signals, Known], AV[Tensor]]
UNKNOWN: Known = AV(audio=None, visual=None)
STRAIGHT_THROUGH, BYPASS = "straight-through", "bypass"


def encoder_by_encoder(net: Any, x: Signals, known: Known) -> AV[Tensor]:
    """The streams that are not known, each by its own encoder."""
    # A copy of what is known: a feature defense, or a fusion, may write into its features.
    features: AV[Tensor] = net.encoders.map(lambda encode, s, f: encode(s) if f is None else f.clone(), x, known)
    return features


@dataclass(frozen=True)
class TwoStream(Victim):
    """A network with `embed(x) -> AV` and `decide(features) -> logits`, and perhaps a `feature_defense` between them.

    `embeds` runs the streams that are not `known`.  `clean` are the embeddings of the clean clips at hand, before the
    feature defense.  `feature_defense` says how gradients meet the network's feature defense: "exact"; "straight-through",
    backwards as if it were not there (Athalye et al. 2018); or "bypass", left out altogether.  With several `draws` of a
    random feature defense, logits are the mean over them.  `clean_gradients` are its gradients at all clean clips.
    `as_written`: the network's code, not an example, says that its answer is `decide(feature_defense(embed(x)))`.
    """

    net: Any
    embeds: Embed
    precision: torch.dtype = torch.float32
    rounding: float = 0.0
    known: Known = UNKNOWN
    clean: AV[Tensor] | None = None
    feature_defense: Literal["exact", "straight-through", "bypass"] = "exact"
    draws: int = 1
    chunk_size: ChunkSize = field(default_factory=ChunkSize)
    clean_gradients: CleanGradientCache | None = None
    as_written: bool = False

    @property
    def any_batch(self) -> bool:
        return self.as_written

    def output(self, x: Signals, needs: Sequence[Need] = ()) -> Output:
        """Logits and features in float32; the heat map where it is needed and the network has one."""
        segments = None
        if "segments" in needs and all(
            hasattr(e, "with_segments") for e in getattr(self.net, "encoders", None) or (None,)
        ):
            features, segments = map(joined, zip(*self._in_chunks(x, TwoStream._with_segments), strict=True))
        else:
            features = self.embed(x)
        out = replace(self._decide(features, needs), segments=segments)
        if "clean" not in needs or self.clean is None:
            return out
        with torch.no_grad():
            return replace(out, clean=self._decide(self.clean, needs))

    def embed(self, x: Signals) -> AV[Tensor]:
        """The embeddings of both streams, in float32: (b d) each, or what the network's encoders give."""
        return joined(self._in_chunks(x, TwoStream._embed))

    def _in_chunks(self, x: Signals, work: "Callable[[TwoStream, Signals], T]") -> list[T]:
        # Gradients need a chunk's whole way to the objective; see `value_and_grad`.
        if torch.is_grad_enabled():
            return [work(self, x)]
        return self.chunk_size.map(x, lambda on: work(self.subset(on), x.map(lambda s: s[on])))

    def _embed(self, x: Signals) -> AV[Tensor]:
        if not self.as_written and torch.is_grad_enabled():
            x = x.map(torch.clone)  # a user's network may write into what it is given
        with torch.autocast(x.audio.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            return self.embeds(self.net, x, self.known).map(Tensor.float)

    def _with_segments(self, x: Signals) -> tuple[AV[Tensor], AV[Tensor]]:
        """The embeddings, and the features of each segment; a stream that is known counts as one segment."""
        with torch.autocast(x.audio.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            pairs = self.net.encoders.map(
                lambda encode, s, f: encode.with_segments(s) if f is None else (f.clone(), f[:, None]), x, self.known
            )
        whole, parts = (pairs.map(lambda pair, i=i: pair[i].float()) for i in (0, 1))
        return whole, parts

    def _decide(self, f: AV[Tensor], needs: Sequence[Need]) -> Output:
        every = []
        for _ in range(self.draws):
            features = self._defended(f)
            every.append((as_output(self.net.decide(features)).logits, features))
        logits, features = every[0]
        if self.draws > 1:
            logits = torch.stack([z for z, _ in every]).mean(0)
        heat = getattr(self.net, "heat", None) if "heat" in needs else None
        detect = (
            getattr(getattr(self.net, "feature_defense", None), "suspicion", None) if "suspicion" in needs else None
        )
        alone = self._alone(features) if "alone" in needs else None
        return Output(logits, features, heat and heat(features), suspicion=detect and detect(f), alone=alone)

    def _alone(self, f: AV[Tensor]) -> AV[Tensor]:
        """The logits from each modality, the features of the other being 0."""
        none = f.map(torch.zeros_like)
        halves = AV(AV(f.audio, none.visual), AV(none.audio, f.visual))
        return halves.map(lambda half: as_output(self.net.decide(half)).logits)

    def _defended(self, f: AV[Tensor]) -> AV[Tensor]:
        defense = getattr(self.net, "feature_defense", None)
        if defense is None or self.feature_defense == BYPASS:
            return _plain(self.net, f)
        after: AV[Tensor] = defense(f)
        if self.feature_defense == STRAIGHT_THROUGH:
            return _plain(self.net, f).map(lambda s, c: s + (c - s).detach(), after)
        return after

    def value_and_grad(
        self,
        objective: Objective,
        x: Signals,
        y: Labels,
        threat: Threat,
        delta: Signals | None = None,
        ignored: set[str] | None = None,
    ) -> ValueAndGrad:
        if self.clean_gradients and self.clean_gradients.holds(x, delta, y, threat):
            alone = replace(self, clean_gradients=None)
            return self.clean_gradients.get(alone, (self.feature_defense, self.draws), objective, threat, ignored)
        return super().value_and_grad(objective, x, y, threat, delta, ignored)

    def map_chunks(self, x: Signals, work: Callable[[slice], T]) -> list[T]:
        return self.chunk_size.map(x, work)

    def subset(self, clips: Any) -> "TwoStream":
        known: Known = self.known.map(lambda f: None if f is None else f[clips])
        return replace(self, known=known, clean=self.clean and self.clean.map(lambda f: f[clips]), clean_gradients=None)

    def fix_unattacked(self, x: Signals, threat: Threat, needs: Sequence[Need] = ()) -> "TwoStream":
        here, clean = self, self.clean
        if clean is None:
            # Only what is needed: an empty feature stands for a stream that is not run.
            both = "clean" in needs
            spared: Known = threat.map(lambda ball: torch.empty(0) if ball.active and not both else None)
            with torch.no_grad():
                clean = replace(self, known=spared).embed(x)
            here = replace(self, clean=clean if both else None)
        return replace(here, known=threat.map(lambda ball, f: None if ball.active else f, clean))

    @property
    def module(self) -> nn.Module | None:
        return self.net if isinstance(self.net, nn.Module) else None

    def with_module(self, module: nn.Module) -> "TwoStream":
        return replace(self, net=module)

    def encoded(self, x: Signals) -> list[Tensor]:
        with torch.autocast(x.audio.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            return list(AV(*self.net.embed(x)))

    def decided(self, encoded: list[Tensor]) -> list[Tensor]:
        plain = self.as_written or getattr(self.net, "feature_defense", None) is None
        return [as_output(self.net.decide(_plain(self.net, AV(*encoded)))).logits] if plain else []

    @property
    def parts(self) -> Sequence[nn.Module]:
        # What follows the encoders is small, and stays in float32.
        encoders = tuple(self.net.encoders) if self.embeds is encoder_by_encoder else ()
        apart = encoders and set(encoders[0].parameters()).isdisjoint(encoders[1].parameters())
        return encoders if apart else super().parts  # a layer of both encoders has one precision

    def in_precision(self, precision: torch.dtype, rounding: float = 0.0) -> "TwoStream":
        chunk_size = self.chunk_size.for_precision(self.precision, precision)
        return replace(self, precision=precision, rounding=rounding, chunk_size=chunk_size)

    def averaged(self, draws: int) -> "TwoStream":
        return replace(self, draws=draws)

    @torch.no_grad()
    def ways(self, x: Signals) -> tuple[Way, ...]:
        """Straight through the feature defense and past it, where it changes the features of these clips."""
        f, others = self.embed(x), declared_ways(self.net)
        defense = getattr(self.net, "feature_defense", None)
        if defense is None or all(after is before for after, before in zip(defense(f), f, strict=True)):
            return others
        return (*(partial(_meeting, how) for how in (STRAIGHT_THROUGH, BYPASS)), *others)

    @property
    def cached(self) -> int:
        held = [*(self.clean or ()), *(self.clean_gradients.x if self.clean_gradients else ())]
        return sum(s.numel() for s in held)

    def cache_embeddings(self, x: Signals) -> "TwoStream":
        with torch.no_grad():
            return replace(self, clean=self.embed(x))

    def cache_clean_gradients(self, x: Signals, y: Labels) -> "TwoStream":
        return replace(self, clean_gradients=CleanGradientCache(x, y))

    def without_clean_gradients(self) -> "TwoStream":
        return replace(self, clean_gradients=None)

    def without_cache(self) -> "TwoStream":
        return replace(self, known=UNKNOWN, clean=None, clean_gradients=None)

    def fix_at(self, x: Signals) -> "TwoStream":
        with torch.no_grad():
            known: Known = AV(*self.embed(x))
        return replace(self, known=known)

    def mix_modalities(self, visual: Any) -> "TwoStream":
        return replace(self, known=AV(audio=self.known.audio, visual=visual.known.visual))

    def join(self, others: Sequence[Any]) -> "TwoStream":
        clean = [v.clean for v in (self, *others) if v.clean is not None]
        return replace(self, clean=joined(clean), known=UNKNOWN, clean_gradients=None) if clean else self


def _plain(net: Any, f: AV[Tensor]) -> AV[Tensor]:
    """Features as encoders give them, without what the feature defense measures beside them: see `models.network.Measured`."""
    plain = getattr(getattr(net, "feature_defense", None), "plain", None)
    without: AV[Tensor] = plain(f) if plain else f
    return without


def _meeting(how: Any, victim: TwoStream) -> TwoStream:
    return replace(victim, feature_defense=how)
