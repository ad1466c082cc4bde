"""The attacks that studies share, and the ways in which budgets stand together.  Pictures count in normalised units."""

from avrobust.attacks import FGSM, MIM, PGD
from avrobust.threat import Threat

# Tables count which clips survive, so a clip that is wrong is left alone.
ONE_STEP, TEN_STEPS, MOMENTUM = FGSM(), PGD(stop=True), MIM(stop=True)


def together(audio: float, visual: float) -> tuple[Threat, ...]:
    """One budget per modality, tried on sound, on picture, and on both at once."""
    return Threat.tian2021(audio, visual).subsets()


def curves(audio: tuple[float, ...], visual: tuple[float, ...]) -> dict[str, tuple[Threat, ...]]:
    """Budgets for sound, for picture, and for both, each growing with its partner: a figure's three axes."""
    return {
        "A": tuple(Threat.tian2021(a, 0.0) for a in audio),
        "V": tuple(Threat.tian2021(0.0, v) for v in visual),
        "AV": tuple(Threat.tian2021(a, v) for a, v in zip(audio, visual, strict=True)),
    }
