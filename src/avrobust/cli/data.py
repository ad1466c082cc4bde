"""`avrobust data`, with the commands `orchestra`, `prepare` and `audit`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avrobust.cli.options import Clips, Group, parse
from avrobust.cli.show import describe
from avrobust.data import orchestra
from avrobust.data.audit import audit
from avrobust.data.manifest import Manifest
from avrobust.data.orchestra import Orchestra
from avrobust.data.prepare import prepare
from avrobust.media import ClipSpec

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


@dataclass(frozen=True)
class OrchestraOptions:
    out: Path = Path("data/orchestra")
    """Folder of the videos; existing videos are kept."""
    orchestra: Orchestra = field(default_factory=Orchestra)
    """Number of clips, difficulty, size."""
    workers: int | None = None
    """Number of processes; one per core by default."""


@dataclass(frozen=True)
class PrepareOptions:
    out: Path
    """Folder of the decoded clips."""
    clips: Group[Clips] = field(default_factory=Clips)
    clip: ClipSpec = field(default_factory=ClipSpec)
    """Duration, sample rate, frame rate and frame size of the decoded clips."""
    workers: int | None = None
    """Number of processes; one per core by default."""


@dataclass(frozen=True)
class AuditOptions:
    clips: Group[Clips] = field(default_factory=Clips)
    strict: bool = False
    """Exit with status 1 if anything is found except missing files."""


def main(argv: Sequence[str]) -> int | None:
    """Run the command that the first word names; returns its exit status."""
    commands: dict[str, Callable[[Sequence[str]], int | None]] = {
        "orchestra": _orchestra,
        "prepare": _prepare,
        "audit": _audit,
    }
    if not argv or argv[0] not in commands:
        print(f"usage: avrobust data {{{','.join(commands)}}} [options]\n\n{ABOUT}")
        if argv and argv[0] not in ("-h", "--help"):
            raise ValueError(f"expected one of {', '.join(commands)}, got {argv[0]!r}. See avrobust data --help.")
        return None
    return commands[argv[0]](argv[1:])


def _orchestra(argv: Sequence[str]) -> None:
    options = parse(OrchestraOptions, argv, "data orchestra", ORCHESTRA)
    manifest = orchestra.write(options.orchestra, options.out, workers=options.workers)
    print(f"{len(manifest)} clips of {len(manifest.classes)} instruments in {options.out}")


def _prepare(argv: Sequence[str]) -> None:
    options = parse(PrepareOptions, argv, "data prepare", PREPARE)
    prepare(_manifest(options.clips), options.clip, options.out, workers=options.workers)
    print(describe(options.out))


def _audit(argv: Sequence[str]) -> int:
    options = parse(AuditOptions, argv, "data audit", AUDIT)
    found = audit(_manifest(options.clips, repeats=True))
    print(found.summary())
    return int(options.strict and not found.clean)


def _manifest(clips: Clips, *, repeats: bool = False) -> Manifest:
    source = clips.source()
    if source is None:
        raise ValueError("expected clips, got no --data. Give a csv table of clips or a folder of <class>/<video>.mp4.")
    return source.manifest(repeats=repeats)
