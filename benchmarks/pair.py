"""What does the worst case cost for a pair of Hugging Face encoders?  AVAutoAttack on AST + ViT, beside torchattacks.

    .venv/bin/python benchmarks/pair.py                # both encoders at a tiny size: minutes on two cores
    .venv/bin/python benchmarks/pair.py --size base    # AST (10.24 s of audio) and ViT-B/16, with random weights: a GPU

The classifier is fitted so that the clips have margins from 0.01 to 10: every attack fools some and not others.  The library
is torchattacks' AutoAttack, with our numbers of steps and queries, one clip at a time (`strength.py` says why).  Ours runs
once in the same way, and once with all clips in a batch.  Both attack the waveform and the frames: the spectrogram, the
resizing and the normalisation lie inside the model.  Memory is the peak in addition to the model and the clips.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from measure import RUNS, device, peak, reset_memory, synchronise, with_ratios, write
from methods import fit_margins
from strength import PackedImage
from transformers import ASTConfig, ASTFeatureExtractor, ViTConfig, ViTImageProcessor

from avrobust import AV, AVAutoAttack, Seeds, Threat
from avrobust.models import pair
from avrobust.models.network import AVNet
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.types import Signals

CLASSES, RATE = 11, 16_000
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}


def problem(size: str, clips: int) -> tuple[AVNet, Signals, torch.Tensor]:
    """The pair with random weights, clips of noise, and their classes."""
    base, seconds = size == "base", 10.24 if size == "base" else 1.28
    frames, pixels = (1024, 224) if base else (128, 64)
    net = pair(
        ASTConfig(**({} if base else TINY), max_length=frames),
        ViTConfig(**({} if base else TINY), image_size=pixels),
        classes=CLASSES,
        rate=RATE,
        processors=AV(
            ASTFeatureExtractor(max_length=frames), ViTImageProcessor(size={"height": pixels, "width": pixels})
        ),
    )
    draw = torch.Generator().manual_seed(0)
    x = AV(
        audio=torch.rand(clips, int(seconds * RATE), generator=draw) - 0.5,
        visual=torch.rand(clips, 1, 3, pixels, pixels, generator=draw),
    )
    net = net.eval().requires_grad_(False).to(device())
    x = x.map(lambda s: s.to(device()))
    return net, x, fit_margins(net, x, draw)


def ours(net: AVNet, x: Signals, y: torch.Tensor, threat: Threat, steps: int, queries: int, batch: int) -> int:
    """How many clips are still correct after AVAutoAttack on so many at a time."""
    attack, correct = AVAutoAttack(steps=steps, queries=queries, targets=CLASSES - 1), 0
    for i in range(0, len(y), batch):
        part, labels = x.map(lambda s, i=i: s[i : i + batch]), y[i : i + batch]
        found = attack(net, part, labels, threat, Seeds(0, tuple(str(i + k) for k in range(len(labels)))))
        with torch.no_grad():
            correct += int((net(found).argmax(1) == labels).sum())
    return correct


def theirs(net: AVNet, x: Signals, y: torch.Tensor, threat: Threat, steps: int, queries: int) -> int:
    """The same of torchattacks' AutoAttack, one clip at a time."""
    import torchattacks as library

    correct = 0
    for i in range(len(y)):
        packed = PackedImage(net, x.map(lambda s, i=i: s[i : i + 1]), threat).eval()
        searches = library.AutoAttack(packed, eps=0.5, n_classes=CLASSES, seed=0)._autoattack.attacks
        for search in searches[:3]:
            search.steps = steps
        searches[3].n_queries = queries
        right = True
        for search in searches:
            if right:
                u = search(packed.start(), y[i : i + 1]).detach()
                with torch.no_grad():
                    right = bool(net(packed.signals(u)).argmax(1) == y[i : i + 1])
        correct += right
    return correct


def measured(work: Callable[[], int]) -> dict[str, Any]:
    """Seconds, memory and correct clips of one run."""
    held = reset_memory()
    synchronise()
    began = perf_counter()
    correct = work()
    synchronise()
    memory = None if held is None else (peak() - held) / 2**20
    return {"seconds": perf_counter() - began, "memory_mb": memory, "correct": correct}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["tiny", "base"], default="tiny")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--on", nargs="+", default=["A", "V", "AV"], choices=["A", "V", "AV"])
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    net, x, y = problem(args.size, args.clips)
    rows: list[dict[str, Any]] = []
    print(
        f"AST + ViT ({args.size}), {args.clips} clips, {args.steps} steps, {args.queries} queries; correct of {args.clips}"
    )
    for threat in (t for t in TABLE1 if t.subset in args.on):
        methods: dict[str, Callable[[], int]] = {
            "torchattacks": lambda t=threat: theirs(net, x, y, t, args.steps, args.queries),
            "engine, one at a time": lambda t=threat: ours(net, x, y, t, args.steps, args.queries, 1),
            "engine": lambda t=threat: ours(net, x, y, t, args.steps, args.queries, args.clips),
        }
        ours(net, x.map(lambda s: s[:1]), y[:1], threat, 2, 2, 1)  # warm up
        found = [{"method": name, "on": threat.subset} | measured(work) for name, work in methods.items()]
        rows += (found := with_ratios(found))
        for r in found:
            print(
                f"  {threat.subset:<3}{r['method']:<23}{r['seconds']:>8.1f} s ({r['faster']:.2f})  "
                f"{r['memory_mb'] or float('nan'):>7.0f} MB  {r['correct']}",
                flush=True,
            )
        asked = {"size": args.size, "clips": args.clips, "steps": args.steps, "queries": args.queries}
        write(args.out / f"pair-{args.size}.json", "pair", asked, rows)


if __name__ == "__main__":
    main()
