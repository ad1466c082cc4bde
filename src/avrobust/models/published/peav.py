"""PE-AV (Meta 2025, arXiv 2512.19687): `PeAudioVideoModel` of `transformers`, as a classifier."""

import copy
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avrobust.models.configurations import PreTrainedModel
from avrobust.models.frontends import audio_frontend, visual_frontend
from avrobust.models.fusion import Fusion
from avrobust.models.network import AVNet, refuse_few, weights_drawn_by
from avrobust.models.published.prompts import Prompts, TextSource, text_embeddings, with_processor
from avrobust.types import AV


def pe_av(
    source: TextSource,
    classes: Sequence[str] | int,
    *,
    rate: int,
    prompts: Prompts = "{}",
    processor: Any = None,
    seed: int = 0,
) -> AVNet:
    """PE-AV as a classifier of clips of `rate` samples a second: by text prompts, or by a linear layer to be trained.

    Class names make it zero-shot: logits are the model's `logits_audio_video_text` for the prompts; several are averaged.
    A number of classes puts a linear layer with random weights, by `seed`, on `audio_video_embeds`.  `source` is a name on
    the model hub ("facebook/pe-av-large"), a folder, or a model; the last needs its `processor`.

    `transformers` (5.23) computes the codec in front of its audio encoder without gradients: no gradient reaches the
    waveform.  This one computes it with them, to the same numbers.  Front ends: `audio_frontend` (no difference from the
    processor) and `visual_frontend` (1.0 grey level: the processor rounds to 8 bits).

    Raises `OSError`, saying what to do, where the name is neither here nor to be had, and `ValueError` for another model.
    """
    model, processor = with_processor(source, processor)
    encoder = getattr(model, "audio_video_encoder", None)
    if encoder is None:
        raise ValueError(
            f"expected a PeAudioVideoModel, got a {type(model).__name__} without an audio_video_encoder. Give the name of "
            "one: 'facebook/pe-av-large'."
        )
    parts, heard = encoder.embedder, encoder.embedder.audio_encoder
    encoders: AV[nn.Module] = AV(
        audio=_Stream(audio_frontend(processor, rate), _with(heard, embedder=_Differentiable(heard.embedder))),
        visual=_Stream(visual_frontend(processor), parts.video_encoder),
    )
    number = classes if isinstance(classes, int) else len(classes)
    refuse_few(number)
    with weights_drawn_by(seed):
        net = AVNet(encoders, _Joint(encoder, model.audio_video_head), number)
    if not isinstance(classes, int):
        text = text_embeddings(model.get_text_audio_video_embeds, processor.tokenizer, classes, prompts)
        net.classifier.weight.data = text * model.text_audio_video_logit_scale.detach()
        net.classifier.bias.data += model.text_audio_video_logit_bias.detach()
    return net.eval()


class _Joint(Fusion):
    """The transformer over what the encoders of both modalities give, (b p d) each, and its embedding of the clip."""

    def __init__(self, encoder: PreTrainedModel, head: Any) -> None:
        embedder = encoder.embedder
        super().__init__(AV(embedder.audio_encoder.config.hidden_size, embedder.video_encoder.config.hidden_size))
        self.width = head.proj.out_features
        self.encoder = _with(encoder, embedder=_with(embedder, audio_encoder=_Known(), video_encoder=_Known()))
        self.head = head

    def forward(self, f: AV[Tensor]) -> Float[Tensor, "b d"]:
        """`audio_video_embeds`."""
        z: Tensor = self.head(self.encoder(input_values=f.audio, pixel_values_videos=f.visual).pooler_output)
        return z


class _Stream(nn.Module):
    """A front end and a transformer; all of its positions."""

    def __init__(self, front_end: nn.Module, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.front_end, self.encoder = front_end, encoder
        self.rate = getattr(front_end, "rate", None)

    def forward(self, signal: Float[Tensor, "b ..."]) -> Float[Tensor, "b p d"]:
        z: Tensor = self.encoder(self.front_end(signal)).last_hidden_state
        return z


class _Known(nn.Module):
    """In the place of an encoder: what it gave is handed on."""

    def forward(self, z: Tensor, **_: Any) -> Any:
        return SimpleNamespace(last_hidden_state=z, output_mask=None)


class _Differentiable(nn.Module):
    """The audio encoder's embedder, with the codec's gradients, which that of `transformers` switches off."""

    def __init__(self, embedder: Any) -> None:
        super().__init__()
        self.dac_encoder, self.bottleneck, self.data_proj = (
            embedder.dac_encoder,
            embedder.bottleneck,
            embedder.data_proj,
        )

    def forward(self, wave: Float[Tensor, "b 1 n"], padding_mask: None = None) -> tuple[Tensor, None]:
        with torch.backends.cudnn.flags(enabled=False):  # as there: its convolutions may round more on a GPU
            codes = self.bottleneck(self.dac_encoder(wave))
        return self.data_proj(codes.transpose(1, 2)), padding_mask


def _with(module: nn.Module, **parts: nn.Module) -> Any:
    """A copy of a module that shares its weights, with other parts in place of some."""
    other = copy.copy(module)
    other._modules = {**module._modules, **cast("dict[str, nn.Module | None]", parts)}
    return other
