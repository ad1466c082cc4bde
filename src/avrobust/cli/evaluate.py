"""`avrobust evaluate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avrobust.cli.options import attack, parse
from avrobust.cli.subject import SubjectOptions, new
from avrobust.evaluation.evaluator import Evaluator, tasks
from avrobust.evaluation.schema import Rows
from avrobust.progress import track_progress
from avrobust.study.cells import unreadable
from avrobust.study.plan import Cell
from avrobust.threat import Threat

ABOUT = """Attack a model on your clips and say how often it is still right: on sound, on picture, on both.

The model is a checkpoint of this package, a folder that the paper's code wrote (sound_best.pth, frame_best.pth,
classifier_best.pth), or module:name of any callable that takes an AV of audio (b n) in [-1, 1] and visual
(b t 3 h w) in [0, 1] and returns logits; --clip and --view then say what it is given.

examples:
  avrobust evaluate models/mine/net.safetensors --data my_clips/ --audio 0.006 --visual 2/255
  avrobust evaluate my_package:model --data my_clips/ --classes dog,cat --attacks PGD-40x5 --audio "-44 dBFS" --out rows.parquet

With --strict the exit status is 1 where an alarm rises, which says that a number does not measure what it seems to;
warnings and notes leave it 0.
"""


@dataclass(frozen=True, kw_only=True)
class Options(SubjectOptions):
    attacks: tuple[str, ...] = ("FGSM", "PGD-10", "MIM-10")
    """FGSM, PGD-40, PGD-40x5 (steps, restarts), MIM-10, APGD-50, Square-1000, AVAutoAttack, or module:name."""
    out: Path | None = None
    """Write a row per clip to this Parquet file."""
    strict: bool = False
    """Exit with status 1 where an alarm rises, for continuous integration."""


def main(argv: Sequence[str]) -> int:
    """Parse, attack, print the table and what raises doubt in it; the exit status."""
    options = parse(Options, argv, "evaluate", ABOUT)
    todo = tasks([attack(text) for text in options.attacks], options.threat())
    if options.out is not None:
        new(options.out)
    model, clips, store, _ = options.open()
    subject = Evaluator(model, clips)
    cells = [subject.clean(options.seed)]
    with track_progress("attacking", len(todo)) as advance:
        for tried, t in todo:
            cells.append(subject.under(tried, t, options.seed))
            advance()
    cells.append(unreadable(store, Cell("model", options.seed, None, Threat.linf()), options.on))
    rows = Rows.concat(cells, subject.about)
    print(rows.table())
    for note in (flag for flag in rows.flags() if flag.level == "note"):
        print(f"note: {note.text}")
    readable, listed = store.counts(options.on)
    if readable < listed:
        print(
            f"{listed - readable} of {listed} clips could not be read and are not counted: avrobust show {store.path}"
        )
    if options.out is not None:
        rows.save(options.out)
    return int(options.strict and any(flag.level == "alarm" for flag in rows.flags()))
