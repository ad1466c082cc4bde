"""Where a user's clips are, and how they are described there: as much as is needed to find a manifest."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from avrobust.data import layouts
from avrobust.data.manifest import Manifest, ManifestError


@dataclass(frozen=True)
class Source:
    """Clips on a user's disk.

    `path` is a csv table, a folder with a `manifest.csv`, or a folder of `<class>/<video>.mp4`; None is yet to be
    said.  With `lists`, which read the splits of somebody's dataset, it is the media folder; with `names`, a
    json list as MIT-MUSIC has it, those clips are meant.  `label`, `split`, `start`, `end` name columns of a table.
    `classes` are those to keep: "ks27" or another of `kinetics_sounds.CLASSES`, or names with commas between them.
    `dataset` says which one this is, where it is known.  With `middle`, clips are the middle so many seconds of their videos.
    """

    path: Path | None = None
    lists: Callable[[Path], Manifest] | None = None
    dataset: str | None = None
    names: Path | None = None
    label: str = "label"
    split: str = "split"
    start: str | None = None
    end: str | None = None
    classes: str | None = None
    middle: float | None = None

    def manifest(self, *, repeats: bool = False) -> Manifest:
        """The clips; with `repeats`, a clip that is listed twice stays so, for an audit to find.

        Raises `ManifestError` that says what is not as expected.
        """
        found = self._listed(repeats)
        if self.classes is not None:
            found = layouts.keep(found, self.classes)
        return found if self.middle is None else layouts.middle(found, self.middle)

    def _listed(self, repeats: bool) -> Manifest:
        if self.path is None:
            raise ManifestError(
                "expected videos, got no path. Give a folder of <class>/<video>.mp4, a csv table, or with lists the "
                "folder of their media, for example --data /media/MUSIC."
            )
        if self.lists is not None:
            found = self.lists(self.path)
            return found if repeats else found.unique()
        table = self.path / "manifest.csv" if self.path.is_dir() else self.path
        if table.is_file():
            if layouts.is_youtube(table):
                found = layouts.youtube(table)
                return found if repeats else found.unique()
            return Manifest.read(
                table, label=self.label, split=self.split, start=self.start, end=self.end, repeats=repeats
            )
        if not self.path.exists():
            raise ManifestError(
                f"{self.path}: expected a csv table or a folder of <class>/<video>.mp4, got nothing. Check the path."
            )
        return layouts.folder(self.path, listed=self.names)
