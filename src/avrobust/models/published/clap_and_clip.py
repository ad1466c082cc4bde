"""Classification without training: how similar a clip's sound and its frames are to a text prompt of each class."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from avrobust.models.encoder import Encoder, Loaded
from avrobust.models.frontends import audio_frontend, visual_frontend
from avrobust.models.fusion import FUSIONS
from avrobust.models.network import AVNet
from avrobust.models.published.prompts import Prompts, TextSource, text_embeddings, with_processor
from avrobust.types import AV

PROMPTS: AV[Prompts] = AV(audio="This is a sound of {}.", visual="a photo of {}.")
EQUAL = AV(audio=1.0, visual=1.0)
# The parts of both models: what encodes, what projects into the space of text, the logits' scale.
PARTS = AV(
    audio=("audio_model", "audio_projection", "logit_scale_a"),
    visual=("vision_model", "visual_projection", "logit_scale"),
)


def by_text(encoders: AV[nn.Module], text: AV[Tensor], weights: AV[float] = EQUAL) -> AVNet:
    """Two encoders and, as the classifier, the embedding of a text for each class in each modality, (k d).

    Logits are the weighted sum of the products of embeddings; `text` has whatever scale they have.

    >>> net = by_text(AV(nn.Identity(), nn.Flatten()), AV(torch.eye(3), torch.ones(3, 12)), weights=AV(1.0, 0.5)).eval()
    >>> net(AV(audio=torch.tensor([[0.5, 0.0, 1.0]]), visual=torch.ones(1, 1, 3, 2, 2)))
    tensor([[6.5000, 6.0000, 7.0000]], grad_fn=<AddmmBackward0>)
    """
    net = AVNet(encoders, FUSIONS["concat"](text.map(lambda t: t.shape[1])), len(text.audio))
    net.classifier.weight.data = torch.cat(list(text.map(lambda t, weight: weight * t.detach(), weights)), 1)
    return net


def zero_shot(
    clap: TextSource,
    clip: TextSource,
    classes: Sequence[str],
    *,
    rate: int,
    prompts: AV[Prompts] = PROMPTS,
    weights: AV[float] = EQUAL,
    processors: AV[Any] | None = None,
) -> AVNet:
    """Zero-shot classification by CLAP, which hears, and CLIP, which sees, both of `transformers`.

    Logits are CLAP's `logits_per_audio` plus CLIP's `logits_per_image` for the prompts, each scaled as its model scales it
    and by its weight: weights=AV(1.0, 0.0) listens only.  The text embeddings are computed once, here; several prompts are
    averaged.  An embedding of several frames is their mean.  `clap` and `clip` are names on the model hub, folders, or
    models; the last need their processors in `processors`.  Front ends: `audio_frontend`, `visual_frontend`, which state
    the largest differences from the processors (7.7e-6 dB, 1.1 grey levels); clips that CLAP's would crop at random are
    refused.  Clips have `rate` samples a second.

    Raises `OSError`, saying what to do, where a name is neither here nor to be had, and `ValueError` where a model is not
    CLAP or CLIP, or a prompt has no place for the name of a class.
    """
    given: AV[Any] = processors or AV(audio=None, visual=None)
    front_ends: AV[Callable[[Any], Any]] = AV(audio=partial(audio_frontend, rate=rate), visual=visual_frontend)
    sides: AV[tuple[nn.Module, Tensor]] = AV(clap, clip).map(
        partial(_side, classes), given, prompts, front_ends, PARTS, AV("a ClapModel", "a CLIPModel")
    )
    return by_text(sides.map(lambda side: side[0]), sides.map(lambda side: side[1]), weights).eval()


def _side(
    classes: Sequence[str],
    source: TextSource,
    processor: Any,
    prompts: Prompts,
    front_end: Callable[[Any], Any],
    parts: Sequence[str],
    expected: str,
) -> tuple[nn.Module, Float[Tensor, "k d"]]:
    """One modality's encoder, and the embeddings of the prompts with the scale of its logits."""
    model, processor = with_processor(source, processor)
    if missing := [part for part in parts if not hasattr(model, part)]:
        raise ValueError(
            f"expected {expected}, got a {type(model).__name__} without {', '.join(missing)}. Give its name, or put your "
            "encoders into `by_text` yourself."
        )
    tower, projection, scale = (getattr(model, part) for part in parts)

    def embed(**tokens: Tensor) -> Tensor:
        found = model.get_text_features(**tokens)
        return normalize(getattr(found, "pooler_output", found), dim=1)  # a tensor before transformers 5

    end = front_end(processor)
    text = normalize(text_embeddings(embed, processor.tokenizer, classes, prompts), dim=1)
    return Projected(Encoder(end, Loaded(tower, model.config, end.settings)), projection), text * scale.detach().exp()


class Projected(nn.Module):
    """An encoder and a projection of its features into the space of text; the result has length 1."""

    def __init__(self, encoder: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.rate = getattr(encoder, "rate", None)
        self.projection = projection

    def forward(self, signal: Float[Tensor, "b ..."]) -> Float[Tensor, "b d"]:
        """Embeddings of waveforms (b n) or of frames (b t 3 h w)."""
        return normalize(self.projection(self.encoder(signal)), dim=1)
