"""Audio-visual models: signals in, features and logits out.  Knows no attacks.

A spec describes a network and builds it: `NetSpec` the package's own, `PairSpec` two pretrained encoders, `OwnSpec` yours.
Training, defenses and attacks work on any `Network`.
"""

from avrobust.facts import IMAGENET_MEAN, IMAGENET_STD
from avrobust.models import published
from avrobust.models.audio import Conv1dNet
from avrobust.models.frontends import audio_frontend, visual_frontend
from avrobust.models.fusion import FUSIONS, Fusion
from avrobust.models.hf import PairSpec, pair
from avrobust.models.network import Absent, AVNet, Loss, Network, Spec
from avrobust.models.own import OwnNet, OwnSpec
from avrobust.models.visual import FrameNet
from avrobust.models.zoo import NetSpec, count_parameters

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
    "Network",
    "OwnNet",
    "OwnSpec",
    "PairSpec",
    "Spec",
    "audio_frontend",
    "count_parameters",
    "pair",
    "published",
    "visual_frontend",
]
