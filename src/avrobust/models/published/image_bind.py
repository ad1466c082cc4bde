"""ImageBind (Girdhar et al. 2023) where its code and weights are installed: its front ends, and zero-shot classification.

Its code and its weights are licensed CC BY-NC-SA 4.0, so neither is here, nor does anything import them.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avrobust.models.frontends import (
    AudioFrontEnd,
    FrameSettings,
    MelFilters,
    MelSettings,
    VisualFrontEnd,
    WaveSettings,
)
from avrobust.models.network import AVNet
from avrobust.models.published.clap_and_clip import EQUAL, by_text
from avrobust.types import AV

RATE, SECONDS, CUTS = 16_000, 2, 3  # Hz; three cuts of two seconds from each clip
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def imagebind_inputs(rate: int) -> AV[nn.Module]:
    """ImageBind's front ends, as its `data.py` has them: (b 3 1 128 204) of waveforms, (b t 3 224 224) of frames.

    Sound: three cuts of 2 s, evenly spaced from the clip's beginning to its end (as pytorchvideo's main branch places them; its
    release 0.1.5 starts them at 0, 1/3 and 2/3 of the same stretch), as log-mel spectrograms of 128 bands and
    204 frames, normalised by -4.268 and 9.138.  Largest difference from torchaudio's `fbank`, which it calls, on 20 real
    clips: 3.6e-4 of values from -1.3 to 1.3 (its own rounding).  Frames: each as a picture (`load_and_transform_vision_data`:
    224 x 224, bicubic, without its rounding to 8 bits, see `resize`); ImageBind averages over them.  Its transform of
    videos, which cuts each frame three times, is not this one.

    >>> imagebind_inputs(44_100).map(lambda front_end, s: front_end(s).shape, AV(torch.zeros(1, 132_300), torch.zeros(1, 2, 3, 90, 160)))
    AV(audio=torch.Size([1, 3, 1, 128, 204]), visual=torch.Size([1, 2, 3, 224, 224]))
    """
    pixels = FrameSettings(
        resize=224, filter="bicubic", crop=(224, 224), crop_to_even=True, mean=CLIP_MEAN, std=CLIP_STD
    )
    return AV(audio=_Cuts(rate), visual=VisualFrontEnd(pixels))


def imagebind(model: nn.Module, text: Float[Tensor, "k d"], *, rate: int, weights: AV[float] = EQUAL) -> AVNet:
    """Zero-shot classification by an ImageBind model of yours, for clips of `rate` samples a second.

    `text` are its embeddings of one prompt per class; logits are audio @ text.T plus vision @ text.T, by its own scales:

        from imagebind.data import load_and_transform_text
        from imagebind.models.imagebind_model import imagebind_huge
        model = imagebind_huge(pretrained=True).eval()
        text = model({"text": load_and_transform_text(["A dog.", "A car."], "cpu")})["text"]
        net = avr.models.published.imagebind(model, text, rate=16_000)
    """
    inputs = imagebind_inputs(rate)
    encoders: AV[nn.Module] = AV(
        audio=_Side(inputs.audio, model, "audio"), visual=_Side(inputs.visual, model, "vision")
    )
    return by_text(encoders, AV(audio=text, visual=text), weights).eval()


class _Cuts(nn.Module):
    """Waveforms to spectrograms of three cuts."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        mel = MelSettings(
            rate=RATE, frame=400, hop=160, fft=512, kaldi=True, mel=MelFilters(128, 20, RATE // 2, "kaldi"), frames=204,
            floor=1.192092955078125e-07, log=math.e, mean=-4.268, std=9.138, layout="mel first", copies=1,
        )  # fmt: skip
        self.rate = rate
        self.resample = AudioFrontEnd(WaveSettings(RATE), rate)
        self.spectrogram = AudioFrontEnd(mel, RATE)

    def forward(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b 3 1 128 204"]:
        wave = self.resample(wave)
        last = max(0, wave.shape[1] - SECONDS * RATE)
        cuts = [wave[:, start : start + SECONDS * RATE] for start in (last * i // (CUTS - 1) for i in range(CUTS))]
        return torch.stack([self.spectrogram(cut) for cut in cuts], 1)


class _Side(nn.Module):
    """One modality's embeddings."""

    def __init__(self, front_end: nn.Module, model: Any, key: str) -> None:
        super().__init__()
        self.front_end, self.model, self.key = front_end, model, key
        self.rate = getattr(front_end, "rate", None)

    def forward(self, signal: Float[Tensor, "b ..."]) -> Float[Tensor, "b d"]:
        embeddings: Tensor = self.model({self.key: self.front_end(signal)})[self.key]
        return embeddings
