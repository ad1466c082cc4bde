"""A model for the first visit: a small network, trained here on the orchestra and kept in the user's cache folder."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from avrobust import __version__
from avrobust.config import digest
from avrobust.data.orchestra import CLASSES, Orchestra, write
from avrobust.data.prepare import prepare
from avrobust.locks import Lock
from avrobust.media import ClipSpec
from avrobust.models.zoo import NetSpec
from avrobust.progress import progress_told
from avrobust.study.shared import CLIP, VIEW
from avrobust.training import Recipe, View, train

# Easy clips, so that a network that trains in seconds is right on most of them: 88 % of 66 validation clips.
EASY = Orchestra(train=40, val=6, test=0, audio_difficulty=0.2, visual_difficulty=0.1, rivals=0.2, seconds=CLIP.seconds)


@dataclass(frozen=True)
class BuiltIn:
    """What it is trained on, and how: about a minute on two cores, once.

    Spatial attention gives it a heat map.  The same settings and version of the package are trained once.
    """

    orchestra: Orchestra = EASY
    network: NetSpec = field(default_factory=lambda: NetSpec(classes=len(CLASSES), width=16, fusion="attention"))
    recipe: Recipe = field(default_factory=Recipe)
    clip: ClipSpec = CLIP
    view: View = VIEW

    def path(self, cache: Path) -> Path:
        """Its checkpoint, there or not."""
        return cache / f"demo-{digest(self, __version__)}" / "built-in network" / "net.safetensors"

    def trained(self, cache: Path, tell: Callable[[str], object]) -> Path:
        """Its checkpoint, trained if it is not there yet; `tell` gets lines of progress, and ends the work by an exception."""
        path = self.path(cache)
        folder = path.parents[1]
        folder.mkdir(parents=True, exist_ok=True)
        with Lock(folder / ".lock"):
            if not path.exists():
                videos, clips = folder / "videos", folder / "clips"
                # In this process: a page's thread starts no others, and the clips are few.
                with progress_told(tell):
                    store = prepare(write(self.orchestra, videos, workers=1), self.clip, clips, workers=1)
                    train(self.network.build(seed=0), store, self.recipe, view=self.view, out=path.parent, seed=0)
                for made in (videos, clips):
                    shutil.rmtree(made, ignore_errors=True)
        return path


def cache_folder() -> Path:
    """The user's folder for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "avrobust"
