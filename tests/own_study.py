"""A study of networks that are not the package's, as a user writes it: `avrobust study own_study.py`."""

import torch
from torch import nn

from avrobust import FGSM, PGD
from avrobust.defenses import MIN_SIM, PCL, ExFMem, Prototypes
from avrobust.models import OwnSpec
from avrobust.study import ModelConfig, Study, Sweep
from avrobust.types import AV
from tiny_study import BOTH
from tiny_study import study as tiny


class TwoStreams(nn.Module):
    """Features of the loudness and of the mean colour over time and place, and one layer on both."""

    def __init__(self, classes: int, width: int = 8) -> None:
        super().__init__()
        self.ear = nn.Sequential(nn.Conv1d(1, width, 64, stride=32), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten())
        self.eye = nn.Sequential(nn.Conv2d(3, width, 8, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(8 * width, classes)

    def embed(self, x: AV) -> AV:
        return AV(audio=self.ear(x.audio[:, None]), visual=self.eye(x.visual.mean(1)))

    def decide(self, f: AV) -> torch.Tensor:
        return self.head(torch.cat([f.audio, f.visual], 1))

    def forward(self, x: AV) -> torch.Tensor:
        return self.decide(self.embed(x))


class Mixed(TwoStreams):
    """Streams that see each other: none can be run alone."""

    def embed(self, x: AV) -> AV:
        f = super().embed(x)
        return AV(audio=f.audio + x.visual.mean((1, 2, 3, 4))[:, None], visual=f.visual)


def of_audio(classes: int) -> nn.Module:
    """A network that is one block: logits are all that can be asked of it."""

    class Block(nn.Sequential):
        def forward(self, x: AV) -> torch.Tensor:
            return super().forward(x.audio[:, None])

    return Block(
        nn.Conv1d(1, 4, 64, stride=32), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(16, classes)
    )


MINE = OwnSpec(TwoStreams, {"width": 4})
study = Study(
    name="own",
    title="A study of networks of one's own",
    models=(
        ModelConfig("Mine", MINE, role="baseline"),
        ModelConfig("MinSim", MINE, loss=MIN_SIM),
        ModelConfig("MinSim+ExFMem", MINE, start="MinSim", epochs=1, loss=MIN_SIM, feature_defense=ExFMem(columns=22)),
        ModelConfig("PCL", MINE, epochs=1, loss=PCL(), feature_defense=Prototypes()),
        ModelConfig("Block", OwnSpec("own_study:of_audio", modality="A")),
        ModelConfig("Mixed", Mixed, epochs=0),
        ModelConfig("Block, MinSim", "own_study:of_audio", epochs=1, loss=MIN_SIM),
    ),
    sweeps=(
        Sweep(("Mine", "MinSim", "MinSim+ExFMem", "PCL"), (FGSM(), PGD(steps=2)), BOTH),
        Sweep(("Block", "Mixed"), (FGSM(),), BOTH[:1]),
    ),
    tables=(BOTH,),
    defenses=(BOTH,),
    embedded=("Mine",),
    showcase=tiny.showcase,
    data=tiny.data,
    clip=tiny.clip,
    view=tiny.view,
    epochs=2,
    attacked=16,
    batch=16,
)
