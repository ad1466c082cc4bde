"""Networks of the paper's kind: AlexNet or ResNet for audio and for video, features summed or concatenated.

The paper's eight are {AlexNet, ResNet} x {AlexNet or VGG, ResNet} x {sum, concat}, written AcA for AlexNet-concat-AlexNet.  These
are small, with random weights: `width` sets their channels.  Both encoders see consecutive segments one by one, frames of
the video and stretches of the spectrogram, and average their features.
"""

from dataclasses import dataclass, replace
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from avrobust.config import check_choices
from avrobust.models.frontends.audio import AudioFrontEnd, MelFilters, MelSettings
from avrobust.models.fusion import FUSIONS
from avrobust.models.network import AVNet, Spec, known, refuse_few, weights_drawn_by
from avrobust.models.visual import resnet18
from avrobust.types import AV

Kind = Literal["alexnet", "resnet"]
BANDS, WINDOW_S, HOP_S = 48, 0.04, 0.0125
LEVEL, SPREAD = -5.0, 2.5  # about the mean and the spread of the logarithm of a band's power


@dataclass(frozen=True)
class SmallSpec(Spec):
    """One of the paper's kind.  `segments` are those of the audio; `rate` is that of the clips.

    >>> import torch
    >>> net = SmallSpec(classes=3, audio="resnet").build(seed=0)
    >>> net.audio.with_segments(torch.zeros(2, 12_288))[1].shape, SmallSpec(audio="alexnet", fusion="sum").short
    (torch.Size([2, 4, 128]), 'AsA')
    """

    classes: int | None = None
    audio: Kind = "alexnet"
    visual: Kind = "alexnet"
    fusion: Literal["concat", "sum"] = "concat"
    width: int = 16  # channels of a first stage; features have 8 times as many
    segments: int = 4
    rate: int = 11025

    def __post_init__(self) -> None:
        refuse_few(self.classes)
        check_choices(self)
        if self.width < 1 or self.width % 16:
            raise ValueError(f"expected a width that is a multiple of 16, got {self.width}. Ask for 16 or 32.")

    @property
    def short(self) -> str:
        """As the paper writes it, video first: AcA, RsR."""
        return f"{self.visual[0].upper()}{self.fusion[0]}{self.audio[0].upper()}"

    def for_clips(self, classes: int, rate: int) -> "SmallSpec":
        return replace(self, classes=classes, rate=rate)

    def build(self, seed: int) -> AVNet:
        with weights_drawn_by(seed):
            encoders: AV[nn.Module] = AV(
                audio=SpectrogramNet(_image_net(self.audio, self.width, 1), 8 * self.width, self.rate, self.segments),
                visual=PictureNet(_image_net(self.visual, self.width, 3), 8 * self.width),
            )
            net = AVNet(encoders, FUSIONS[self.fusion](encoders.map(lambda e: e.width)), known(self.classes))
        net.built_by(self)
        return net

    def rebuild(self) -> AVNet:
        return self.build(seed=0)


class PictureNet(nn.Module):
    """An image model on each frame; a clip's feature is the mean over its frames."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone, self.width = backbone, width

    def forward(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b d"]:
        """Features of clips of t frames."""
        return self.with_segments(frames)[0]

    def with_segments(self, frames: Float[Tensor, "b t 3 h w"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b t d"]]:
        """The features of the clips, and those of each frame."""
        parts = self.backbone((frames.flatten(0, 1) - 0.5) / 0.25).view(*frames.shape[:2], self.width)
        return parts.mean(1), parts


class SpectrogramNet(nn.Module):
    """An image model on each of some stretches of a log-mel spectrogram; a clip's feature is the mean over them."""

    def __init__(self, backbone: nn.Module, width: int, rate: int, segments: int) -> None:
        super().__init__()
        self.backbone, self.width, self.rate, self.segments = backbone, width, rate, segments
        self.hop, frame = round(HOP_S * rate), round(WINDOW_S * rate)
        mel = MelSettings(
            rate, frame, self.hop, 1 << (frame - 1).bit_length(), MelFilters(BANDS, 40.0, rate / 2, "slaney", "slaney"),
            frames=None, floor=1e-6, log=2.718281828459045, mean=LEVEL, std=SPREAD,
        )  # fmt: skip
        self.front_end = AudioFrontEnd(mel, rate)

    def forward(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        """Features of waveforms."""
        return self.with_segments(wave)[0]

    def with_segments(self, wave: Float[Tensor, "b n"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b s d"]]:
        """The features of the clips, and those of each stretch."""
        length = wave.shape[1] // self.hop // self.segments
        images = self.front_end(wave)[:, : length * self.segments].reshape(-1, 1, length, BANDS)
        parts = self.backbone(images).view(len(wave), self.segments, self.width)
        return parts.mean(1), parts


class _Pooled(nn.Module):
    """A model of `transformers`, its pooled output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        pooled: Tensor = self.model(images).pooler_output.flatten(1)
        return pooled


def _image_net(kind: Kind, width: int, channels: int) -> nn.Module:
    """Images (n c h w) to (n 8 width)."""
    if kind == "resnet":
        return _Pooled(resnet18(width, channels))
    layers: list[nn.Module] = []
    # Strides and pooling as in AlexNet (Krizhevsky et al. 2012), kernels for small images, batch normalisation for short
    # trainings; no large linear layers.
    for before, after, kernel, stride, pool in (
        (channels, 2 * width, 5, 2, True),
        (2 * width, 4 * width, 3, 1, True),
        (4 * width, 8 * width, 3, 1, False),
        (8 * width, 8 * width, 3, 1, False),
    ):
        layers += [
            nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            *([nn.MaxPool2d(2)] if pool else []),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
