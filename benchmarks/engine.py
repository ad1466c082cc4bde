"""What does an attack cost? PGD-10 on the paper's network: our engine beside plain PyTorch loops, in one run.

    make bench                              # the quick study's size, about two minutes on two cores
    .venv/bin/python benchmarks/engine.py --paper     # 224 x 224 and 65,535 samples
All ways attack the same clips, weights and budgets from the same start. Absolute speeds belong to the machine; what
counts are the ratios within one run, and that the loss reached (judged by the model itself) is the same.
"""

import argparse
import time
from collections.abc import Callable

from avrobust.allocator import keep_memory

keep_memory()

import torch  # noqa: E402

from avrobust import AV, PGD, Seeds, Threat, cross_entropy  # noqa: E402
from avrobust.attacks import engine  # noqa: E402
from avrobust.models.zoo import NetSpec, build  # noqa: E402
from avrobust.types import Model, Signals  # noqa: E402

BUDGETS = {"A": Threat.tian2021(0.006, 0.0), "V": Threat.tian2021(0.0, 0.024), "AV": Threat.tian2021(0.006, 0.024)}


def published_loop(net: torch.nn.Module, x: Signals, y: torch.Tensor, threat: Threat) -> Signals:
    """PGD-10 as it is often written: a full backward pass, parameters included, for every step."""
    delta = x.map(torch.zeros_like)
    for _ in range(10):
        at = x.map(lambda s, d: (s + d).requires_grad_(), delta)
        net.zero_grad()
        torch.nn.functional.cross_entropy(net(at), y, reduction="sum").backward()
        step = threat.map(lambda ball, s, a: ball.ascent(a.grad, s) / 4, x, at)
        delta = threat.map(lambda ball, d, m, s: ball.project(d + m, s), delta, step, x)
    return x.map(lambda s, d: s + d, delta)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--paper", action="store_true", help="the paper's input sizes instead of the quick study's")
    words.add_argument("--batch", type=int, default=None)
    words.add_argument("--repeats", type=int, default=3)
    given = words.parse_args()
    samples, size, batch = (65_535, 224, 8) if given.paper else (12_288, 64, 64)
    batch = given.batch or batch

    draw = torch.Generator().manual_seed(0)
    x = AV(
        audio=torch.rand(batch, samples, generator=draw) - 0.5,
        visual=torch.rand(batch, 1, 3, size, size, generator=draw),
    )
    net = build(NetSpec(classes=11), seed=0)
    with torch.no_grad():  # statistics of real inputs, so that folding has something to fold
        net.train()(x)
        y = net.eval()(x).argmax(1)
    seeds, attack = Seeds(0, tuple(map(str, range(batch)))), PGD(step=0.25, random_start=False, keep="last")

    def crafted(model: Model) -> Callable[[Threat], Signals]:
        return lambda threat: attack(model, x, y, threat, seeds)

    ways: dict[str, Callable[[Threat], Signals]] = {
        "published loop": lambda threat: published_loop(net, x, y, threat),
        "plain autograd": crafted(lambda s: net(s)),
        "engine, float32": crafted(engine.crafting(net, x, "float32")),
        "engine": crafted(engine.crafting(net, x)),
    }
    print(
        f"{torch.get_num_threads()} threads, batch {batch}, {samples} samples, {size} x {size}; median of {given.repeats}, after one warm-up\n"
    )
    print(f"{'PGD-10':<18}" + "".join(f"{s + ' clips/s':>14}{'ratio':>8}{'loss':>8}" for s in BUDGETS))
    base: dict[str, float] = {}
    for name, way in ways.items():
        line = f"{name:<18}"
        for subset, threat in BUDGETS.items():
            seconds = []
            for _ in range(1 + given.repeats):
                began = time.perf_counter()
                adversarial = way(threat)
                seconds.append(time.perf_counter() - began)
            speed = batch / sorted(seconds[1:])[given.repeats // 2]
            base.setdefault(subset, speed)
            with torch.no_grad():
                loss = float(cross_entropy(net, adversarial, y).mean())
            line += f"{speed:>14.2f}{speed / base[subset]:>8.1f}{loss:>8.3f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
