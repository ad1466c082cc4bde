"""The methods that we compare, and the problem that they attack: the paper's model, clips and budgets.

Every method is a function (net, search, x, y, threat) -> adversarial signals, with the same start, number and size of
steps.  The libraries attack one tensor, so both modalities are packed into one: u in [0, 1] stands for x + eps (2 u - 1),
clamped to the signal's range, which turns two budgets into one ball.  If one modality is attacked, only that one is packed.
The weights are frozen, because `requires_grad_(False)` costs a user one line.  foolbox's MIM sums gradients without
normalising them first, so its loss may differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from avrobust.allocator import keep_memory

keep_memory()  # before the first tensor, in every process: it helps peers too

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from avrobust import (  # noqa: E402
    AV,
    FGSM,
    MIM,
    PGD,
    Seeds,
    Threat,
    engine,
)
from avrobust.config import from_plain, to_plain  # noqa: E402
from avrobust.models.network import AVNet  # noqa: E402
from avrobust.models.zoo import NetSpec  # noqa: E402
from avrobust.threat import Ball  # noqa: E402
from avrobust.training.recipe import fast_bfloat16  # noqa: E402
from avrobust.types import RANGE, Attack, Model, Signals  # noqa: E402

CLASSES = 11
SIZES = {"quick": (12_288, 64), "paper": (65_535, 224)}  # audio samples, pixels of a frame's side


@dataclass(frozen=True)
class Search:
    """FGSM, PGD or MIM, with the settings that all libraries have.

    >>> Search.parse("PGD-10").step
    0.25
    """

    kind: Literal["FGSM", "PGD", "MIM"]
    steps: int = 1
    random_start: bool = False

    @classmethod
    def parse(cls, name: str) -> "Search":
        """From a name in a table: "FGSM", "PGD-10", "MIM-10"."""
        kind, _, steps = name.partition("-")
        if kind not in ("FGSM", "PGD", "MIM"):
            raise ValueError(f"expected FGSM, PGD-<steps> or MIM-<steps>, got '{name}'. Use for example PGD-10.")
        return cls(kind, int(steps or 1))  # type: ignore[arg-type]

    @property
    def step(self) -> float:
        """Step size as a share of the budget."""
        return {"FGSM": 1.0, "PGD": 2.5 / self.steps, "MIM": 1 / self.steps}[self.kind]

    def ours(self) -> Attack:
        """The same as one of our attacks, with the last iterate as its result, as in the libraries."""
        if self.kind == "FGSM":
            return FGSM()
        kind = MIM if self.kind == "MIM" else PGD
        return kind(steps=self.steps, step=self.step, random_start=self.random_start, keep="last")


# The problem


@dataclass(frozen=True, eq=False)
class Problem:
    """A model in evaluation mode with frozen weights, and clips that it classifies correctly."""

    net: AVNet
    x: Signals
    y: Tensor

    @classmethod
    def make(cls, samples: int, pixels: int, clips: int, width: int = 64) -> "Problem":
        """The paper's model with random encoders, clips of noise, and margins from 0.01 to 10.

        BatchNorm has the statistics of these clips.  The classifier is the smallest one that gives each clip its own margin:
        every budget then fools some clips and not others, and a weak attack is visible.
        """
        draw = torch.Generator().manual_seed(0)
        x = AV(
            audio=torch.rand(clips, samples, generator=draw) - 0.5,
            visual=torch.rand(clips, 1, 3, pixels, pixels, generator=draw),
        )
        net = NetSpec(classes=CLASSES, width=width).build(seed=0).requires_grad_(False)
        for module in net.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = 1.0  # the statistics of the next batch alone
        with torch.no_grad():
            net.train()(x.map(lambda s: s[:8]))
        return cls(net.eval(), x, fit_margins(net, x, draw))

    def save(self, file: Path) -> None:
        """Write weights and clips, so that other processes attack the same ones."""
        whole = {"spec": to_plain(self.net.spec), "weights": self.net.state_dict(), "x": list(self.x), "y": self.y}
        torch.save(whole, file)

    @classmethod
    def load(cls, file: Path, device: torch.device) -> "Problem":
        """The problem that `save` wrote, on a device."""
        found = torch.load(file, weights_only=True)
        net = from_plain(found["spec"]).rebuild()
        net.load_state_dict(found["weights"])
        return cls(net.eval().requires_grad_(False), AV(*found["x"]), found["y"]).to(device)

    def to(self, device: torch.device) -> "Problem":
        """The same on another device."""
        return Problem(self.net.to(device), self.x.map(lambda s: s.to(device)), self.y.to(device))

    def first(self, clips: int) -> "Problem":
        """The first of the clips."""
        return Problem(self.net, self.x.map(lambda s: s[:clips]), self.y[:clips])


@torch.no_grad()
def fit_margins(net: AVNet, x: Signals, draw: torch.Generator) -> Tensor:
    """Give `net` the smallest classifier with which the clips have margins from 0.01 to 10; returns their classes."""
    parts, clips = zip(*(s.split(8) for s in x), strict=True), len(x.audio)
    f = torch.cat([torch.cat(list(net.embed(AV(*part))), 1) for part in parts])
    margin = 10 ** torch.linspace(-2, 1, clips)[torch.randperm(clips, generator=draw)]
    wanted = torch.nn.functional.one_hot(torch.arange(clips) % CLASSES, CLASSES).to(f) * margin.to(f)[:, None]
    weight = torch.linalg.pinv(f - f.mean(0)) @ (wanted - wanted.mean(0))
    net.classifier.weight.copy_(weight.T)
    net.classifier.bias.copy_(wanted.mean(0) - f.mean(0) @ weight)
    return (f @ weight + net.classifier.bias).argmax(1)


# Packing: libraries attack one tensor in [0, 1]


class Packed(torch.nn.Module):
    """`net` as a function of one tensor u: (b m) in [0, 1], 0.5 the clean clip, for the clips `x` and budgets `threat`."""

    def __init__(self, net: Model, x: Signals, threat: Threat) -> None:
        super().__init__()
        self.net, self.x, self.threat = net, x, threat
        self.weights = getattr(net, "module", None)  # of a surrogate: libraries ask a model's weights for the device
        self.sizes = threat.map(lambda ball, s: s[0].numel() if ball.active else 0, x)

    def signals(self, u: Tensor) -> Signals:
        """The clips that u encodes."""
        parts = AV(*u.flatten(1).split(list(self.sizes), dim=1))

        def unpack(ball: Ball, s: Tensor, part: Tensor, limits: tuple[float, float]) -> Tensor:
            if not ball.active:
                return s
            return (s + (2 * part.view_as(s) - 1) * ball.weight(s) * ball.eps).clamp(*limits)

        return self.threat.map(unpack, self.x, parts, RANGE)

    def start(self) -> Tensor:
        """The clean clips."""
        return self.x.audio.new_full((len(self.x.audio), sum(self.sizes)), 0.5)

    def forward(self, u: Tensor) -> Tensor:
        logits: Tensor = self.net(self.signals(u))
        return logits


# The methods


def plain(net: AVNet, search: Search, x: Signals, y: Tensor, threat: Threat) -> Signals:
    """The common loop: a full backward pass, parameters included, in every step."""
    net.requires_grad_(True)
    delta, velocity = x.map(torch.zeros_like), x.map(torch.zeros_like)
    if search.random_start:
        delta = threat.map(lambda ball, s: ball.project((2 * torch.rand_like(s) - 1) * ball.weight(s) * ball.eps, s), x)
    for _ in range(search.steps):
        at = x.map(lambda s, d: (s + d).requires_grad_(), delta)
        net.zero_grad()
        torch.nn.functional.cross_entropy(net(at), y, reduction="sum").backward()
        grad = at.map(lambda a: a.grad)
        if search.kind == "MIM":
            grad = velocity = velocity.map(
                lambda v, g: v + g / g.abs().flatten(1).mean(1).view(-1, *[1] * (g.ndim - 1)), grad
            )
        move = threat.map(Ball.ascent, grad, x)
        delta = threat.map(lambda ball, d, m, s: ball.project(d + m * search.step, s), delta, move, x)
    net.requires_grad_(False).zero_grad()
    return x.map(lambda s, d: s + d, delta)


def torchattacks(net: Model, search: Search, x: Signals, y: Tensor, threat: Threat) -> Signals:
    import torchattacks as library

    packed = Packed(net, x, threat).eval()
    path = {"eps": 0.5, "alpha": 0.5 * search.step, "steps": search.steps}
    attack = {
        "FGSM": lambda: library.FGSM(packed, eps=0.5),
        "PGD": lambda: library.PGD(packed, random_start=search.random_start, **path),
        "MIM": lambda: library.MIFGSM(packed, decay=1.0, **path),
    }[search.kind]()
    return packed.signals(attack(packed.start()[:, None, None], y).detach())


def foolbox(net: AVNet, search: Search, x: Signals, y: Tensor, threat: Threat) -> Signals:
    import foolbox as library

    packed = Packed(net, x, threat).eval()
    model = library.PyTorchModel(packed, bounds=(0, 1), device=x.audio.device)
    path = {"abs_stepsize": 0.5 * search.step, "steps": search.steps, "random_start": search.random_start}
    attack = {
        "FGSM": lambda: library.attacks.LinfFastGradientAttack(),
        "PGD": lambda: library.attacks.LinfProjectedGradientDescentAttack(**path),
        "MIM": lambda: library.attacks.LinfMomentumIterativeFastGradientMethod(**path),
    }[search.kind]()
    _, (u,), _ = attack(model, packed.start(), y, epsilons=[0.5])
    return packed.signals(u.detach())


def art(net: AVNet, search: Search, x: Signals, y: Tensor, threat: Threat) -> Signals:
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    packed = Packed(net, x, threat).eval()
    start = packed.start()
    model = PyTorchClassifier(
        packed, torch.nn.CrossEntropyLoss(), input_shape=tuple(start.shape[1:]), nb_classes=CLASSES, clip_values=(0, 1),
        device_type="gpu" if start.is_cuda else "cpu",
    )  # fmt: skip
    path = {"eps_step": 0.5 * search.step, "max_iter": search.steps, "verbose": False}
    attack = {
        "FGSM": lambda **size: evasion.FastGradientMethod(model, **size),
        "PGD": lambda **size: evasion.ProjectedGradientDescentPyTorch(
            model, num_random_init=int(search.random_start), **path, **size
        ),
        "MIM": lambda **size: evasion.MomentumIterativeMethod(model, **path, **size),
    }[search.kind](eps=0.5, batch_size=len(y))
    u = attack.generate(start.cpu().numpy(), np.asarray(y.cpu()))
    return packed.signals(torch.from_numpy(u).to(start))


def callable_(net: AVNet, search: Search, x: Signals, y: Tensor, threat: Threat) -> Signals:
    """Our attack on a plain callable: frozen weights, no engine."""
    return search.ours()(lambda s: net(s), x, y, threat, _seeds(y))


class OwnModule(nn.Module):
    """A user's own module, of which nothing is known."""

    def __init__(self, net: AVNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Signals) -> Tensor:
        """Logits."""
        return self.net(x)


class OwnStreams(OwnModule):
    """A user's own module with two streams, as `avrobust` asks for them."""

    def embed(self, x: Signals) -> Signals:
        """The features of each modality."""
        return self.net.embed(x)

    def decide(self, f: Signals) -> Tensor:
        """Logits of the features."""
        return self.net.decide(f)


def own(kind: type[OwnModule], net: AVNet, search: Search, x: Signals, y: Tensor, threat: Threat) -> Signals:
    """Our attack with the engine on a user's own module, which is the same one in all calls."""
    return ours("float32", _module(kind, net), search, x, y, threat)


@cache
def _module(kind: type[OwnModule], net: AVNet) -> OwnModule:
    return kind(net).eval()


def ours(precision: engine.Precision, net: nn.Module, search: Search, x: Signals, y: Tensor, threat: Threat) -> Signals:
    """Our attack with the engine; the time includes folding and the clean pass."""
    return search.ours()(engine.surrogate(net, x.map(lambda s: s[:1]), precision), x, y, threat, _seeds(y))


def tuned(precision: engine.Precision, net: AVNet, search: Search, x: Signals, y: Tensor, threat: Threat) -> Signals:
    """A library given the network that the engine takes gradients of; the time includes making it."""
    return torchattacks(engine.surrogate(net, x.map(lambda s: s[:1]), precision), search, x, y, threat)


def _seeds(y: Tensor) -> Seeds:
    return Seeds(0, tuple(map(str, range(len(y)))))


Method = Callable[[AVNet, Search, Signals, Tensor, Threat], Signals]
PEERS: dict[str, Method] = {"plain loop": plain, "torchattacks": torchattacks, "foolbox": foolbox, "ART": art}
# No peers: they show what the engine adds to the network that it makes.
TUNED: dict[str, Method] = {
    "torchattacks, our network, bfloat16": partial(tuned, "bfloat16"),
    "torchattacks, our network": partial(tuned, "float32"),
}
OURS: dict[str, Method] = {
    "any callable": callable_,
    "own module": partial(own, OwnModule),
    "own module, two streams": partial(own, OwnStreams),
    "engine, bfloat16": partial(ours, "bfloat16"),
    "engine": partial(ours, "float32"),
}
METHODS = PEERS | TUNED | OURS
LIBRARY = {"torchattacks": "torchattacks", "foolbox": "foolbox", "ART": "art"} | dict.fromkeys(TUNED, "torchattacks")


def available(device: torch.device) -> list[str]:
    """The methods whose libraries are installed; bfloat16 only on hardware where it is fast."""
    here = [name for name in METHODS if name not in LIBRARY or find_spec(LIBRARY[name])]
    return [name for name in here if not name.endswith("bfloat16") or fast_bfloat16(device)]
