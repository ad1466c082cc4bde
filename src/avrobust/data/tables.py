"""Reads and writes clips as a csv table with a header: one row per clip."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from avrobust.data.entry import Entry, Label, ManifestError, read_box, read_number
from avrobust.files import write_bytes

_COLUMNS = ("id", "label", "split", "video", "audio", "start", "end", "box", "sha256")
_LABELS, _TAGS = "labels", "tags"  # instead of "label", of multi-label clips; where each label can be perceived
_JOINT = ";"  # between labels, and between tags: names of classes have commas
_OWN = frozenset((*_COLUMNS, _LABELS, _TAGS, "bbox"))  # columns that mean something here
_SEPARATORS = ",;\t|"  # a comma, and what spreadsheets write instead
# What tables call splits: a column of nothing else is one of splits, whatever its name.
_SPLITS = (
    "train",
    "training",
    "val",
    "valid",
    "validate",
    "validation",
    "dev",
    "eval",
    "evaluation",
    "test",
    "testing",
)


def read_entries(
    path: Path,
    root: Path,
    *,
    label: str,
    split: str | None,
    start: str | None,
    end: str | None,
    classes: Sequence[str] | None,
    repeats: bool,
) -> tuple[list[Entry], bool]:
    """The clips of a table, and whether it says their splits; the arguments are those of `Manifest.read`.

    Without splits all are train.  Raises ManifestError with file and line, and for splits in a column of another name.
    """
    columns = {"label": label, "split": split or "split", "start": start or "start", "end": end or "end"}
    entries: list[Entry] = []
    lines: dict[str, int] = {}
    for line, row in _rows(path, [c for c in ("video", label, split, start, end) if c is not None]):
        try:
            entry = _entry(row, columns, root)
            if classes is not None and (unknown := [name for name in entry.labels if name not in classes]):
                raise ManifestError(unknown_label(unknown[0], classes))
            if entry.id in lines and not repeats:
                raise ManifestError(
                    f"expected every id once, got '{entry.id}' again (first on line {lines[entry.id]}). Rename or "
                    "remove one of them."
                )
        except ManifestError as error:
            raise ManifestError(f"{path} line {line}: {error}") from None
        lines.setdefault(entry.id, line)
        entries.append(entry)
    if not entries:
        raise ManifestError(f"{path}: expected at least one clip, got only a header. Fill the table.")
    named = columns["split"] in row
    if not named and (other := _splits(entries)):
        raise ManifestError(
            f"{path}: expected splits in a column 'split', or none, got {other!r}, which names splits. Give "
            f"split={other!r} (--split), or remove the column: the clips are then divided at random."
        )
    return entries, named


def _splits(entries: Sequence[Entry]) -> str | None:
    """The first other column of splits, by its name or by its cells."""
    cells: dict[str, set[str]] = {}
    for e in entries:
        for key, cell in e.extra.items():
            cells.setdefault(key, set()).add(cell.casefold())
    return next((key for key, values in cells.items() if key.casefold() == "split" or values <= {*_SPLITS}), None)


def write_entries(entries: Iterable[Entry], path: Path | str) -> None:
    """Write clips as a table, whole or not at all.

    Raises ManifestError for several labels of which one has a semicolon, and for what `check_extras` refuses.
    """
    entries = list(entries)
    extras = sorted({key for e in entries for key in e.extra})
    check_extras(extras)
    tagged = [_TAGS] if any(e.tags for e in entries) else []
    columns = [_LABELS if c == "label" and isinstance(entries[0].label, tuple) else c for c in _COLUMNS]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *tagged, *extras])
    for e in entries:
        if isinstance(e.label, tuple) and any(_JOINT in label for label in e.label):
            raise ManifestError(f"clip '{e.id}': expected labels without {_JOINT!r}, got {e.label}. Rename the class.")
        audio = "" if e.audio is None else e.audio.as_posix()
        box = "" if e.box is None else " ".join(map(repr, e.box))
        end = "" if e.end is None else repr(e.end)
        label = e.label if isinstance(e.label, str) else _JOINT.join(e.label)
        fixed = [e.id, label, e.split, e.video.as_posix(), audio, repr(e.start), end, box, e.sha256 or ""]
        writer.writerow([*fixed, *(_JOINT.join(e.tags) for _ in tagged), *(e.extra.get(key, "") for key in extras)])
    write_bytes(path, text.getvalue().encode())


def check_extras(names: Iterable[str]) -> None:
    """Raise ManifestError for other columns that would be read as one of a table's own."""
    if taken := sorted(_OWN & set(names)):
        raise ManifestError(
            f"expected other columns to be called otherwise than a table's own, got {' and '.join(map(repr, taken))}. Rename "
            f"{'it' if len(taken) == 1 else 'them'}, for example to 'their_{taken[0]}'."
        )


def unknown_label(label: str, classes: Sequence[str]) -> str:
    """The error for a label that is none of the classes."""
    shown = ", ".join(classes[:12]) + (", …" if len(classes) > 12 else "")
    return (
        f"expected a label of the {len(classes)} classes ({shown}), got {label!r}. Add it to the classes, or leave the "
        "clip out."
    )


def _rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row) of a csv file, once its header is known to have the needed columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=_separator(path, needed))
            header = [name.strip() for name in next(reader, [])]
            if missing := [c for c in needed if not _has(header, c)]:
                raise ManifestError(
                    f"{path}: expected a column {' and '.join(map(repr, missing))}, got {', '.join(header) or 'nothing'}. "
                    "Add it, or name the column to use instead."
                )
            if twice := [name for name, n in Counter(header).items() if n > 1 and name]:
                raise ManifestError(
                    f"{path}: expected every column once, got {' and '.join(map(repr, twice))} again. Rename or remove one."
                )
            for row in filter(None, reader):
                if len(row) != len(header):
                    raise ManifestError(
                        f"{path} line {reader.line_num}: expected {len(header)} cells, got {len(row)}. Quote cells that "
                        "hold commas."
                    )
                yield reader.line_num, dict(zip(header, row, strict=True))
    except OSError as error:
        raise ManifestError(f"{path}: expected a csv table of clips, got: {error.strerror}. Check the path.") from None
    except (UnicodeError, csv.Error) as error:
        raise ManifestError(
            f"{path}: expected a csv table in UTF-8, got another encoding or no table ({error}). Save the table as UTF-8; give "
            "videos as a folder of <class>/<video>.mp4; for a single video, use `avrobust attack`."
        ) from None


def _has(header: Sequence[str], name: str) -> bool:
    return name in header or (name == "label" and _LABELS in header)


def _separator(path: Path, needed: Sequence[str]) -> str:
    """The first separator with which the header has every needed column."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
    for separator in _SEPARATORS:
        header = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
        if all(_has(header, name) for name in needed):
            return separator
    return max(_SEPARATORS, key=first.count)  # for the error to name the columns


def _entry(row: dict[str, str], columns: Mapping[str, str | None], root: Path) -> Entry:
    cells = {key: value.strip() for key, value in row.items()}
    video = _relative(cells["video"], root)
    audio = _relative(cells["audio"], root) if cells.get("audio") else None
    end = cells.get(columns["end"] or "")
    known = {*_OWN, *columns.values()}
    label: Label = cells.get(columns["label"] or "", "")
    if columns["label"] == "label" and "label" not in cells:
        label = _listed(cells[_LABELS])
    return Entry(
        id=cells.get("id") or video.with_suffix("").as_posix(),
        label=label,
        split=cells.get(columns["split"] or "", "train"),
        video=video,
        audio=None if audio == video else audio,
        start=read_number(cells.get(columns["start"] or "") or "0"),
        end=read_number(end) if end else None,
        box=read_box(cells.get("box") or cells.get("bbox") or ""),
        sha256=cells.get("sha256", "").lower() or None,
        extra={key: value for key, value in cells.items() if key and value and key not in known},
        tags=_listed(cells.get(_TAGS, "")),
    )


def _listed(cell: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in cell.split(_JOINT)) if cell else ()


def _relative(cell: str, root: Path) -> Path:
    """A path as the table has it, relative to the root; `Entry` checks that it lies inside."""
    if not cell:
        raise ManifestError("expected a path, got an empty cell. Name the clip's file.")
    return Path(os.path.relpath(root / cell, root))
