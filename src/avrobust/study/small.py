"""Inputs of the orchestra that small networks learn from, and are attacked on, within minutes on a CPU."""

from avrobust.media import ClipSpec
from avrobust.training.views import View

CLIP = ClipSpec(seconds=1.75, rate=11025, fps=4, size=72)
VIEW = View(samples=12_288, frames=1, size=64)
