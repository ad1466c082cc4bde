"""The gradient with respect to signals, as cheap as the model at hand allows.  Known to no attack by name.

Six savings, all of them exact or checked but for low precision:
- weights are frozen: no gradient is computed for them;
- BatchNorm is folded into the convolution before it (equal to rounding, verified on an example);
- a stream that the threat leaves alone is computed once, however many steps follow;
- the gradient at the clean clips is computed once per stream, whatever attacks, budgets and subsets begin there;
- gradients are computed in bfloat16 where that is asked for.  It is never chosen for anybody: near 0.5 its numbers lie
  a grey level apart, and smaller budgets are lost on their way into the network.  What is *reported* about a model is
  never taken from here: the harness asks the user's own model, in its own precision;
- a search may hold many clips, and the network takes as many of those that still stand as it has `Room` for: its
  batches are full to the end, and memory is that of one of them.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from avrobust.attacks.folding import alike, fold_batchnorm, rectify_in_place
from avrobust.attacks.paths import Answer, GradientError, check_finite, depends, no_path
from avrobust.models.fusion import Attention
from avrobust.models.network import Absent, AVNet
from avrobust.objectives import TwoStream, margin, objective_name, success
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import AV, InputError, Model, Objective, PerClip, Signals

Precision = Literal["auto", "float32", "bfloat16"]
M = TypeVar("M", bound=Model)
T = TypeVar("T")
# The objective at some place, its gradient, and on which clips the attacker has surely won.
Looked = tuple[PerClip, Signals, Tensor]

# On a CPU a step on so many samples and pixels runs nearly as fast as a larger one, in less memory:
# docs/decisions/0010-many-clips-a-few-at-a-time.md.
HALF_A_MILLION = 2.0**19
# What logits may be off by, as a share of the largest, in arithmetic that is coarser than float32.
ROUNDING = {torch.bfloat16: 0.1, torch.float16: 0.02}
# What a network computes, as an attack takes it apart.
STEPS = ("encoders", "embed", "represent", "fuse", "classify", "decide", "forward")


def gradient(
    model: Model, objective: Objective, x: Signals, y: Tensor, threat: Threat, ids: Sequence[str] = ()
) -> tuple[PerClip, Signals]:
    """The objective per clip at `x`, and its gradient; 0 for a modality that the threat or the model leaves alone.

    Raises `GradientError` where the objective depends on a modality that no gradient reaches, and where a gradient is
    not finite; `ids` name the clips.  Holds inside `torch.no_grad()` and `torch.inference_mode()` too.
    """
    value, grad, _ = _checked(_look(model, objective, x, y, y, threat, deaf=set()), ids or range(len(y)))
    return value, grad


def slope(model: Model, objective: Objective, x: Signals, y: Tensor, threat: Threat) -> Signals:
    """The gradient as it comes, to learn what a model is like: 0 where none arrives, and not always finite."""
    try:
        return _look(model, objective, x, y, y, threat)[1]
    except GradientError:  # an operation without a derivative: such a model is attacked without gradients
        return x.map(torch.zeros_like)


def _look(
    model: Model,
    objective: Objective,
    x: Signals,
    goal: Tensor,
    y: Tensor,
    threat: Threat,
    delta: Signals | None = None,
    deaf: set[str] | None = None,
) -> Looked:
    """What the objective gets for its `goal` at x + delta, as many clips at a time as the model has room for.

    `deaf` are the modalities that are known to change nothing, and grows; without it, nobody asks why a gradient lacks.
    """
    if isinstance(model, Streams) and model.begun and goal is y and model.begun.holds(x, delta, y, threat):
        return model.begun(model, objective, threat, deaf)

    def part(on: slice) -> Looked:
        those, allowed = some(model, on), threat.take(on)
        at = x.map(lambda s: s[on])
        if delta is not None:
            at = shift(at, delta.map(lambda d: d[on]), allowed)
        asked, heard = _listening(those)
        value, grad = _gradient(asked, objective, at, goal[on], allowed)
        heard = heard[-1:]
        if deaf is not None:
            for name in (n for n, g in grad.items() if g is None and getattr(allowed, n).active and n not in deaf):
                if not _absent(those, name) and depends(_answer(those, objective, goal[on]), at, name):
                    raise no_path(name, "an answer that depends on it without one")
                deaf.add(name)
        value, won = _outcome(value, those, heard, objective if goal is y else margin, y[on])
        # Nothing is left to raise where a value is infinite.
        grads = grad.map(
            lambda g, s: torch.zeros_like(s) if g is None else torch.where(_each(value.isinf(), g), 0.0, g), at
        )
        return value, grads, won

    values, grads, won = zip(*in_pieces(model, x, part), strict=True)
    return cat(values), joined(grads), cat(won)


def _gradient(
    model: Model, objective: Objective, x: Signals, y: Tensor, threat: Threat
) -> tuple[PerClip, AV[Tensor | None]]:
    """The objective and its gradient; None where there is none."""
    # No gradient can be taken of tensors from an inference mode: of those that came from one, a copy.
    with torch.inference_mode(False), torch.enable_grad():
        x = threat.map(lambda ball, s: _plain(s).detach().requires_grad_(ball.active), x)
        wanted = [s for s in x if s.requires_grad]
        try:
            # A model of somebody's own may write into what it is given.
            lent = x if isinstance(model, Streams) else x.map(torch.clone)
            value = objective(_awake(model), lent, _plain(y))
            _check_value(value, objective, len(y))
            total = value.sum()  # a sum: each clip keeps its own gradient
            found = torch.autograd.grad(total, wanted, allow_unused=True) if total.requires_grad else ()
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError) as error:
            with torch.no_grad():
                objective(_awake(model), x.map(torch.clone), _plain(y))  # what fails anyway, fails as it is
            raise no_path(" and the ".join(n for n, s in x.items() if s.requires_grad), f"'{error}'") from error
    left = iter(found or [None] * len(wanted))
    return value.detach(), x.map(lambda s: next(left) if s.requires_grad else None)


def _plain(s: Tensor) -> Tensor:
    return s.clone() if s.is_inference() else s


def _awake(model: Model) -> Model:
    """`model`, what it knows of the clips fit for gradients."""
    if not isinstance(model, Streams):
        return model
    known: AV[Tensor | None] = model.known.map(lambda f: None if f is None else _plain(f))
    return replace(model, known=known, clean=model.clean and model.clean.map(_plain))


def _answer(model: Model, objective: Objective, y: Tensor) -> Answer:
    """What the objective says, and the logits that it says it of."""

    def answer(x: Signals) -> list[Tensor]:
        asked, heard = _listening(model)
        return [objective(asked, x, y), *heard[-1:]]

    return answer


def _absent(model: Model, modality: str) -> bool:
    return isinstance(model, Streams) and isinstance(getattr(model.net, modality), Absent)


def _check_value(value: object, objective: Objective, clips: int) -> None:
    if not isinstance(value, Tensor) or value.shape != (clips,):
        got = f"one shaped {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"the objective {objective_name(objective)} should return a tensor of one number per clip, shaped ({clips},), "
            f"got {got}. Sum over each clip, not over the batch: reduction='none'."
        )


def _checked(looked: Looked, names: Sequence[object]) -> Looked:
    """What was looked at, if a search can go on from there.  One question for all clips, for a GPU waits for the answer."""
    value, grad, _ = looked
    sound = ~value.isnan()
    for g in grad:
        sound = sound & g.flatten(1).sum(1).isfinite()
    if not bool(sound.all()):
        check_finite(value, grad, [str(name) for name in names])
    return looked


def _each(clips: Tensor, like: Tensor) -> Tensor:
    return clips.view(-1, *[1] * (like.ndim - 1))


class Found:
    """Each clip's best perturbation so far, by the objective."""

    def __init__(self, x: Signals, threat: Threat) -> None:
        self.delta: Signals = x.map(torch.zeros_like)
        self._touched = threat.map(lambda ball: ball.active)
        self._value = torch.full((len(x.audio),), -torch.inf, device=x.audio.device)  # or finer, as the objective is

    def offer(self, clips: Tensor, value: PerClip, delta: Signals) -> Tensor:
        """Keep `delta` for those of the `clips` (their numbers) on which `value` beats what was there; says which."""
        self._value = self._value.to(torch.promote_types(self._value.dtype, value.dtype))
        better: Tensor = value > self._value[clips]
        self._keep(clips[better], value[better], delta.map(lambda d: d[better]))
        return better

    def settle(self, clips: Tensor, delta: Signals) -> None:
        """Keep `delta` for these clips, whatever was there and whatever comes."""
        self._keep(clips, torch.full_like(self._value[clips], torch.inf), delta)

    def _keep(self, clips: Tensor, value: PerClip, delta: Signals) -> None:
        self._value[clips] = value.to(self._value.dtype)
        for kept, new, touched in zip(self.delta, delta, self._touched, strict=True):
            if touched:
                kept[clips] = new


def shift(x: Signals, delta: Signals, threat: Threat) -> Signals:
    """x + delta; an untouched modality is the clean tensor itself, so that it stays identical bit for bit."""
    return threat.map(lambda ball, s, d: (s + d).clamp(ball.low, ball.high) if ball.active else s, x, delta)


@dataclass(frozen=True, eq=False)
class Work:
    """The clips that a search is still at work on: `clips` are their numbers in the batch that it was given.

    `aim` are the classes that an objective gets instead of the labels; a clip is then won when it is wrong by its label.
    `deaf` are the modalities that are known to change nothing.
    """

    model: Model
    x: Signals
    y: Tensor
    threat: Threat
    seeds: Seeds
    clips: Tensor
    aim: Tensor | None = None
    deaf: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, model: Model, x: Signals, y: Tensor, threat: Threat, seeds: Seeds) -> "Work":
        """All clips of a batch; what the threat leaves alone is computed here, once."""
        return cls(pinned(model, x, threat), x, y, threat, seeds, torch.arange(len(y), device=y.device))

    def __len__(self) -> int:
        return len(self.clips)

    def take(self, on: Tensor | slice) -> "Work":
        """The clips where `on`, or a stretch of them."""
        if isinstance(on, Tensor) and bool(on.all()):
            return self
        x, aim = self.x.map(lambda s: s[on]), None if self.aim is None else self.aim[on]
        seeds = self.seeds.take(torch.arange(len(self), device=self.y.device)[on])
        return Work(some(self.model, on), x, self.y[on], self.threat.take(on), seeds, self.clips[on], aim, self.deaf)

    def look(self, objective: Objective, delta: Signals) -> Looked:
        """The objective at x + delta, its gradient, and on which clips the attacker has surely won.

        Where logits are not finite the model has no answer: the value is infinite there, and the gradient 0.
        """
        looked = _look(self.model, objective, self.x, self._goal, self.y, self.threat, delta, self.deaf)
        return _checked(looked, self.seeds.ids)

    @torch.no_grad()
    def value(self, objective: Objective, delta: Signals) -> tuple[PerClip, Tensor]:
        """The objective at x + delta, and on which clips the attacker has surely won."""
        model, heard = _listening(self.model)
        value = objective(model, shift(self.x, delta, self.threat), self._goal)
        _check_value(value, objective, len(self))
        value, won = _outcome(value, self.model, heard, objective if self.aim is None else margin, self.y)
        _checked((value, self.x.map(torch.zeros_like), won), self.seeds.ids)
        return value, won

    @property
    def _goal(self) -> Tensor:
        return self.y if self.aim is None else self.aim


def _outcome(
    value: PerClip, model: Model, heard: Sequence[Tensor], objective: Objective, y: Tensor
) -> tuple[PerClip, Tensor]:
    """The value, infinite where logits are not finite, and on which clips the attacker has surely won.

    By more than what this arithmetic may be off, where the objective says by how much.  On none, where it did not ask
    for logits, or does not say when it has succeeded.
    """
    won = torch.zeros_like(value, dtype=torch.bool)
    if not heard or len(heard[-1]) != len(value):
        return value, won
    logits = heard[-1]
    coarse = torch.bfloat16 if isinstance(model, Streams) and model.dtype == torch.bfloat16 else logits.dtype
    logits = logits.float()
    broken, lead = ~logits.flatten(1).isfinite().all(1), success(objective, logits, y)
    if lead is not None and lead.dtype != torch.bool:
        off = ROUNDING.get(coarse, 1e-3) * logits.flatten(1).abs().amax(1).clamp_min(0.1)
        lead = lead > torch.where(broken, 0.0, off)
    ends = torch.where(broken if lead is None else lead, torch.inf, -torch.inf).to(value)
    return torch.where(broken, ends, value), won if lead is None else lead


def finished(value: PerClip, won: Tensor, stop: bool) -> Tensor:
    """On which clips a search has nothing left to do: those that it has `won`, if it may `stop` there, and those without
    an answer, where nothing can be raised further.
    """
    return value.isposinf() | won if stop else value.isposinf()


def _listening(model: Model) -> tuple[Model, list[Tensor]]:
    """`model`, and a list that its logits are added to whenever it is asked: nobody runs it twice to see them."""
    heard: list[Tensor] = []
    if isinstance(model, Streams):
        return replace(model, heard=heard), heard

    if isinstance(model, TwoStream):
        return _Aloud(model, heard), heard

    def aloud(x: Signals) -> Any:
        logits = model(x)
        if isinstance(logits, Tensor):  # an objective of somebody's own may know what to do with anything else
            heard.append(logits.detach())
        return logits

    return aloud, heard


class _Aloud:
    """A model of somebody's own that shows its features, its logits kept."""

    def __init__(self, model: TwoStream, heard: list[Tensor]) -> None:
        self.model, self.heard = model, heard

    def __call__(self, x: Signals) -> Tensor:
        logits = self.model(x)
        self.heard.append(logits.detach())
        return logits

    def represent(self, x: Signals) -> AV[Tensor]:
        return self.model.represent(x)

    def decide(self, f: AV[Tensor]) -> Tensor:
        logits = self.model.decide(f)
        self.heard.append(logits.detach())
        return logits


def crafting(model: Model, example: Signals, precision: Precision = "auto") -> Model:
    """A cheap stand-in for `model` to take gradients of; what is no `AVNet`, or cannot be copied, stays as it is.

    For an `AVNet`: a frozen, folded, channels-last copy.  Its `precision` "auto" is float32 on every machine: an attack
    is never weaker for being cheap.
    `example` is a clip or more, on which the folding is verified.
    """
    streams = exact(model)
    if not isinstance(streams, Streams):
        return model
    streams = replace(streams, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32)
    with torch.inference_mode(False):
        net = _copy(streams.net)
        example = example.map(_plain)
        if net is None or not alike(net, streams.net, example):
            return streams
        fold_batchnorm(net, example)
        rectify_in_place(net, example)
        if streams.dtype == torch.bfloat16:
            for encoder in net.encoders:  # what follows them is small, and stays in float32
                for module in encoder.modules():
                    if isinstance(module, nn.Conv2d | nn.Conv1d | nn.Linear):
                        module.to(torch.bfloat16)
    return replace(streams, net=net)


def _copy(net: AVNet) -> AVNet | None:
    """A frozen copy, weights of pictures laid out channels-last; None of what cannot be copied."""
    # Laid out as they are copied: a second copy of every weight would leave holes in memory behind.
    laid_out = {
        id(weight): nn.Parameter(weight.detach().clone(memory_format=torch.channels_last))
        for m in net.modules()
        # A weight that is computed (weight norm, parametrisations) is no parameter, and another tensor each time.
        if isinstance(m, nn.Conv2d) and type(weight := m._parameters.get("weight")) is nn.Parameter
    }
    try:
        return copy.deepcopy(net, laid_out).eval().requires_grad_(False)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever stands in the way of copying somebody's modules: the attack needs no copy
        return None


def exact(model: Model) -> Model:
    """`model` itself, its two streams within reach where it is an `AVNet` that computes what an `AVNet` does.

    Of float32 weights: what is cheaper for others is not known.
    """
    if isinstance(model, AVNet) and _as_written(model):
        device = model.classifier.weight.device
        return Streams(model, torch.float32, room=Room(HALF_A_MILLION if device.type == "cpu" else math.inf))
    return model


def _as_written(net: AVNet) -> bool:
    """Whether what leads from its signals to its logits is `AVNet`'s own: nothing redefined, and nothing hooked on."""
    own = all(getattr(type(net), step) is getattr(AVNet, step) and step not in vars(net) for step in STEPS)
    plain = own and not (net._forward_hooks or net._forward_pre_hooks)
    return plain and all(s.dtype == torch.float32 for s in net.state_dict().values() if s.is_floating_point())


def embedded(model: M, x: Signals) -> M:
    """`model` with both embeddings of the clean `x` kept, for every attack on these clips to share."""
    if not isinstance(model, Streams):
        return model
    with torch.no_grad():
        return replace(model, clean=model.embed(x))


def beginning(model: M, x: Signals, y: Tensor) -> M:
    """`model` with its gradients at the clean `x` kept too: as much memory as `x`, for each objective."""
    if not isinstance(model, Streams):
        return model
    begun = Begun(x, y)
    return replace(model, begun=begun)


class Begun:
    """Gradients at the clean clips, per objective and modality: each computed when it is first asked for.

    There, sound's gradient is the same whatever may be done to the picture: FGSM on both at once, with any budgets,
    needs no more than FGSM on sound and FGSM on picture have found.  Of a random guard, one draw serves them all.
    """

    def __init__(self, x: Signals, y: Tensor) -> None:
        self._x, self._y = x, y
        self._found: list[tuple[tuple[object, ...], tuple[PerClip, Tensor, Tensor]]] = []

    def holds(self, x: Signals, delta: Signals | None, y: Tensor, threat: Threat) -> bool:
        """Whether x + delta are the clean clips, with their labels, and anything may be done to them."""
        # A search that has left them has moved its first clip, as a rule: later steps pay for a look at that one.
        if delta is not None and any(bool(d[:1].any()) or bool(d.any()) for d in delta):
            return False
        return threat.subset != "clean" and all(map(torch.equal, (*x, y), (*self._x, self._y)))

    def __call__(self, model: "Streams", objective: Objective, threat: Threat, deaf: set[str] | None) -> Looked:
        grads = {}
        for part in threat.subset:  # "A", "V"
            value, grads[part], won = self._of(part, model, objective, deaf)
        return value, AV("A", "V").map(lambda p, s: grads[p] if p in grads else torch.zeros_like(s), self._x), won

    def _of(
        self, part: str, model: "Streams", objective: Objective, deaf: set[str] | None
    ) -> tuple[PerClip, Tensor, Tensor]:
        key = (part, objective, model.guard, model.draws)
        for known, found in self._found:
            if known == key:
                return found
        threat = Threat.linf(audio=1.0, visual=1.0).only(part)
        alone = pinned(replace(model, begun=None), self._x, threat)
        value, grad, won = _look(alone, objective, self._x, self._y, self._y, threat, deaf=deaf)
        self._found.append((key, (value, grad.audio if part == "A" else grad.visual, won)))
        return self._found[-1][1]


def cat(parts: Sequence[Tensor]) -> Tensor:
    """The clips of all parts, in their order; of one, no copy."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def joined(parts: Sequence[AV[Tensor]]) -> AV[Tensor]:
    """The same of both modalities."""
    return AV(audio=cat([p.audio for p in parts]), visual=cat([p.visual for p in parts]))


def some(model: Model, clips: Any) -> Model:
    """`model` for some of the clips that it knows something of."""
    return model.take(clips) if isinstance(model, Streams) else model


def in_pieces(model: Model, x: Signals, work: Callable[[slice], T]) -> list[T]:
    """What `work` makes of as many clips at a time as the model has room for.

    A model of somebody's own gets the whole batch: how large that is was their choice.
    """
    return model.room.each(x, work) if isinstance(model, Streams) else [work(slice(None))]


@dataclass
class Room:
    """How many clips a network takes at a time: those that hold `numbers` samples and pixels, one at least.

    Where a GPU's memory does not suffice for that many, half as many from then on.
    """

    numbers: float = math.inf

    def each(self, x: Signals, work: Callable[[slice], T]) -> list[T]:
        """What `work` makes of stretches of the clips, about equally long."""
        count, size = len(x.audio), sum(s.shape[1:].numel() for s in x)
        while True:
            pieces = max(1, math.ceil(count / max(1, self.numbers // size))) if self.numbers < math.inf else 1
            clips = math.ceil(count / pieces)
            try:
                return [work(slice(k, k + clips)) for k in range(0, max(count, 1), max(clips, 1))]
            except torch.OutOfMemoryError:
                if clips <= 1:
                    raise
                self.numbers = clips // 2 * size


@dataclass(frozen=True)
class Streams:
    """A two-stream network as an attack sees it.

    A stream whose embedding is `known` is not run.  `clean` are the embeddings of the clean clips at hand, with no
    guard between: a network that points at places has none.  `guard` is how gradients meet the network's guard:
    they go "through" it, "straight" back as if it were not there (what it gives is as it is; Athalye et al. 2018),
    or everything goes "past" it.  With several `draws` of a random guard, logits are the mean over them.
    `begun` are its gradients at the clean clips, all of them.
    """

    net: AVNet
    dtype: torch.dtype
    known: AV[Tensor | None] = field(default_factory=lambda: AV(audio=None, visual=None))
    clean: AV[Tensor] | None = None
    heard: list[Tensor] | None = None
    guard: Literal["through", "straight", "past"] = "through"
    draws: int = 1
    room: Room = field(default_factory=Room)
    begun: Begun | None = None

    def take(self, clips: Any) -> "Streams":
        """The same, for some of the clips that it knows, by any index of them."""
        known = self.known.map(lambda f: None if f is None else f[clips])
        return replace(self, known=known, clean=self.clean and self.clean.map(lambda f: f[clips]), begun=None)

    def __call__(self, x: Signals) -> Tensor:
        f = self.embed(x)
        every = [self.net.decide(self._guarded(f)) for _ in range(self.draws)]
        return self._hear(torch.stack(every).mean(0) if self.draws > 1 else every[0])

    def represent(self, x: Signals) -> AV[Tensor]:
        """The features that the decision is made from, in float32."""
        return self._guarded(self.embed(x))

    def _guarded(self, f: AV[Tensor]) -> AV[Tensor]:
        if self.guard == "past":
            return f
        clean: AV[Tensor] = self.net.guard(f)
        return clean if self.guard == "through" else f.map(lambda s, c: s + (c - s).detach(), clean)

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
        # Gradients need a piece's whole way to the objective; see `Work.look`.
        if torch.is_grad_enabled():
            return self._embed(x)
        return joined(self.room.each(x, lambda on: self.take(on)._embed(x.map(lambda s: s[on]))))

    def _embed(self, x: Signals) -> AV[Tensor]:
        with torch.autocast(x.audio.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            features = self.net.encoders.map(lambda encode, s, f: encode(s) if f is None else f, x, self.known)
        return features.map(Tensor.float)


def pinned(model: Model, x: Signals, threat: Threat) -> Model:
    """`model` with the streams that `threat` leaves alone computed once, at the clean `x`."""
    model = exact(model)
    if not isinstance(model, Streams):
        return model
    clean = model.clean
    if clean is None:
        # Only what is needed: an empty feature stands for a stream that is not run.  A heat map is compared with the
        # clean one, which takes both.
        points = isinstance(model.net.fusion, Attention)
        spared = threat.map(lambda ball: torch.empty(0) if ball.active and not points else None)
        with torch.no_grad():
            clean = replace(model, known=spared).embed(x)
        model = replace(model, clean=clean if points else None)
    return replace(model, known=threat.map(lambda ball, f: None if ball.active else f, clean))


def there(model: M, x: Signals) -> M:
    """`model` for the clips `x` alone: it knows what its streams make of them."""
    if not isinstance(model, Streams):
        return model
    with torch.no_grad():
        known: AV[Tensor | None] = AV(*model.embed(x))
    return replace(model, known=known)


def crossed(sound: M, picture: Model) -> M:
    """`sound` with its picture as `picture` knows it: two of `there`, for the same clips with other signals."""
    if not (isinstance(sound, Streams) and isinstance(picture, Streams)):
        return sound
    known: AV[Tensor | None] = AV(audio=sound.known.audio, visual=picture.known.visual)
    return replace(sound, known=known)
