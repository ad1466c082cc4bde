"""Audio encoders: waveforms in [-1, 1] to features."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

# The shortest waveform of which eight strides of 2 and four poolings of 2 leave one position.
SHORTEST = 2341


class Conv1dNet(nn.Module):
    """The audio encoder of Tian & Xu 2021: eight 1-D convolutions on the raw waveform, then the maximum over time.

    Kernel 3, stride 2, padding 1, batch normalisation and ReLU after each; `width` channels in the first
    pair of convolutions, twice as many in each next pair; pooling by 2 after each pair.  The published
    network has `width` 64 and 512 features.

    The convolutions are 1 x 3 kernels over an image one pixel high, which computes the same and runs about twice as
    fast in channels-last memory.  They have no bias, which the normalisation would cancel: the published 1-D weights
    fit after `weight.unsqueeze(2)` and `running_mean - bias`.

    >>> import torch
    >>> Conv1dNet(width=16)(torch.zeros(2, 4096)).shape
    torch.Size([2, 128])
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels = [1, *(width * k for k in (1, 1, 2, 2, 4, 4, 8, 8))]
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(channels)):
            layers += [
                nn.Conv2d(before, after, (1, 3), stride=(1, 2), padding=(0, 1), bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
            if i % 2:
                layers.append(nn.MaxPool2d((1, 2)))
        self.layers = nn.Sequential(*layers)
        self.width = channels[-1]

    def forward(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        """Features of waveforms of at least 2,341 samples."""
        return self.with_segments(wave)[0]

    def with_segments(self, wave: Float[Tensor, "b n"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b s d"]]:
        """The features of the clips, and those of each stretch of 4,096 samples."""
        if wave.shape[1] < SHORTEST:
            raise ValueError(
                f"expected at least {SHORTEST} samples of audio, got {wave.shape[1]}. "
                "Give longer clips: the network reduces its input 4,096-fold."
            )
        # One channel fits either memory layout; these strides make every map after it channels-last.
        maps: Tensor = self.layers(wave[:, None, :, None].permute(0, 3, 1, 2))
        return maps.amax(dim=(2, 3)), maps.flatten(2).transpose(1, 2)
