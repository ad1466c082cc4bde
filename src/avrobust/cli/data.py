"""`avrobust data`, with the commands `orchestra`, `prepare` and `audit`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

from avrobust.cli.answer import Answer, note
from avrobust.cli.options import Clips, Flag, Group, Json, Listing, Maybe, box, parse
from avrobust.cli.places import folder
from avrobust.cli.show import described
from avrobust.data import orchestra
from avrobust.data.audit import audit
from avrobust.data.manifest import Manifest
from avrobust.data.orchestra import Orchestra
from avrobust.data.prepare import prepare
from avrobust.media import ClipSpec
from avrobust.names import unknown

ABOUT = """Generate the procedural dataset, decode clips for training and evaluation, or check a dataset.

  avrobust data orchestra --out data/orchestra
  avrobust data prepare --data my_clips/ --out data/mine
  avrobust data audit --data my_clips/
  avrobust data audit --data media/ --lists lists/ --dataset ave
"""

ORCHESTRA = """Generate the procedural dataset: solos of 11 instruments as .mp4 files, and a manifest with the box of the sounding one.

example:
  avrobust data orchestra --out data/orchestra --orchestra.train 200 --orchestra.audio-difficulty 0.7
"""

PREPARE = """Decode clips once, into files that open at once. A second run decodes new and changed clips only.

example:
  avrobust data prepare --data my_clips/ --out data/mine --clip.seconds 3 --clip.size 112
"""

AUDIT = """Check a dataset: leaks between splits, copies, simple numbers that predict the class, missing and unreadable files.

examples:
  avrobust data audit --data my_clips/
  avrobust data audit --data my_clips/ --strict
  avrobust data audit --data media/ --lists lists/ --dataset ave
"""


@dataclass(frozen=True, kw_only=True)
class OrchestraOptions(Json):
    out: Path = Path("data/orchestra")
    """Folder of the videos; existing videos are kept."""
    orchestra: Orchestra = field(default_factory=Orchestra)
    """Number of clips, difficulty, size."""
    workers: Maybe[int] = None
    """Number of processes; default: one per core."""


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(Json):
    out: Path
    """Folder of the decoded clips."""
    clips: Annotated[Group[Clips], box("data")] = field(default_factory=Clips)
    listing: Annotated[Group[Listing], box("listing of the clips")] = field(default_factory=Listing)
    clip: ClipSpec = field(default_factory=ClipSpec)
    """Duration, sample rate, frame rate and frame size of the decoded clips."""
    workers: Maybe[int] = None
    """Number of processes; default: one per core."""


@dataclass(frozen=True, kw_only=True)
class AuditOptions(Json):
    strict: Flag = False
    """Exit with status 1 if anything is found except missing files."""
    clips: Annotated[Group[Clips], box("data")] = field(default_factory=Clips)
    listing: Annotated[Group[Listing], box("listing of the clips")] = field(default_factory=Listing)


def main(argv: Sequence[str]) -> Answer:
    """Run the command that the first word names."""
    commands: dict[str, Callable[[Sequence[str]], Answer]] = {
        "orchestra": _orchestra,
        "prepare": _prepare,
        "audit": _audit,
    }
    if not argv or argv[0] in ("-h", "--help"):
        return Answer(f"usage: avrobust data {{{','.join(commands)}}} [options]\n\n{ABOUT}", None)
    if argv[0] not in commands:
        raise ValueError(unknown("a command", argv[0], commands, "See avrobust data --help."))
    return commands[argv[0]](argv[1:])


def _orchestra(argv: Sequence[str]) -> Answer:
    options = parse(OrchestraOptions, argv, "data orchestra", ORCHESTRA)
    folder(options.out, "--out")
    manifest = orchestra.write(options.orchestra, options.out, workers=options.workers)
    told = {"folder": options.out, "clips": len(manifest), "classes": manifest.classes}
    text = f"{len(manifest)} clips of {len(manifest.classes)} instruments in {options.out}"
    return Answer(text, told, options.json)


def _prepare(argv: Sequence[str]) -> Answer:
    options = parse(PrepareOptions, argv, "data prepare", PREPARE)
    folder(options.out, "--out")
    prepare(_manifest(options), options.clip, options.out, workers=options.workers)
    return Answer(*described(options.out), options.json)


def _audit(argv: Sequence[str]) -> Answer:
    options = parse(AuditOptions, argv, "data audit", AUDIT)
    found = audit(_manifest(options, repeats=True))
    told = {field.name: getattr(found, field.name) for field in fields(found)} | {"clean": found.clean}
    return Answer(found.summary(), told, options.json, status=int(options.strict and not found.clean))


def _manifest(options: PrepareOptions | AuditOptions, *, repeats: bool = False) -> Manifest:
    source = options.clips.source(options.listing)
    if source is None:
        raise ValueError("expected clips, got no --data. Give a csv table of clips or a folder of <class>/<video>.mp4.")
    manifest = source.manifest(repeats=repeats)
    note(manifest.splits)
    return manifest
