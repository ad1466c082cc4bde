"""Input noise sensitivity: how far the features of a modality move when small noise is added to its signal."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avrobust.attacks.base import check_settings
from avrobust.defenses.detection import ALARMS, Detection, Detector, Features, held_out
from avrobust.defenses.embedded import Embedded
from avrobust.models.network import AVNet, Measure, Measured, Network
from avrobust.seeds import Seeds, stable_hash
from avrobust.types import AV, NAMES, Batch


@dataclass(frozen=True)
class Sensitivity(Detection):
    """How far features move when Gaussian noise is added to the input: further where an attack has just pushed a clip.

    `audio` and `visual` are standard deviations of the noise, in units of the signals (a waveform in [-1, 1], frames in
    [0, 1]); the mean over `copies` fixed noises, each the same for all clips.  Each modality is looked at by itself.  A model with this
    detector runs each encoder 1 + `copies` times; gradients go through all of these runs.

    After Roth et al., ICML 2019, and Hu et al., NeurIPS 2019, who look at logits under noise; logits of audio-visual models
    do not tell the modalities apart, so this one looks at features.  Needs no attacked clips.
    """

    audio: float = 0.01
    visual: float = 0.02
    copies: int = 2
    alarms: float = ALARMS

    def __post_init__(self) -> None:
        if not (self.audio > 0 and self.visual > 0):
            raise ValueError(
                f"expected noise above 0, got audio={self.audio}, visual={self.visual}. Give 0.01 and 0.02, for example."
            )
        check_settings(copies=(self.copies, 1))

    def fit(self, net: Network, clips: Sequence[Batch], known: Embedded, seed: int) -> "Sensitivities":
        """Calibrated on a quarter of the clips; nothing is learned from the others."""
        if not isinstance(net, AVNet):
            raise ValueError(
                f"expected an AVNet, whose encoders can be run on noisy signals, got {type(net).__name__}. Use a detector of "
                "features, such as Distance()."
            )
        detector = Sensitivities(self.audio, self.visual, self.copies, stable_hash(seed, "sensitivity"))
        encoders, held = AV(net.audio, net.visual).map(Measured, detector.measures), held_out(known)
        with torch.no_grad():
            found = [encoders.map(lambda encode, s: encode(s)[:, -1:].float(), batch.x) for batch in clips]
        detector.to(held.device).calibrate(
            AV(*(torch.cat(moved)[held] for moved in zip(*found, strict=True))), self.alarms
        )
        return detector.eval()


class Sensitivities(Detector):
    """The detector of `Sensitivity`: it reads what is measured beside the features."""

    def __init__(self, audio: float, visual: float, copies: int, seed: int) -> None:
        super().__init__()
        self.audio, self.visual, self.copies, self.seed = audio, visual, copies, seed

    @property
    def measures(self) -> AV[Measure]:
        """How far the features of each modality move."""
        return NAMES.map(lambda name, size: partial(moved, size, self._noises(name)), AV(self.audio, self.visual))

    def _noises(self, name: str) -> tuple[Seeds, str]:
        return Seeds(self.seed, tuple(f"noise {k}" for k in range(self.copies))), name

    def scores(self, f: Features) -> AV[Tensor]:
        """The log of the mean squared movement."""
        return f.map(lambda s: s[:, -1])


def moved(
    size: float, noises: tuple[Seeds, str], encoder: nn.Module, signal: Tensor, f: Tensor
) -> Float[Tensor, "b 1"]:
    """The log of the mean squared difference between features of a signal and of the signal in noise."""
    seeds, name = noises
    drawn = seeds.normal(signal.new_empty(len(seeds.ids), *signal.shape[1:]), name)
    far = [(encoder(signal + size * noise).float() - f.float()).square().mean(1, keepdim=True) for noise in drawn]
    return torch.stack(far).mean(0).clamp_min(1e-12).log()
