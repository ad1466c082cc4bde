"""A user's dataset: where it is and how it is described, as far as needed to make a manifest."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from avrobust.data import layouts, lists, public, selection
from avrobust.data.entry import ManifestError
from avrobust.data.manifest import Manifest


@dataclass(frozen=True)
class Source:
    """Clips on a user's disk.

    `path` is a csv table, a folder with a `manifest.csv`, a folder of `<class>/<video>.mp4`, the folder of a dataset in
    `public.LAYOUTS`, or a list in `lists.FORMATS` or the folder that holds it; None is not known yet.
    With `lists`, which reads the published splits of a dataset, it is the folder of media.  `names` is a json list like
    MIT-MUSIC's, of the clips to use.  `root` is the folder that paths in a table are relative to, by default its own.
    `label`, `split`, `start`, `end` name columns of a table.  `classes` keeps some classes only: a list of
    `kinetics_sounds.CLASSES` such as "ks27", or class names separated by commas.  `dataset` names the dataset, if it is a known one.  `middle` keeps the middle part of each video, of this many seconds.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("dog/a.mp4", "dog/b.mp4", "cat/c.mp4"):
    ...         Path(folder, name).parent.mkdir(exist_ok=True)
    ...         Path(folder, name).touch()
    ...     Source(Path(folder), classes="dog").manifest().classes
    ('dog',)
    """

    path: Path | None = None
    lists: Callable[[Path], Manifest] | None = None
    dataset: str | None = None
    names: Path | None = None
    root: Path | None = None
    label: str = "label"
    split: str | None = None
    start: str | None = None
    end: str | None = None
    classes: str | None = None
    middle: float | None = None

    def manifest(self, *, repeats: bool = False) -> Manifest:
        """The clips; `repeats` keeps a clip that is listed twice, for an audit.  Raises ManifestError."""
        manifest = self._read(repeats)
        if self.classes is not None:
            manifest = selection.keep_classes(manifest, self.classes)
        return manifest if self.middle is None else selection.keep_middle(manifest, self.middle)

    def _read(self, repeats: bool) -> Manifest:
        if self.path is None:
            raise ManifestError(
                "expected videos, got no path. Give a folder of <class>/<video>.mp4, a csv table, or with lists the "
                "folder of their media, for example --data /media/MUSIC."
            )
        if self.lists is not None:
            manifest = self.lists(self.path)
            return manifest if repeats else manifest.unique()
        table = self.path / "manifest.csv" if self.path.is_dir() else self.path
        if table.is_file():
            if lists.format_of(table):
                manifest = lists.read(table)
                return manifest if repeats else manifest.unique()
            return Manifest.read(
                table,
                root=self.root,
                label=self.label,
                split=self.split,
                start=self.start,
                end=self.end,
                repeats=repeats,
            )
        if self.root is not None:
            raise ManifestError(
                f"{self.path}: expected a csv table, as root ({self.root}) is where its paths begin, got none. Give the "
                "table, or leave root (--root) out."
            )
        if not self.path.exists():
            raise ManifestError(
                f"{self.path}: expected a csv table or a folder of <class>/<video>.mp4, got nothing. Check the path."
            )
        if (layout := public.layout_of(self.path)) is not None:
            manifest = layout.read(self.path)
            return manifest if repeats else manifest.unique()
        if self.names is None and (found := lists.inside(self.path)):
            manifest = lists.read(*found)
            return manifest if repeats else manifest.unique()
        return layouts.folder(self.path, listed=self.names)
