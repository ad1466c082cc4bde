"""What does an attack cost?  Our engine beside torchattacks, foolbox, ART and a plain loop, in one run.

    make bench                                            # the quick study's inputs, some minutes on two cores
    .venv/bin/python benchmarks/attacks.py --paper        # 224 x 224 and 65,535 samples, batch 8
    .venv/bin/python benchmarks/attacks.py --paper --batch 32 --attacks PGD-10 --on AV

All ways attack the same clips, weights and budgets from the same start, with the same number and length of steps.
The libraries take one tensor, so both inputs are packed into one: u in [0, 1] stands for x + eps (2 u - 1), clamped to
the signal's range, which makes one ball of two budgets; where one modality is attacked, only that one is packed.
They are given frozen weights, as `requires_grad_(False)` costs a user one line.  Absolute speeds belong to the
machine; what counts are the ratios within one run, with the loss that was reached (judged by the model itself) and
the accuracy that was left beside them: a fast weak attack does not count.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from avrobust.allocator import keep_memory

keep_memory()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from avrobust import AV, MIM, PGD, Seeds, Threat, cross_entropy  # noqa: E402
from avrobust.attacks import engine  # noqa: E402
from avrobust.models.network import AVNet  # noqa: E402
from avrobust.models.zoo import NetSpec, build  # noqa: E402
from avrobust.threat import Ball  # noqa: E402
from avrobust.types import RANGE, Signals  # noqa: E402

BUDGETS = {"A": Threat.tian2021(0.006, 0.0), "V": Threat.tian2021(0.0, 0.024), "AV": Threat.tian2021(0.006, 0.024)}
MOMENTUM = "MIM"


# Packing: one tensor of numbers in [0, 1] for libraries that know only that


class Packed(torch.nn.Module):
    """`net` as a function of one tensor u: (b m) in [0, 1], 0.5 the clean clip, for the clips `x` and budgets `threat`."""

    def __init__(self, net: AVNet, x: Signals, threat: Threat) -> None:
        super().__init__()
        self.net, self.x, self.threat = net, x, threat
        self.sizes = threat.map(lambda ball, s: s[0].numel() if ball.active else 0, x)

    def signals(self, u: torch.Tensor) -> Signals:
        u = u.flatten(1)
        parts = AV(*u.split(list(self.sizes), dim=1))

        def unpack(ball: Ball, s: torch.Tensor, part: torch.Tensor, limits: tuple[float, float]) -> torch.Tensor:
            if not ball.active:
                return s
            return (s + (2 * part.view_as(s) - 1) * ball.weight(s) * ball.eps).clamp(*limits)

        return self.threat.map(unpack, self.x, parts, RANGE)

    def start(self) -> torch.Tensor:
        return torch.full((len(self.x.audio), sum(self.sizes)), 0.5)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(self.signals(u))
        return logits


def plain(net: AVNet, attack: str, steps: int, x: Signals, y: torch.Tensor, threat: Threat) -> Signals:
    """The loop as it is often written: a full backward pass, parameters included, for every step."""
    net.requires_grad_(True)
    delta, velocity = x.map(torch.zeros_like), x.map(torch.zeros_like)
    for _ in range(steps):
        at = x.map(lambda s, d: (s + d).requires_grad_(), delta)
        net.zero_grad()
        torch.nn.functional.cross_entropy(net(at), y, reduction="sum").backward()
        grad = at.map(lambda a: a.grad)
        if attack == MOMENTUM:
            grad = velocity = velocity.map(
                lambda v, g: v + g / g.abs().flatten(1).mean(1).view(-1, *[1] * (g.ndim - 1)), grad
            )
        move = threat.map(Ball.ascent, grad, x)
        delta = threat.map(lambda ball, d, m, s: ball.project(d + m * length(attack, steps), s), delta, move, x)
    net.requires_grad_(False)
    return x.map(lambda s, d: s + d, delta)


def length(attack: str, steps: int) -> float:
    """Of a step, as a share of the budget."""
    return 1 / steps if attack == MOMENTUM else 2.5 / steps


def torchattacks(net: AVNet, attack: str, steps: int, x: Signals, y: torch.Tensor, threat: Threat) -> Signals:
    import torchattacks as library

    packed = Packed(net, x, threat).eval()
    alpha = 0.5 * length(attack, steps)
    if attack == MOMENTUM:
        search = library.MIFGSM(packed, eps=0.5, alpha=alpha, steps=steps, decay=1.0)
    else:
        search = library.PGD(packed, eps=0.5, alpha=alpha, steps=steps, random_start=False)
    return packed.signals(search(packed.start()[:, None, None], y).detach())


def foolbox(net: AVNet, attack: str, steps: int, x: Signals, y: torch.Tensor, threat: Threat) -> Signals:
    import foolbox as library

    packed = Packed(net, x, threat).eval()
    model = library.PyTorchModel(packed, bounds=(0, 1), device="cpu")
    kind = library.attacks.LinfMomentumIterativeFastGradientMethod if attack == MOMENTUM else None
    kind = kind or library.attacks.LinfProjectedGradientDescentAttack
    search = kind(abs_stepsize=0.5 * length(attack, steps), steps=steps, random_start=False)
    _, (u,), _ = search(model, packed.start(), y, epsilons=[0.5])
    return packed.signals(u.detach())


def art(net: AVNet, attack: str, steps: int, x: Signals, y: torch.Tensor, threat: Threat) -> Signals:
    from art.attacks.evasion import MomentumIterativeMethod, ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    packed = Packed(net, x, threat).eval()
    start = packed.start()
    model = PyTorchClassifier(
        packed, torch.nn.CrossEntropyLoss(), input_shape=tuple(start.shape[1:]), nb_classes=11, clip_values=(0, 1), device_type="cpu"
    )  # fmt: skip
    kind = (
        MomentumIterativeMethod if attack == MOMENTUM else partial(ProjectedGradientDescentPyTorch, num_random_init=0)
    )
    search = kind(
        model, eps=0.5, eps_step=0.5 * length(attack, steps), max_iter=steps, batch_size=len(y), verbose=False
    )
    return packed.signals(torch.from_numpy(search.generate(start.numpy(), np.asarray(y))))


def ours(net: AVNet, precision: engine.Precision, attack: str, steps: int, x: Signals, y: torch.Tensor, threat: Threat) -> Signals:  # fmt: skip
    """Through the engine, everything counted: folding and the clean pass as well."""
    kind = MIM if attack == MOMENTUM else PGD
    search = kind(steps=steps, step=length(attack, steps), random_start=False, keep="last")
    craft = engine.crafting(net, x.map(lambda s: s[:2]), precision)
    return search(craft, x, y, threat, Seeds(0, tuple(map(str, range(len(y))))))


def whole_autograd(net: AVNet, attack: str, steps: int, x: Signals, y: torch.Tensor, threat: Threat) -> Signals:
    """Our own search, on the network as any callable: frozen weights, nothing else."""
    kind = MIM if attack == MOMENTUM else PGD
    search = kind(steps=steps, step=length(attack, steps), random_start=False, keep="last")
    return search(lambda s: net(s), x, y, threat, Seeds(0, tuple(map(str, range(len(y))))))


WAYS: dict[str, Callable[..., Signals]] = {
    "plain loop": plain,
    "torchattacks": torchattacks,
    "foolbox": foolbox,
    "ART": art,
    "any callable": whole_autograd,
    "engine, float32": lambda net, *rest: ours(net, "float32", *rest),
    "engine": lambda net, *rest: ours(net, "auto", *rest),
}
PEERS = ("plain loop", "torchattacks", "foolbox", "ART")


# Measuring


def seconds(work: Callable[[], Signals], repeats: int) -> tuple[float, Signals]:
    """The median time after one warm-up, and what came out."""
    out = work()
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        out = work()
        spent.append(time.perf_counter() - began)
    return sorted(spent)[repeats // 2], out


def roofline(net: AVNet, x: Signals, y: torch.Tensor) -> None:
    """What share of the machine's own matrix-product speed a gradient step on both modalities reaches."""
    craft = engine.crafting(net, x.map(lambda s: s[:2]))
    dtype = craft.dtype if isinstance(craft, engine.Streams) else torch.float32
    a = torch.randn(2048, 2048, dtype=dtype)
    spent, _ = seconds(lambda: a @ a, 9)
    top = 2 * 2048**3 / spent
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        craft(x)
    parts = {}
    for subset, threat in BUDGETS.items():
        spent, _ = seconds(lambda threat=threat: engine.gradient(craft, cross_entropy, x, y, threat)[1], 5)
        parts[subset] = spent
    work = 2 * counter.get_total_flops()  # the gradient of the input costs as much again; weights have none
    print(
        f"\nroofline: matrix product 2048^2 in {str(dtype).removeprefix('torch.')} {top / 1e9:.0f} GFLOP/s; "
        f"a step on both: {work / len(y) / 1e9:.2f} GFLOP per clip, {work / parts['AV'] / 1e9:.0f} GFLOP/s, {work / parts['AV'] / top:.0%} of it"
    )


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--paper", action="store_true", help="the paper's input sizes instead of the quick study's")
    words.add_argument("--batch", type=int, default=None)
    words.add_argument("--repeats", type=int, default=1)
    words.add_argument("--attacks", nargs="+", default=["PGD-10"])
    words.add_argument("--on", nargs="+", default=list(BUDGETS), choices=list(BUDGETS))
    words.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    words.add_argument("--json", type=Path, default=None, help="the figures, for a picture of them")
    given = words.parse_args()
    samples, size, batch = (65_535, 224, 8) if given.paper else (12_288, 64, 16)
    batch = given.batch or batch
    net, x, y = problem(samples, size, batch)
    print(
        f"{torch.get_num_threads()} threads, batch {batch}, {samples} samples, {size} x {size}; median of {given.repeats}, "
        "after one warm-up; ratio to the fastest peer; loss and robust accuracy after\n"
    )
    kept = []
    for named in given.attacks:
        attack, steps = named.split("-")[0], int(named.split("-")[1])
        for subset in given.on:
            found = {}
            for name in given.ways:
                work = partial(WAYS[name], net, attack, steps, x, y, BUDGETS[subset])
                try:
                    spent, adversarial = seconds(work, given.repeats)
                except ImportError as error:
                    print(f"{name}: not installed ({error.name})")
                    continue
                with torch.no_grad():
                    loss = float(cross_entropy(net, adversarial, y).mean())
                    left = float((net(adversarial).argmax(1) == y).float().mean())
                found[name] = {"clips_per_s": batch / spent, "loss": loss, "accuracy": left}
            fastest = max((f["clips_per_s"] for n, f in found.items() if n in PEERS), default=float("nan"))
            print(f"{named} on {subset:<10}{'clips/s':>10}{'ratio':>8}{'loss':>9}{'robust':>8}")
            for name, f in found.items():
                ratio = f["clips_per_s"] / fastest
                print(
                    f"  {name:<18}{f['clips_per_s']:>8.2f}{ratio:>8.2f}{f['loss']:>9.3f}{f['accuracy']:>8.0%}",
                    flush=True,
                )
                kept.append(
                    {"attack": named, "on": subset, "way": name, "batch": batch, "samples": samples, "size": size, **f}
                )
    roofline(net, x, y)
    if given.json:
        given.json.write_text(json.dumps(kept, indent=1))


def problem(samples: int, size: int, batch: int) -> tuple[AVNet, Signals, torch.Tensor]:
    """The paper's network with random weights, and clips that it tells apart."""
    draw = torch.Generator().manual_seed(0)
    x = AV(
        audio=torch.rand(batch, samples, generator=draw) - 0.5,
        visual=torch.rand(batch, 1, 3, size, size, generator=draw),
    )
    net = build(NetSpec(classes=11, classifier_std=0.3), seed=0)  # logits as wide as a trained network's
    with torch.no_grad():  # statistics of these inputs, so that folding has something to fold
        net.train()(x)
        y = net.eval()(x).argmax(1)
    net.requires_grad_(False)
    return net, x, y


if __name__ == "__main__":
    main()
