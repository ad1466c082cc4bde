"""Where a user's clips are, and how they are described there: as much as is needed to find a manifest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from avrobust.data import layouts
from avrobust.data.manifest import Manifest, ManifestError


@dataclass(frozen=True)
class Source:
    """Clips on a user's disk.

    `path` is a csv table, a folder with a `manifest.csv`, or a folder of `<class>/<video>.mp4`.  With `lists`, a
    folder of the published split csvs, it is the media folder of `dataset`; with `names`, a json list as
    MIT-MUSIC has it, those clips are meant.  `label`, `split`, `start`, `end` name columns of a table.
    """

    path: Path
    lists: Path | None = None
    dataset: Literal["music", "kinetics_sounds", "ave"] = "music"
    names: Path | None = None
    label: str = "label"
    split: str = "split"
    start: str | None = None
    end: str | None = None

    def manifest(self, *, repeats: bool = False) -> Manifest:
        """The clips; with `repeats`, a clip that is listed twice stays so, for an audit to find.

        Raises `ManifestError` that says what is not as expected.
        """
        if self.lists is not None:
            found = layouts.published(self.lists, self.path, dataset=self.dataset)
            return found if repeats else found.unique()
        table = self.path / "manifest.csv" if self.path.is_dir() else self.path
        if table.is_file():
            return Manifest.read(
                table, label=self.label, split=self.split, start=self.start, end=self.end, repeats=repeats
            )
        if not self.path.exists():
            raise ManifestError(
                f"{self.path}: expected a csv table or a folder of <class>/<video>.mp4, got nothing. Check the path."
            )
        return layouts.folder(self.path, listed=self.names)
