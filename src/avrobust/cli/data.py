"""`avrobust data`: its own verbs are `orchestra`, `prepare` and `audit`."""

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

ABOUT = """Write the orchestra, prepare clips for training and evaluation, audit a dataset.

  avrobust data orchestra --out data/orchestra
  avrobust data prepare --data my_clips/ --out data/mine
  avrobust data audit --data my_clips/
  avrobust data audit --data media/ --lists lists/ --dataset ave
"""

ORCHESTRA = """Write the procedural orchestra: solos of 11 instruments as .mp4 files, with a manifest that knows the sounding box.

example:
  avrobust data orchestra --out data/orchestra --orchestra.train 200 --orchestra.sound-difficulty 0.7
"""

PREPARE = """Decode clips once, into files that open at once. A second run does only what is new.

example:
  avrobust data prepare --data my_clips/ --out data/mine --clip.seconds 3 --clip.size 112
"""

AUDIT = """Look for what makes a dataset's numbers wrong: leaks between splits, copies, classes that one simple number tells
apart, missing and broken files. With --strict the exit status is 1 where any was found, files that are only missing apart.

examples:
  avrobust data audit --data my_clips/
  avrobust data audit --data my_clips/ --strict
  avrobust data audit --data media/ --lists lists/ --dataset ave
"""


@dataclass(frozen=True)
class OrchestraOptions:
    out: Path = Path("data/orchestra")
    """The folder of videos; what is there already is kept."""
    orchestra: Orchestra = field(default_factory=Orchestra)
    """The generated dataset: how many clips, how difficult."""
    workers: int | None = None
    """Processes; default one per core."""


@dataclass(frozen=True)
class PrepareOptions:
    out: Path
    """The folder of prepared clips."""
    clips: Group[Clips] = field(default_factory=Clips)
    clip: ClipSpec = field(default_factory=ClipSpec)
    """What is kept of each file: length, rates, size."""
    workers: int | None = None
    """Processes; default one per core."""


@dataclass(frozen=True)
class AuditOptions:
    clips: Group[Clips] = field(default_factory=Clips)
    strict: bool = False
    """Exit with 1 over a leak, a shortcut, a file that cannot be read or is not as listed."""


def main(argv: Sequence[str]) -> int | None:
    """Hand over to the verb of the first word; returns the exit status, where it is one to speak of."""
    verbs: dict[str, Callable[[Sequence[str]], int | None]] = {
        "orchestra": _orchestra,
        "prepare": _prepare,
        "audit": _audit,
    }
    if not argv or argv[0] not in verbs:
        print(f"usage: avrobust data {{{','.join(verbs)}}} [options]\n\n{ABOUT}")
        if argv and argv[0] not in ("-h", "--help"):
            raise ValueError(f"there is no verb {argv[0]!r}; there are {', '.join(verbs)}.")
        return None
    return verbs[argv[0]](argv[1:])


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
        raise ValueError("expected --data, a csv table of clips or a folder of <class>/<video>.mp4.")
    return source.manifest(repeats=repeats)
