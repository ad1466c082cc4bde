"""`avrobust plane`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from avrobust.allocator import keep_memory
from avrobust.cli import options as shared
from avrobust.cli.evaluate import model_of
from avrobust.cli.options import Clips, parse
from avrobust.data.prepare import prepare
from avrobust.evaluation.plane import Plane, Pool, frontiers
from avrobust.evaluation.run import label
from avrobust.media import ClipSpec
from avrobust.progress import bar
from avrobust.report import plane as report
from avrobust.study.record import code, world
from avrobust.threat import Threat
from avrobust.training import View, batches

ABOUT = """Attack a model at every pair of budgets for sound and picture, and find each clip's smallest joint budget.

A clip that falls falls at every larger budget too, so the whole plane costs a few cells. Writes one page, and the rows
behind it beside it as Parquet: a line for each clip and budget, with how the answer is known. Given such rows instead
of a model, it writes the page again.

example:
  avrobust plane models/mine/net.safetensors --data my_clips/ --audio 0.012 --visual "0.048 normalised" --out plane.html
"""


@dataclass(frozen=True)
class Options:
    model: tyro.conf.Positional[str]
    """A checkpoint, a folder of the published code's, module:name, or the rows of an earlier plane."""
    out: Path
    """The page to write; its rows go beside it, as .parquet."""
    clips: Annotated[Clips, tyro.conf.arg(name="")] = field(default_factory=Clips)
    audio: str = "0"
    """The sound's largest budget: 0.006, "-44.4 dBFS", or with --norm l2 "40 dB SNR"."""
    visual: str = "0"
    """The picture's largest budget: 2/255, 0.006, or "0.006 normalised"."""
    norm: Literal["linf", "l2"] = "linf"
    levels: int = 8
    """Equal steps of each budget."""
    step_db: float = 1.0
    """How exactly each clip's smallest joint budget is found, in dB."""
    floor_db: float = 40.0
    """How far below the largest budgets it is looked for, in dB."""
    attack: str = "PGD-10"
    """FGSM, PGD-40, PGD-40x5 (steps, restarts), MIM-10, APGD-50, Square-1000, AVAutoAttack, or module:name."""
    on: Literal["train", "val", "test"] = "test"
    """Which split."""
    limit: int | None = None
    """At most so many clips."""
    batch: int = 64
    seed: int = 0
    clip: ClipSpec = field(default_factory=ClipSpec)
    """What a model of your own is given is cut from this; a checkpoint knows its own."""
    view: View = field(default_factory=View)
    """What a model of your own is given; a checkpoint knows its own."""
    prepared: Path = Path("data/prepared/evaluate")
    """Where prepared clips are kept."""


def main(argv: Sequence[str]) -> None:
    """Parse, attack, write rows and page, print the plane."""
    options = parse(Options, argv, "plane", ABOUT)
    if options.out.exists():
        raise ValueError(f"{options.out}: expected a new file, got one that exists. Give another --out.")
    rows = Path(options.model)
    if rows.suffix != ".parquet":
        rows = options.out.with_suffix(".parquet")
        measure(options, rows, "avrobust plane " + " ".join(argv))
    report.write(rows, options.out)
    print(report.summary(report.Surface.read(rows)))
    print(f"\nThe page: {options.out}")


def measure(options: Options, rows: Path, command: str) -> None:
    """Every clip under every budget, to a file of rows."""
    source = options.clips.source()
    if source is None:
        raise ValueError("expected --data, a csv table of clips or a folder of <class>/<video>.mp4.")
    if rows.exists():
        raise ValueError(f"{rows}: expected a new file, got one that exists. Give another --out.")
    keep_memory()
    threat = (Threat.linf if options.norm == "linf" else Threat.l2)(audio=options.audio, visual=options.visual)
    plane = Plane(threat, options.levels, options.floor_db, options.step_db)
    attack = shared.attack(options.attack)
    model, spec, view, classes = model_of(options.model, options.clip, options.view)
    manifest = source.manifest()
    if classes:  # the model's numbers, whichever of its classes these clips are of
        manifest = replace(manifest, classes=classes)
    store = prepare(manifest, spec, options.prepared)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(model, torch.nn.Module):
        model.to(device)
    clips = [b.to(device) for b in batches(store, options.on, view, options.batch, limit=options.limit)]
    start = time.perf_counter()
    pool = Pool(model, clips, name=options.model)
    threats = (*plane.cells, *plane.ladder)
    with bar("answers", len(pool) * len(set(threats)), count=False) as advance:
        found = frontiers(pool, attack, threats, seed=options.seed, advance=advance)
    readable, listed = store.counts(options.on)
    about = {
        "model": options.model, "attack": label(attack), "threat": str(threat), "levels": plane.levels,
        "step_db": plane.step_db, "floor_db": plane.floor_db, "seed": options.seed, "data": store.name,
        "listed": listed, "unread": listed - readable, "prepared": str(options.prepared),
        "seconds": time.perf_counter() - start, "command": command, "rows": rows.name, "page": options.out.name,
        "code": code(), "world": world(device),
    }  # fmt: skip
    found.save(rows, about)
