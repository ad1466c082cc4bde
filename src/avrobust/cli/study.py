"""`avrobust study`."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from avrobust import report
from avrobust.allocator import keep_memory
from avrobust.cli.answer import Answer, note
from avrobust.cli.options import Clips, Device, Flag, Group, Json, Listing, Maybe, box, parse
from avrobust.cli.places import folder, new_file
from avrobust.cli.studies import PAPERS, STUDIES, named
from avrobust.data.orchestra import Orchestra
from avrobust.data.source import Source
from avrobust.evaluation.results import results
from avrobust.media import ClipSpec
from avrobust.models.zoo import NetSpec
from avrobust.study import ModelConfig, Study
from avrobust.study.cost import announced, cost, counted, estimate
from avrobust.study.failures import failures, words
from avrobust.study.machines import Machines
from avrobust.study.runner import run
from avrobust.training import View

ABOUT = f"""Run an experiment, from videos to a report.

NAME is one of {", ".join(STUDIES)}, my_study.py or module:name of your own. Without --data it runs on the procedural
orchestra; tian2021_music, tian2021_kinetics_sounds and tian2021_ave need your videos. After an interruption, the same
command continues.

examples:
  avrobust study quick
  avrobust study quick --data my_clips/ --out runs/mine --epochs 24
  avrobust study tian2021_music --data /media/MUSIC
  avrobust study standard --on ray --cpus 4
  avrobust study my_study.py --seeds 0 1 2
  avrobust study quick --data words.csv --label digit --start t0 --end t1 --clip.seconds 0.5 --view.samples 5000
"""


@dataclass(frozen=True)
class Output(Json):
    """What is written, and how the command ends."""

    out: Maybe[Path] = None
    """Folder of the run; default runs/NAME. The report is its report.html."""
    html: Maybe[Path] = None
    """Write the report to this HTML file, too."""
    strict: Flag = False
    """Exit with status 1 if a flag is an alarm, for continuous integration."""
    quiet: Flag = False
    """Show no progress."""
    tracker: Maybe[str] = None
    """Also send training curves to this tracker, for example tensorboard."""
    cache: Path = Path("data")
    """Folder of the orchestra's videos and of prepared clips, which runs share."""


@dataclass(frozen=True)
class MachineOptions:
    """Where the work is done."""

    device: Device = None
    workers: Maybe[int] = None
    """Processes that share the models; default 1 with a GPU, else 2. On Ray: at most this many tasks at a time."""
    on: Maybe[str] = None
    """ray (the cluster that this machine belongs to, or this machine) or ray://host:10001. Nodes share the folders of --out and --cache."""
    cpus: Maybe[int] = None
    """Threads of each task; default: its share of this machine, on Ray 1."""
    gpus: Maybe[float] = None
    """On Ray: GPUs of each task; default 1 if the cluster has any."""
    memory_gb: Maybe[float] = None
    """On Ray: memory of each task, in GiB."""


@dataclass(frozen=True)
class Options:
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """Study to run: a name, a file that defines `study`, or module:name."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SEED ...")] = (0,)
    """Train and attack every model once per seed."""
    epochs: Maybe[int] = None
    """Epochs of a whole training, instead of the recipe's own number; shorter trainings keep their share."""
    attacked: Maybe[int] = None
    """Attack at most this many test clips."""
    visual_weights: Maybe[str] = None
    """Initial weights of visual encoders: efficientnet-lite0 (the extra avrobust[imagenet]), a name on the model hub, a folder, or none for random weights."""
    clips: Annotated[Group[Clips], box("data")] = field(default_factory=Clips)
    machines: Annotated[Group[MachineOptions], box("resources")] = field(default_factory=MachineOptions)
    output: Group[Output] = field(default_factory=Output)
    listing: Annotated[Group[Listing], box("listing of the clips")] = field(default_factory=Listing)
    clip: ClipSpec = field(default_factory=ClipSpec)
    """What is kept of each file: length, rates, size."""
    view: View = field(default_factory=View)
    """The part of each clip that a model receives."""
    orchestra: Orchestra = field(default_factory=Orchestra)
    """The generated dataset: how many clips, how difficult."""


def main(argv: Sequence[str]) -> Answer:
    """Parse, run; the answer is the short table and the report's path."""
    options, study = read(argv)
    output = options.output
    out = folder(output.out or Path("runs") / study.name, "--out")
    folder(output.cache, "--cache")
    if output.html:
        new_file(output.html, "--html")
    machines = Machines(**vars(options.machines))
    keep_memory()
    if isinstance(study.data, Source) and not output.quiet:  # the orchestra's studies state their own cost
        note((manifest := study.data.manifest()).splits)
        note(estimate(study, counted(manifest)))
    page = run(
        study,
        out,
        data=output.cache,
        command=f"avrobust study {shlex.join(argv)}",
        progress=not output.quiet,
        tracker=output.tracker,
        machines=machines,
    )
    return answered(out, report.write(out, output.html, PAPERS) if output.html else page, output)


def answered(out: Path, page: Path, output: Output) -> Answer:
    """What a run came to."""
    told = results(report.rows_of(out)) | {"page": page}
    doubted = output.strict and any(flag["level"] == "alarm" for flag in told["flags"])
    return Answer(
        f"{report.summary(out)}\n\nThe report: {page}", told, output.json, status=int(not complete(out) or doubted)
    )


def complete(out: Path) -> bool:
    """Whether every model and attack of a run succeeded; says what failed, and what to do."""
    missing = failures(json.loads((out / "run.json").read_text()))
    for told in missing.values():
        note(words(told, out))
    if missing:
        names = sorted({f"{told['model']} (seed {told['seed']})" for told in missing.values()})
        note(
            f"expected a complete study, got {len(missing)} failed job{'s' if len(missing) > 1 else ''}, of "
            f"{', '.join(names)}. See {out / 'failures'}; the same command tries again."
        )
    return not missing


def read(argv: Sequence[str]) -> tuple[Options, Study]:
    """The options on the command line, and the study that they describe."""
    # Parsed twice: only a parser can tell the name from an option's value, and the study has the defaults of the options.
    asked = [word for word in argv if word not in ("-h", "--help")]
    first = parse(Options, asked, "study", ABOUT, default=Options("quick")).name
    study = named(first) if len(asked) == len(argv) or first in STUDIES else named("quick")
    default = Options(
        first, clip=study.clip, view=study.view, seeds=study.seeds, attacked=study.attacked, epochs=study.epochs,
        visual_weights=next((c.spec.visual_weights for c in study.models if isinstance(c.spec, NetSpec)), None),
        orchestra=study.data if isinstance(study.data, Orchestra) else Orchestra(),
        clips=Clips() if isinstance(study.data, Orchestra) else Clips(study.data.path, study.data.classes),
        listing=Listing() if isinstance(study.data, Orchestra) else Listing.of(study.data),
    )  # fmt: skip
    asked_for_help = len(asked) < len(argv)
    about = f"{ABOUT}\n{study.name}: {cost(study, clips)}" if asked_for_help and (clips := announced(study)) else ABOUT
    options = parse(Options, argv, "study", about, default=default)
    data = options.clips.source(options.listing) or (options.orchestra if isinstance(study.data, Orchestra) else None)
    if data is None:
        raise ValueError(
            f"'{study.name}' runs on your videos: expected --data, got none. Give a folder of <class>/<video>.mp4, "
            f"a csv table, or with --lists the media of the published lists:\n"
            f"  avrobust study {first} --data /media/videos\n"
            f"  avrobust study {first} --data /media/videos --lists lists/"
        )
    if options.visual_weights != default.visual_weights:  # else each model keeps its own
        weights = None if options.visual_weights in (None, "none") else options.visual_weights
        study = replace(study, models=tuple(_from(weights, c) for c in study.models))
    return options, replace(
        study.on(data), clip=options.clip, view=options.view, seeds=options.seeds,
        epochs=options.epochs, attacked=options.attacked,
    )  # fmt: skip


def _from(visual_weights: str | None, config: ModelConfig) -> ModelConfig:
    """The model with these weights in its visual encoder, if its network is one of the package's own and names no other."""
    spec = config.spec
    if not isinstance(spec, NetSpec) or spec.backbone is not None:
        return config
    return replace(config, network=replace(spec, visual_weights=visual_weights))
