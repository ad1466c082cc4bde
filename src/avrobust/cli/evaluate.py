"""`avrobust evaluate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avrobust.cli.model import EvaluationOptions, new
from avrobust.cli.options import ATTACK_HELP, Maybe, attack, parse
from avrobust.evaluation.evaluator import Evaluator, tasks
from avrobust.evaluation.schema import Rows
from avrobust.progress import track_progress
from avrobust.study.cells import unreadable
from avrobust.study.plan import Cell
from avrobust.threat import Threat

ABOUT = """Attack a model on your clips and print its clean and robust accuracy: audio-only, visual-only and joint attacks.

examples:
  avrobust evaluate models/mine/net.safetensors --data my_clips/ --audio 0.006 --visual 2/255
  avrobust evaluate my_package:model --data my_clips/ --classes dog,cat --audio "-44 dBFS" --attacks PGD-40 AVAutoAttack

MODEL is a checkpoint of avrobust, a folder of weights that the paper's code wrote (sound_best.pth, frame_best.pth,
classifier_best.pth), or module:name of any callable that takes an AV of audio (b n) in [-1, 1] and visual (b t 3 h w)
in [0, 1] and returns logits. For module:name, --clip and --view set what the model receives.

Below the table stand flags: reasons to doubt its numbers (docs/flags.md).
"""


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    attacks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ATTACK ...", help=ATTACK_HELP)] = (
        "FGSM",
        "PGD-10",
        "MIM-10",
    )
    out: Maybe[Path] = None
    """Write one row per clip and attack to this Parquet file."""
    strict: bool = False
    """Exit with status 1 if a flag is an alarm, for continuous integration."""


def main(argv: Sequence[str]) -> int:
    """Parse, attack, print the table and its flags; returns the exit status."""
    options = parse(Options, argv, "evaluate", ABOUT)
    jobs = tasks([attack(text) for text in options.attacks], options.threat())
    if options.out is not None:
        new(options.out)
    model, clips, store, _ = options.open()
    on, seed = options.run.on, options.run.seed
    evaluator = Evaluator(model, clips)
    cells = [evaluator.clean(seed)]
    with track_progress("attacking", len(jobs)) as advance:
        for tried, threat in jobs:
            cells.append(evaluator.under(tried, threat, seed))
            advance()
    cells.append(unreadable(store, Cell("model", seed, None, Threat.linf()), on))
    rows = Rows.concat(cells, evaluator.about)
    print(rows.table())
    for note in (flag for flag in rows.flags() if flag.level == "note"):
        print(f"note: {note.text}")
    readable, listed = store.counts(on)
    if readable < listed:
        print(
            f"{listed - readable} of {listed} clips could not be read and are not counted: avrobust show {store.path}"
        )
    if options.out is not None:
        rows.save(options.out)
    return int(options.strict and any(flag.level == "alarm" for flag in rows.flags()))
