"""A procedural dataset: solos of the 11 MIT-MUSIC instruments as real video files.

`write` generates it from an `Orchestra`: `score` composes a melody, `audio` synthesises it, `instruments` and `video` draw
the player, `difficulty` says how hard both are.
"""

from avrobust.data.orchestra.dataset import CLASSES, Orchestra, write

__all__ = ["CLASSES", "Orchestra", "write"]
