"""Small networks and clips for tests: real layers, so that folding and caching have something to do."""

import torch
from torch import nn

from avrobust import AV, Batch
from avrobust.defenses import ExFMem
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


def defended(settings: ExFMem | None = None, n: int = 16) -> AVNet:
    """The same behind a memory that is filled with clips."""
    net = network()
    net.feature_defense = (settings or ExFMem(columns=8)).fill(net, [clips(n, seed=7)], 0)
    return net.eval()


def pointing_net() -> AVNet:
    """A network that looks at places, which has no one vector of its picture."""

    class Places(nn.Module):
        width = 12

        def forward(self, frames):
            return frames.mean(2, keepdim=True).transpose(1, 2).expand(-1, 12, -1, -1, -1)

    class Mean(nn.Module):
        width = 12

        def forward(self, wave):
            return wave[:, :12]

    widths = AV(audio=12, visual=12)
    return AVNet(AV(audio=Mean(), visual=Places()), FUSIONS["attention"](widths), 4).eval()


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


def in_batches(batch: Batch, size: int) -> list[Batch]:
    """The same clips, so many at a time."""
    parts = [slice(i, i + size) for i in range(0, len(batch), size)]
    return [Batch(batch.x.map(lambda s, p=p: s[p]), batch.label[p], batch.ids[p]) for p in parts]


def reordered(batch: Batch, order: list[int] | torch.Tensor) -> Batch:
    """The same clips in another order."""
    return Batch(batch.x.map(lambda s: s[order]), batch.label[order], tuple(batch.ids[i] for i in order))
