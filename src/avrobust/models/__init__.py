"""Audio-visual models: signals in, features and logits out.  Knows no attacks.

`NetSpec` describes a network and `build` makes it; defenses and attacks work on the parts of `AVNet`.
"""

from avrobust.models import published
from avrobust.models.audio import Conv1dNet
from avrobust.models.frontends import audio_frontend, visual_frontend
from avrobust.models.fusion import FUSIONS, Fusion
from avrobust.models.hf import pair
from avrobust.models.network import Absent, AVNet, Loss
from avrobust.models.visual import IMAGENET_MEAN, IMAGENET_STD, FrameNet
from avrobust.models.zoo import NetSpec, build, count_parameters, rebuild

__all__ = [
    "FUSIONS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "AVNet",
    "Absent",
    "Conv1dNet",
    "FrameNet",
    "Fusion",
    "Loss",
    "NetSpec",
    "audio_frontend",
    "build",
    "count_parameters",
    "pair",
    "published",
    "rebuild",
    "visual_frontend",
]
