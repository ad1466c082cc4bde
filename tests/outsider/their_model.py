"""A network that knows nothing of this package: two positional inputs, its own normalisation, its own layout."""

import torch
from torch import nn


class TheirNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ear = nn.Conv1d(1, 8, 9, stride=4)
        self.eye = nn.Conv2d(3, 8, 3, stride=2)
        self.head = nn.Linear(16, 3)

    def forward(self, sound: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
        a = self.ear(sound.unsqueeze(1) / 0.1).relu().mean(2)
        v = self.eye((pictures[:, 0] - 0.45) / 0.22).relu().mean((2, 3))
        return self.head(torch.cat([a, v], 1))


def make(n: int = 12) -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The network, sounds in [-1, 1], frames in [0, 1], and the classes that the network gives them."""
    torch.manual_seed(0)
    net = TheirNet().eval()
    wave, frames = torch.rand(n, 400) * 1.6 - 0.8, torch.rand(n, 2, 3, 16, 16)
    with torch.no_grad():
        y = net(wave, frames).argmax(1)
    return net, wave, frames, y


class TheirStreams(nn.Module):
    """Two streams within reach: `embed` and `decide`, and what they are in between is their own business."""

    def __init__(self) -> None:
        super().__init__()
        self.net = TheirNet()

    def embed(self, x):
        a = self.net.ear(x.audio.unsqueeze(1) / 0.1).relu().mean(2)
        v = self.net.eye((x.visual[:, 0] - 0.45) / 0.22).relu().mean((2, 3))
        return a, v

    def decide(self, features):
        a, v = features
        return self.net.head(torch.cat([a, v], 1))

    def forward(self, x):
        return self.decide(self.embed(x))
