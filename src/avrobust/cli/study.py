"""`avrobust study`."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import tyro

from avrobust import report
from avrobust.cli.options import Clips, Group, parse, side_by_side
from avrobust.cli.studies import STUDIES, named
from avrobust.data.orchestra import Orchestra
from avrobust.data.source import Source
from avrobust.media import ClipSpec
from avrobust.study import Study
from avrobust.study.cost import announced, cost, counted, estimate
from avrobust.study.failures import failures, words
from avrobust.study.runner import run
from avrobust.training import View

ABOUT = f"""Run an experiment from videos to report. Studies: {", ".join(STUDIES)}, or module:name of your own.

Without --data it runs on the procedural orchestra; the studies of the paper, tian2021_*, need your videos. Run the
same command again to go on after an interruption.

examples:
  avrobust study quick
  avrobust study quick --data my_clips/ --out runs/mine --epochs 24
  avrobust study tian2021_music --data /media/MUSIC
  avrobust study quick --data words.csv --label digit --start t0 --end t1 --clip.seconds 0.5 --view.samples 5000
"""


@dataclass(frozen=True)
class Options:
    name: tyro.conf.Positional[str]
    """Which study."""
    out: Path | None = None
    """The run's folder; default runs/<name>."""
    cache: Path = Path("data")
    """Where the orchestra's videos and prepared clips are kept, for other runs to share."""
    clips: Group[Clips] = field(default_factory=Clips)
    seeds: tuple[int, ...] = (0,)
    """Each seed trains and attacks every model anew."""
    epochs: int | None = None
    """Of a whole training, instead of the recipe's own number; shorter ones shrink or grow with it."""
    visual_weights: str | None = None
    """Where networks of pictures start: a name on the model hub, the folder of one, or none for random weights."""
    attacked: int | None = None
    """How many test clips are attacked; all, when it is more than there are."""
    clip: ClipSpec = field(default_factory=ClipSpec)
    """What is kept of each file: length, rates, size."""
    view: View = field(default_factory=View)
    """The part of each clip that a model receives."""
    orchestra: Orchestra = field(default_factory=Orchestra)
    """The generated dataset: how many clips, how difficult."""
    tracker: str | None = None
    """Curves to this tracker as well, for example tensorboard."""
    workers: int | None = None
    """Processes that share the models; default 2 where there is no GPU, else 1. More may join from elsewhere: the
    same command, in a folder that all of them see, on other machines too."""
    quiet: bool = False
    """No progress bars."""


def main(argv: Sequence[str]) -> None:
    """Parse, run, print the short table and the report's path."""
    options, study = read(argv)
    if isinstance(study.data, Source) and not options.quiet:  # the orchestra's studies say themselves what they take
        print(estimate(study, counted(study.data.manifest())), flush=True)
    page = side_by_side(partial(work, tuple(argv)), options.workers, quiet=options.quiet)
    print(report.summary(page.parent))
    print(f"\nThe report: {page}")
    refuse_failures(page.parent)


def refuse_failures(out: Path) -> None:
    """Raise `ValueError` where a model or an attack of the run failed."""
    if missing := failures(json.loads((out / "run.json").read_text())):
        for told in missing.values():
            print(words(told, out), file=sys.stderr)
        names = sorted({f"{told['model']} (seed {told['seed']})" for told in missing.values()})
        raise ValueError(
            f"expected all of the study, got it without {len(missing)} part{'s' if len(missing) > 1 else ''}, of "
            f"{', '.join(names)}. See {out / 'failures'}; the same command tries them again."
        )


def work(argv: Sequence[str], quiet: bool) -> Path:
    """Run what the words ask for, as one of several processes or alone; returns the report's path."""
    options, study = read(argv)
    return run(
        study,
        options.out or Path("runs") / study.name,
        data=options.cache,
        command=f"avrobust study {shlex.join(argv)}",
        progress=not quiet,
        tracker=options.tracker,
    )


def read(argv: Sequence[str]) -> tuple[Options, Study]:
    """What the words ask for, and the study that it makes."""
    # Read twice: which word is the name, rather than an option's value, only a parser knows; and the study says what
    # the options are where they are not given.
    asked = [word for word in argv if word not in ("-h", "--help")]
    first = parse(Options, asked, "study", ABOUT, default=Options("quick")).name
    study = named(first) if len(asked) == len(argv) or first in STUDIES else named("quick")
    default = Options(
        first, clip=study.clip, view=study.view, seeds=study.seeds, attacked=study.attacked, epochs=study.epochs,
        visual_weights=study.models[0].visual_weights,
        orchestra=study.data if isinstance(study.data, Orchestra) else Orchestra(),
        clips=Clips() if isinstance(study.data, Orchestra) else Clips.of(study.data),
    )  # fmt: skip
    asked_for_help = len(asked) < len(argv)
    about = f"{ABOUT}\n{study.name}: {cost(study, clips)}" if asked_for_help and (clips := announced(study)) else ABOUT
    options = parse(Options, argv, "study", about, default=default)
    data = options.clips.source() or (options.orchestra if isinstance(study.data, Orchestra) else None)
    if data is None:
        raise ValueError(
            f"'{study.name}' runs on your videos: expected --data, got none. Give a folder of <class>/<video>.mp4, "
            f"a csv table, or with --lists the media of the published lists:\n"
            f"  avrobust study {first} --data /media/videos\n"
            f"  avrobust study {first} --data /media/videos --lists lists/"
        )
    if options.visual_weights != default.visual_weights:  # else each model keeps its own
        weights = None if options.visual_weights in (None, "none") else options.visual_weights
        study = replace(study, models=tuple(replace(c, visual_weights=weights) for c in study.models))
    return options, replace(
        study.on(data), clip=options.clip, view=options.view, seeds=options.seeds,
        epochs=options.epochs, attacked=options.attacked,
    )  # fmt: skip
