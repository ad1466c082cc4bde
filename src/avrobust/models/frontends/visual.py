"""RGB frames in [0, 1] to what a visual encoder takes: frame sampling, resizing, centre crop, rescaling, normalisation.

All of it is differentiable, treats each frame on its own, and runs on any device, in the frames' own precision also under
autocast: near 0.5 the numbers of bfloat16 lie a grey level apart.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

Filter = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class FrameSettings:
    """What a visual encoder expects."""

    resize: int | tuple[int, int] | None = None  # the shorter side's pixels, or (height, width)
    filter: Filter = "bilinear"
    crop: tuple[int, int] | None = None  # (height, width) of the centre that is kept; smaller frames get a black border
    crop_to_even: bool = (
        False  # of an odd number of lines beyond it, an even number is cut first, as torchvision rounds
    )
    scale: float = 1.0  # of values in [0, 1], before normalisation
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    frames: int | None = None  # how many of a clip's frames, evenly spaced; None: all
    both_ends: bool = False  # sampled frames begin with the first and end with the last
    input: str = "pixel_values"  # the encoder's argument

    def size(self, height: int, width: int) -> tuple[int, int]:
        """What frames of this size are resized to, before the crop.

        >>> FrameSettings(resize=224).size(288, 360)
        (224, 280)
        """
        if isinstance(self.resize, int):
            short, long = self.resize, int(self.resize * max(height, width) / min(height, width))
            return (short, long) if height < width else (long, short)
        return self.resize or (height, width)


class VisualFrontEnd(nn.Module):
    """Frames to an encoder's input (b s 3 i j), as `settings` say.

    >>> front_end = VisualFrontEnd(FrameSettings(resize=224, crop=(224, 224), frames=2))
    >>> front_end(torch.zeros(1, 8, 3, 72, 96)).shape
    torch.Size([1, 2, 3, 224, 224])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: FrameSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("mean", torch.tensor(settings.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings.std).view(3, 1, 1), persistent=False)

    def forward(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b s 3 i j"]:
        """The encoder's input, in the frames' own precision."""
        s = self.settings
        if s.frames is not None:
            frames = frames[:, sample_frames(frames.shape[1], s.frames, s.both_ends)]
        images = frames.flatten(0, 1)
        with torch.autocast(frames.device.type, enabled=False):
            if s.resize is not None:
                images = resize(images, s.size(*images.shape[2:]), s.filter)
            if s.crop is not None:
                images = centre_crop(images, s.crop, s.crop_to_even)
            images = (images * s.scale - self.mean) / self.std
        return images.view(*frames.shape[:2], *images.shape[1:])


def resize(images: Float[Tensor, "b c h w"], size: tuple[int, int], filter: Filter) -> Float[Tensor, "b c i j"]:
    """Images in [0, 1] at another (height, width), by Pillow's filters, which widen as images shrink (antialias).

    Widths change first, then heights, and each of the two ends in [0, 1], as in Pillow.  Pillow also rounds each to 8 bits:
    the largest difference on 20 real frames is 1.1 grey levels of 255 (bicubic; bilinear 1.0).  Pillow 13 changes heights
    first where they shrink more than widths, which differs where bicubic overshoots black or white: by up to 5.7 grey
    levels, on 1 in 1,000 pixels of those frames turned upright.

    Two matrix products, so that gradients on a GPU are deterministic too.

    >>> resize(torch.tensor([[[[0.0, 1.0]]]]), (1, 4), "bilinear")
    tensor([[[[0.0000, 0.2500, 0.7500, 1.0000]]]])
    """
    height, width = images.shape[2:]
    if width != size[1]:
        images = (images @ _weights(width, size[1], filter).to(images).T).clamp(0, 1)
    if height != size[0]:
        images = (_weights(height, size[0], filter).to(images) @ images).clamp(0, 1)
    return images


def centre_crop(
    images: Float[Tensor, "b c h w"], size: tuple[int, int], to_even: bool = False
) -> Float[Tensor, "b c i j"]:
    """The images' centre of this (height, width); a black border where they are smaller.

    Of an odd number of lines beyond it, the smaller half is cut first, as `transformers` with Pillow does; `to_even`: the
    even half, as torchvision does.

    >>> centre_crop(torch.arange(5.0).view(1, 1, 1, 5), (1, 2))
    tensor([[[[1., 2.]]]])
    >>> centre_crop(torch.arange(5.0).view(1, 1, 1, 5), (1, 2), to_even=True)
    tensor([[[[2., 3.]]]])
    """
    for axis, wanted in ((2, size[0]), (3, size[1])):
        here = images.shape[axis]
        if here > wanted:
            first = round((here - wanted) / 2) if to_even else (here - wanted) // 2
            images = images.narrow(axis, first, wanted)
        else:
            border = (wanted - here + 1) // 2, (wanted - here) // 2
            images = nn.functional.pad(images, (*border, 0, 0) if axis == 3 else (0, 0, *border))
    return images


def sample_frames(total: int, number: int, both_ends: bool = False) -> list[int]:
    """The indices of `number` frames, evenly spaced; with `both_ends` the first and the last are among them.

    Raises `ValueError` where there are fewer.

    >>> sample_frames(8, 4), sample_frames(8, 4, both_ends=True)
    ([0, 2, 4, 6], [0, 2, 4, 7])
    """
    if not 1 <= number <= total:
        raise ValueError(
            f"expected clips of at least {number} frames, got {total}. Give it more of each clip (--view.frames "
            f"{number}), from clips with that many frames (--clip.fps)."
        )
    if both_ends and number > 1:
        return [int(i * (total - 1) / (number - 1)) for i in range(number)]
    return [i * total // number for i in range(number)]


def _weights(old: int, new: int, filter: Filter) -> Float[Tensor, "new old"]:
    """How much each old pixel counts in each new one, as in Pillow's `precompute_coeffs`."""
    scale = old / new
    centres = (np.arange(new)[:, None] + 0.5) * scale
    x = np.abs((np.arange(old) + 0.5 - centres) / max(scale, 1.0))
    if filter == "bilinear":
        weights = np.clip(1 - x, 0, None)
    else:  # Keys 1981, a = -0.5
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return torch.from_numpy(weights / weights.sum(1, keepdims=True))
