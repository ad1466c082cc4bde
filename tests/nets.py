"""Small networks and clips for tests: real layers, so that folding and caching have something to do."""

import torch
from torch import nn

from avrobust import AV, Batch
from avrobust.models.fusion import FUSIONS
from avrobust.models.network import AVNet

CLASSES = 4


class Ear(nn.Module):
    width = 12

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 12, (1, 5), stride=(1, 3)), nn.BatchNorm2d(12)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(wave[:, None, None])).relu().amax((2, 3))


class Eye(nn.Module):
    width = 12

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 12, 3, stride=2), nn.BatchNorm2d(12)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        b, t = frames.shape[:2]
        z = self.norm(self.conv(frames.flatten(0, 1) * 4 - 2)).relu().mean((2, 3))
        return z.view(b, t, -1).mean(1)


def network(seed: int = 0) -> AVNet:
    """A two-stream network with BatchNorm statistics that are not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        ears, eyes = Ear(), Eye()
        net = AVNet(
            AV(audio=ears, visual=eyes), FUSIONS["concat"](AV(audio=12, visual=12)), CLASSES, classifier_std=1.0
        )
        for norm in (ears.norm, eyes.norm):
            nn.init.uniform_(norm.running_mean, -0.3, 0.3)
            nn.init.uniform_(norm.running_var, 0.3, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.2, 0.4)
    return net.eval()


def linear(x: AV[torch.Tensor]) -> torch.Tensor:
    """A model that knows nothing of this package: class k likes samples and pixels k, k + 4, k + 8, …"""
    a = x.audio[:, : x.audio.shape[1] // CLASSES * CLASSES].unflatten(1, (-1, CLASSES)).mean(1)
    v = x.visual.flatten(1)[:, : 3 * 8 * 8].unflatten(1, (-1, CLASSES)).mean(1)
    return 20 * a + 20 * v


def deaf(x: AV[torch.Tensor]) -> torch.Tensor:
    """A model that ignores its sound."""
    return linear(AV(audio=x.audio.detach() * 0, visual=x.visual))


def clips(n: int = 6, seed: int = 0) -> Batch:
    """Random clips that stay clear of the ends of their range, and a few that touch them."""
    g = torch.Generator().manual_seed(seed)
    wave = torch.rand(n, 96, generator=g) * 1.6 - 0.8
    frames = torch.rand(n, 2, 3, 8, 8, generator=g)
    wave[0, :10], frames[0, :, :, 0] = 1.0, 0.0
    return Batch(AV(audio=wave, visual=frames), torch.arange(n) % CLASSES, tuple(f"clip/{i}" for i in range(n)))
