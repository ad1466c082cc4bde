"""What the sliders mean: budgets in the units that people use, as a threat and in words."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from avrobust.threat import Threat
from avrobust.types import Signals
from avrobust.units import Norm


class Range(NamedTuple):
    """Of a slider: its ends, its step and where it stands first."""

    low: float
    high: float
    step: float
    value: float


# By norm: the audio slider in dBFS (a peak) or dB SNR (an energy ratio); the visual one in grey levels, at most or in the mean square.
AUDIO: dict[Norm, Range] = {"linf": Range(-80, -10, 1, -44), "l2": Range(0, 60, 1, 35)}
VISUAL: dict[Norm, Range] = {"linf": Range(0.25, 32, 0.25, 2), "l2": Range(0.25, 32, 0.25, 2)}
AUDIO_LABEL: dict[Norm, str] = {
    "linf": "Audio: peak of the perturbation (dBFS)",
    "l2": "Audio: signal-to-noise ratio (dB SNR)",
}
VISUAL_LABEL: dict[Norm, str] = {
    "linf": "Visual: change of a colour (grey levels of 255)",
    "l2": "Visual: root mean square change (grey levels of 255)",
}


@dataclass(frozen=True)
class Sliders:
    """Where the sliders stand; None for a modality that is not attacked.

    >>> print(Sliders(audio=-40.0, visual=None).threat(None))
    audio linf -40 dBFS, visual untouched
    """

    audio: float | None
    visual: float | None
    norm: Norm = "linf"

    def threat(self, x: Signals | None) -> Threat:
        """The threat; an L2 visual budget depends on how many pixels the clip `x` has.  Raises `ValueError` without a budget."""
        if self.audio is None and self.visual is None:
            raise ValueError("expected a budget for audio, visual or both, got none. Switch one on.")
        if self.norm == "linf":
            audio, visual = f"{self.audio or 0:g} dBFS", f"{self.visual or 0:g}/255"
        else:
            pixels = 1 if x is None else x.visual[0].numel()
            audio, visual = f"{self.audio or 0:g} dB SNR", f"{(self.visual or 0) / 255 * math.sqrt(pixels)}"
        made = Threat.linf if self.norm == "linf" else Threat.l2
        return made(audio=0 if self.audio is None else audio, visual=0 if self.visual is None else visual)

    def explained(self) -> str:
        """Both budgets in a sentence each."""
        return "\n\n".join((self._audio(), self._visual()))

    def _audio(self) -> str:
        if self.audio is None:
            return "**Audio** stays clean."
        if self.norm == "l2":
            ratio = 10 ** (-self.audio / 20)
            return f"**Audio**: the perturbation has {ratio:.3g} × the clip's own amplitude (root mean square), {self.audio:g} dB below it."
        share = 10 ** (self.audio / 20)
        return (
            f"**Audio**: no sample moves by more than {share:.3g} of full scale, {share * 32768:,.1f} of 32,768 steps of a 16-bit file."
            f" Against speech or music at −20 dBFS that is {-20 - self.audio:g} dB SNR or more."
        )

    def _visual(self) -> str:
        if self.visual is None:
            return "**Visual** stays clean."
        psnr = 20 * math.log10(255 / self.visual)
        if self.norm == "l2":
            return f"**Visual**: {self.visual:g} grey levels, root mean square: {psnr:.1f} dB PSNR. Single pixels may move further."
        faint = (
            " An 8-bit picture cannot hold less than half a level: rounding will remove this."
            if self.visual < 0.5
            else ""
        )
        return f"**Visual**: no colour of a pixel moves by more than {self.visual:g} of 255 grey levels; {psnr:.1f} dB PSNR or more.{faint}"
