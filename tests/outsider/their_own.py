"""What somebody builds who knows this package by its public names: networks, a defense, an objective, attacks."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

import avrobust as avr

CLIPS_SEEN: Counter[str] = Counter()  # by encoder: how many clips it was run on


class Wide(nn.Module):
    """A block of a WideResNet: pre-activation, two convolutions, a shortcut."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(into), nn.BatchNorm2d(out)])
        self.convs = nn.ModuleList(
            [nn.Conv2d(into, out, 3, 2, 1, bias=False), nn.Conv2d(out, out, 3, 1, 1, bias=False)]
        )
        self.shortcut = nn.Conv2d(into, out, 1, 2, bias=False)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        h = self.norms[0](z).relu()
        return self.convs[1](self.norms[1](self.convs[0](h)).relu()) + self.shortcut(h)


class Eye(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(Wide(8, 16), Wide(16, width))
        self.norm = nn.BatchNorm2d(width)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        CLIPS_SEEN["eye"] += len(frames)
        z = self.blocks(self.stem(frames.mean(1) * 4 - 2))
        return self.norm(z).relu().mean((2, 3))


class Ear(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(1, width, 9, stride=4), nn.BatchNorm1d(width)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        CLIPS_SEEN["ear"] += len(wave)
        return self.norm(self.conv(wave[:, None] / 0.1)).relu().mean(2)


class Rounded(nn.Module):
    """A feature defense of their own, which hides its gradient."""

    def forward(self, f: avr.AV) -> avr.AV:
        return f.map(lambda z: z.mul(4).round().div(4))


class TwoTowers(nn.Module):
    """Two streams and no `AVNet`: features come by name, the head is an MLP, labels may be many."""

    def __init__(self, outputs: int = 4, width: int = 12, defense: nn.Module | None = None) -> None:
        super().__init__()
        self.towers = nn.ModuleDict({"hear": Ear(width), "see": Eye(width)})
        self.head = nn.Sequential(nn.Linear(2 * width, 16), nn.ReLU(), nn.Linear(16, outputs))
        self.feature_defense = defense or nn.Identity()

    def embed(self, x: avr.AV) -> avr.AV:
        return avr.AV(audio=self.towers["hear"](x.audio), visual=self.towers["see"](x.visual))

    def decide(self, f: avr.AV) -> torch.Tensor:
        return self.head(torch.cat([f.audio, f.visual], 1))

    def forward(self, x: avr.AV) -> dict[str, torch.Tensor]:
        return {"logits": self.decide(self.feature_defense(self.embed(x)))}


def network(outputs: int = 4, defense: nn.Module | None = None) -> TwoTowers:
    """A network whose normalisations are not the identity, and whose features differ from clip to clip."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = TwoTowers(outputs, defense=defense)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.3, 0.3)
                nn.init.uniform_(module.running_var, 0.3, 1.5)
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.7)
        net.eval()
        with torch.no_grad():  # every class is some clip's
            net.head[-1].bias -= net(signals())["logits"].mean(0)
    return net


def signals(n: int = 12) -> avr.AV:
    g = torch.Generator().manual_seed(3)
    return avr.AV(
        audio=torch.rand((n, 400), generator=g) * 1.6 - 0.8, visual=torch.rand((n, 2, 3, 16, 16), generator=g)
    )


@dataclass(frozen=True)
class TooFarFromTarget:
    """Their own objective, of a model that predicts one number: it succeeds more than `by` away from the target."""

    by: float

    def value(self, out, y):
        return (out.logits[:, 0] - y).abs()

    def success(self, out, y):
        return self.value(out, y) > self.by


class SignNoise:
    """Their own attack as a class: a corner of the ball, drawn per clip."""

    name = "sign noise"

    def __call__(self, model, x, y, threat, seeds):
        return threat.map(lambda ball, s: (s + ball.eps * seeds.normal(s, "sign").sign()).clamp(ball.low, ball.high), x)
