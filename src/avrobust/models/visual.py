"""Video encoders: RGB frames in [0, 1] to features.  They normalise frames themselves."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avrobust.facts import IMAGENET_MEAN, IMAGENET_STD
from avrobust.models import configurations
from avrobust.models.configurations import IMAGES, PreTrainedModel, transformers

T = TypeVar("T")

LITE0 = "efficientnet-lite0"  # as visual weights: from a package


class FrameNet(nn.Module):
    """An image model on each frame; a clip's feature is the mean over its frames.

    `backbone` is any `transformers` image model with a pooled output; it gets frames normalised per colour with `mean` and
    `std`, or else with those of its configuration (`image_mean`, `image_std`), or ImageNet's.  With `spatial`, features keep their positions, (b d t h w), and the last stage of a ResNet keeps its
    resolution: 4 x 4 positions of 64 pixels, 14 x 14 of 224.

    >>> net = FrameNet(resnet18(width=16))
    >>> net(torch.zeros(2, 3, 3, 32, 32)).shape
    torch.Size([2, 128])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: PreTrainedModel,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        spatial: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.spatial = spatial
        if spatial:
            _finer(backbone)
        config = backbone.config  # convolutional networks have a size per stage, transformers have one
        self.width: int = config.hidden_sizes[-1] if hasattr(config, "hidden_sizes") else config.hidden_size
        # Constants of the architecture, not weights: they stay out of checkpoints.
        mean = mean or getattr(config, "image_mean", IMAGENET_MEAN)
        std = std or getattr(config, "image_std", IMAGENET_STD)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b d *positions"]:
        """Features of clips of t frames."""
        return self.with_segments(frames)[0]

    def with_segments(self, frames: Float[Tensor, "b t 3 h w"]) -> tuple[Tensor, Float[Tensor, "b t d"]]:
        """The features of the clips, and those of each frame."""
        images = (frames.flatten(0, 1) - self.mean) / self.std
        out = self.backbone(images)
        if self.spatial:
            maps: Tensor = out.last_hidden_state
            maps = maps.view(*frames.shape[:2], *maps.shape[1:])
            return maps.transpose(1, 2), maps.mean((3, 4))
        pooled: Tensor = out.pooler_output.reshape(*frames.shape[:2], self.width)
        return pooled.mean(dim=1), pooled


def resnet18(width: int = 64, channels: int = 3) -> PreTrainedModel:
    """ResNet-18 (He et al. 2016) with random weights; `width` channels in its first stage, 8 `width` features."""
    config = transformers().ResNetConfig(
        num_channels=channels,
        layer_type="basic",
        depths=[2, 2, 2, 2],
        embedding_size=width,
        hidden_sizes=[width, 2 * width, 4 * width, 8 * width],
    )
    return transformers().ResNetModel(config)


def _finer(backbone: PreTrainedModel) -> None:
    """Remove the last stride of a ResNet; its weights do not change."""
    if not isinstance(backbone, transformers().ResNetModel):
        raise ValueError(
            f"expected a ResNet for spatial attention, got {type(backbone).__name__}. "
            "Use visual weights of a ResNet, or another fusion."
        )
    for module in backbone.encoder.stages[-1].modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)


def pretrained(name: str) -> PreTrainedModel:
    """The image model `name` with its weights, for example "microsoft/resnet-18" (ImageNet), or a folder of one.

    "efficientnet-lite0" (ImageNet) comes from a package, the extra `avrobust[imagenet]`.  Of the others, only weights that
    are not in the local cache are fetched from the model hub.  Raises `OSError`, saying what to do, where the weights
    cannot be found, and `ValueError` for a model that is not in `configurations.IMAGES`.  Code beside the weights is never run.
    """
    if name == LITE0:
        from avrobust.models.efficientnet import lite0

        return lite0()
    return fetch(
        name,
        _fetched,
        "as the visual weights (a study: --visual-weights PATH), or leave the weights out to start from random ones "
        "(--visual-weights none).",
    )


def fetch(name: str, load: Callable[..., T], otherwise: str) -> T:
    """What `load(name)` finds here, or else on the model hub; `otherwise` ends the sentence of what to do where it fails."""
    try:
        return load(name, local_files_only=True)
    except OSError:
        pass
    try:
        return load(name)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(
            f"expected the weights '{name}' in a folder, in the local cache or on the model hub, got: {reason} "
            f"Download them on a machine that is online (hf download {name}) and give that folder's path {otherwise}"
        ) from error


def _fetched(name: str, **where: bool) -> PreTrainedModel:
    told, _ = transformers().PretrainedConfig.get_config_dict(name, **where)
    config = configurations.made(configurations.known_settings(told, IMAGES), IMAGES)
    return configurations.with_weights(name, config=config, **where)


def from_config(config: Mapping[str, Any]) -> PreTrainedModel:
    """The image model of a `transformers` configuration, with random weights.

    It may come from a stranger's file: raises `ValueError` for a model that is not in `configurations.IMAGES`, and for
    settings that such a model does not have.
    """
    return transformers().AutoModel.from_config(configurations.made(config, IMAGES), trust_remote_code=False)
