"""The gradient of a signal through the first convolution, computed as a convolution forwards: the same but for rounding.

Libraries compute a convolution's input gradient for blocks of 8 or 16 channels.  A waveform has one and a picture three, so
most of that is thrown away, on the largest map of the network.  Positions of the input that lie a stride apart meet the same
weights; the sets of such positions, times the channels, are the channels of an ordinary convolution over the output's
gradient, put together as in sub-pixel convolution (Shi et al. 2016).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW = 4  # channels, of the input


def sees_signals(layer: nn.Conv1d | nn.Conv2d) -> bool:
    """Whether a layer is a convolution of few channels, without what changes which weights a position meets.

    >>> sees_signals(nn.Conv2d(3, 8, 7, stride=2)), sees_signals(nn.Conv2d(64, 8, 3)), sees_signals(nn.Conv1d(1, 8, 3, dilation=2))
    (True, False, False)
    """
    return layer.in_channels <= FEW and layer.groups == 1 and set(layer.dilation) == {1}


def input_gradient(
    g: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], size: Sequence[int]
) -> Tensor:
    """The gradient (b c *size) of a convolution's input, of its output's gradient `g` (b o h w) and its weight (o c kh kw).

    Along each axis, an output at i adds weight k times its gradient to the input at stride * i + k - padding.  With zeros before
    and after the weights, k = stride * m + phase: input stride * (i + first + m) + phase, so that each phase is a convolution
    with the weights of its m, in reverse.
    """
    axes = list(zip(weight.shape[2:], stride, padding, size, g.shape[2:], strict=True))
    first = [-p // s for _, s, p, _, _ in axes]
    before = [-p - s * f for (_, s, p, _, _), f in zip(axes, first, strict=True)]
    taps = [-(-(k + b) // s) for (k, s, *_), b in zip(axes, before, strict=True)]
    after = [m * s - k - b for (k, s, *_), m, b in zip(axes, taps, before, strict=True)]
    o, c = weight.shape[:2]
    (sh, sw), (mh, mw) = stride, taps
    phases = F.pad(weight, (before[1], after[1], before[0], after[0])).view(o, c, mh, sh, mw, sw).flip(2, 4)
    phases = phases.permute(3, 5, 1, 0, 2, 4).reshape(sh * sw * c, o, mh, mw)
    # As many rows as the input has of each phase, from -left to right of the output's.
    rows = [-(-n // s) for _, s, _, n, _ in axes]
    left = [f + m - 1 for f, m in zip(first, taps, strict=True)]
    right = [r - i - a + m - 1 for r, (*_, i), a, m in zip(rows, axes, left, taps, strict=True)]
    pad = [max(a, b, 0) for a, b in zip(left, right, strict=True)]
    found = F.conv2d(g, phases.contiguous(memory_format=torch.channels_last), padding=pad)
    (y, x), (h, w) = (p - a for p, a in zip(pad, left, strict=True)), rows
    found = torch.unflatten(found[:, :, y : y + h, x : x + w], 1, (sh, sw, c))
    whole: Tensor = found.permute(0, 3, 4, 1, 5, 2).reshape(len(g), c, h * sh, w * sw)
    return whole[:, :, : size[0], : size[1]]
