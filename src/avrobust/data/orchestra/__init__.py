"""The procedural dataset: solos of the 11 MIT-MUSIC instruments as real video files.

`write` makes them as an `Orchestra` says: `score` is what is played, `sound` how it sounds, `instruments` and
`picture` what it looks like.
"""

from avrobust.data.orchestra.dataset import CLASSES, Orchestra, write

__all__ = ["CLASSES", "Orchestra", "write"]
