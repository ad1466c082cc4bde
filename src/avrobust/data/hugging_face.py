"""A Hugging Face dataset becomes a folder of media files with a manifest, so that `audit` and `prepare` take it as any other.

Media are written as they are, undecoded: what decodes them is `avrobust.media`, whatever the dataset's own library has.
"""

import dataclasses
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from avrobust.data.entry import SPLITS, Entry, Label, ManifestError
from avrobust.data.manifest import Manifest
from avrobust.data.tables import check_extras
from avrobust.extras import needs
from avrobust.files import write_bytes

SPLIT_NAMES = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}


def from_hf(
    dataset: Any,
    folder: Path | str,
    *,
    visual: str,
    label: str,
    audio: str | None = None,
    ids: str | None = None,
    split: str | None = None,
    keep: Sequence[str] = (),
) -> Manifest:
    """The clips of a `datasets.Dataset`, or of a `DatasetDict` with a dataset for each split, written to a new `folder`.

    `visual` is a column with the feature `Video` or `Image`, `audio` one with `Audio` or `Video`; without it the audio is that
    of the video.  Columns of bytes, and of paths of files, will do.  `label` is a column of a `ClassLabel`, of text or of
    whole numbers, or of lists of these: then clips are multi-label.  `ids` names the clips; without it they are numbered.
    `split` is the split of a dataset that does not say its own.  Columns in `keep` go into the manifest, such as
    "recording", which says what clips belong together.  `dataset` may also be the folder of a saved dataset, or a name on
    the hub, which is then downloaded.

    A clip without media in the dataset is in the manifest without a file.  `folder` gets a `manifest.csv`, too; streaming
    datasets are written clip by clip.  Raises ManifestError for a column or a split that is not there, and ImportError
    where a name or a folder is given without the package `datasets`.

    >>> import tempfile
    >>> rows = [{"clip": {"bytes": b"...", "path": "a.mp4"}, "class": "dog"}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     manifest = from_hf(rows, Path(folder, "dogs"), visual="clip", label="class", split="test")
    >>> manifest.entries[0].video.as_posix(), manifest.classes
    ('test/000000.mp4', ('dog',))
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ManifestError(f"{folder}: expected a new folder, got one with files. Give another path.")
    check_extras(keep)
    dataset = _loaded(dataset) if isinstance(dataset, str | Path) else dataset
    parts: Mapping[str, Any] = dataset if isinstance(dataset, Mapping) else {_split_of(dataset, split): dataset}
    splits: dict[str, str] = {}
    for name in parts:
        if name not in SPLIT_NAMES:
            raise ManifestError(
                f"expected splits called {', '.join(SPLIT_NAMES)}, got {name!r}. Rename it, or give one split: "
                f"from_hf(dataset[{name!r}], ..., split='test')."
            )
        if (other := splits.setdefault(SPLIT_NAMES[name], name)) != name:
            raise ManifestError(
                f"expected one split that is '{SPLIT_NAMES[name]}', got {other!r} and {name!r}. Leave one out, or join them."
            )
    entries: list[Entry] = []
    classes: tuple[str, ...] = ()
    for name, part in parts.items():
        columns = {"visual": visual, "audio": audio, "label": label, "ids": ids} | {name: name for name in keep}
        names = _class_names(part, label)
        entries += _written(
            part, folder, SPLIT_NAMES[name], {k: c for k, c in columns.items() if c}, names, tuple(keep)
        )
        classes = classes or names
    manifest = Manifest(folder, tuple(entries), classes)
    manifest.write(folder / "manifest.csv")
    return manifest


def _loaded(where: str | Path) -> Any:
    with needs("hub"):
        import datasets
    return datasets.load_from_disk(str(where)) if Path(where).is_dir() else datasets.load_dataset(str(where))


def _split_of(dataset: Any, given: str | None) -> str:
    """The split of one dataset: as given, or as it says itself."""
    name = given or str(getattr(dataset, "split", None) or "")
    if name not in SPLIT_NAMES:
        raise ManifestError(
            f"expected the split of the clips, got {name or 'none'!r}. Give split={' or '.join(map(repr, SPLITS))}."
        )
    return name


def _class_names(dataset: Any, label: str) -> tuple[str, ...]:
    """The classes in the order of a `ClassLabel`, or of a list of them; empty for other columns."""
    feature = (getattr(dataset, "features", None) or {}).get(label)
    feature = getattr(feature, "feature", feature)
    if isinstance(feature, list):
        feature = feature[0]
    return tuple(getattr(feature, "names", None) or ())


def _undecoded(dataset: Any, columns: Iterable[str]) -> Any:
    """The dataset with media as {"bytes", "path"}: all features with media have a field `decode`."""
    features = getattr(dataset, "features", None) or {}
    for column in columns:
        feature = features.get(column)
        if getattr(feature, "decode", False) and dataclasses.is_dataclass(feature):
            dataset = dataset.cast_column(column, dataclasses.replace(feature, decode=False))  # type: ignore[type-var]
    return dataset


def _written(
    dataset: Any, folder: Path, split: str, columns: Mapping[str, str], classes: tuple[str, ...], keep: tuple[str, ...]
) -> Iterator[Entry]:
    """The entries of one split, whose media are written below `folder`."""
    media = {columns[part] for part in ("visual", "audio") if part in columns}
    for number, row in enumerate(_undecoded(dataset, media)):
        if missing := [column for column in columns.values() if column not in row]:
            raise ManifestError(
                f"expected a column {' and '.join(map(repr, missing))}, got {', '.join(map(repr, row))}. Name the columns to use."
            )
        stem, own = Path(split, f"{number:06d}"), columns.get("audio") not in (None, columns["visual"])
        id = str(row[columns["ids"]]) if "ids" in columns else stem.as_posix()
        try:
            video = _file(row[columns["visual"]], folder, stem)
            audio = _file(row[columns["audio"]], folder, stem.with_name(f"{stem.name}-audio")) if own else None
            label = _label(row[columns["label"]], classes)
        except ManifestError as error:
            raise ManifestError(f"clip '{id}': {error}") from None
        yield Entry(
            id, label, split, video, audio, extra={name: str(row[name]) for name in keep if row[name] is not None}
        )


def _label(value: Any, classes: tuple[str, ...]) -> Label:
    """The name or the names of a cell's classes, which are numbers of `classes`, names, or numbers without names."""
    if isinstance(value, list | tuple):
        return tuple(name for part in value if isinstance(name := _label(part, classes), str))
    if classes and isinstance(value, int):
        if not 0 <= value < len(classes):
            raise ManifestError(
                f"expected a class number below {len(classes)}, got {value}. Leave the clip out, or label it."
            )
        return classes[value]
    if not isinstance(value, str | int):
        raise ManifestError(
            f"expected a class as text or a whole number, got {value!r}. Name the column of the classes."
        )
    return str(value)


def _file(value: Any, folder: Path, stem: Path) -> Path:
    """Write the media of a cell next to `stem`, and return the path below `folder`."""
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, Mapping) else (value, None)
    if isinstance(data, str | Path):
        data, path = None, data
    suffix = Path(str(path)).suffix.lower() if path else ""
    found = stem.with_name(stem.name + (suffix if suffix[1:].isalnum() and len(suffix) < 7 else ""))
    if isinstance(data, bytes):
        write_bytes(folder / found, data)
    elif path is not None:
        _link(Path(path), folder / found)
    elif data is not None:
        raise ManifestError(
            f"expected a column with the feature Audio, Video or Image, bytes, or paths, got {type(value).__name__}. Cast it: "
            "dataset.cast_column(name, datasets.Audio())."
        )
    return found  # without media there is no such file, which `audit` and `prepare` say


def _link(path: Path, to: Path) -> None:
    """Another name for a file, or a copy where the disk has no such names."""
    if not path.is_file():
        raise ManifestError(f"expected media in the dataset or on this disk, got {str(path)!r}. Download it first.")
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, to)
    except OSError:
        # "x": a name that is there may be another link to the user's own file.
        with path.open("rb") as media, to.open("xb") as copy:
            shutil.copyfileobj(media, copy)
