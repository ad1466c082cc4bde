"""The attacks and budgets that studies share: the paper's, and larger budgets for pictures."""

from avrobust.attacks import FGSM, MIM, PGD
from avrobust.threat import Threat

# Tables count which clips survive, so a clip that is wrong is left alone.
ONE_STEP, TEN_STEPS, MOMENTUM = FGSM(), PGD(stop=True), MIM(stop=True)


def together(audio: float, visual: float) -> tuple[Threat, ...]:
    """One budget per modality, tried on sound, on picture, and on both at once."""
    return Threat.tian2021(audio, visual).subsets()


# Table 1: single-modality attacks at 0.012, joint ones at half of it each.
TABLE1 = (Threat.tian2021(0.012, 0.0), Threat.tian2021(0.0, 0.012), Threat.tian2021(0.006, 0.006))
# Small networks trained from scratch hardly notice the paper's budget for pictures: four times as much of those.
TABLE1_X4 = (Threat.tian2021(0.012, 0.0), Threat.tian2021(0.0, 0.048), Threat.tian2021(0.006, 0.024))

# Tables 2 and 3: 0.006 everywhere.
TABLE3 = together(0.006, 0.006)
TABLE3_X4 = together(0.006, 0.024)


def curves(audio: tuple[float, ...], visual: tuple[float, ...]) -> dict[str, tuple[Threat, ...]]:
    """Figure 3: budgets for sound, for picture, and for both, each growing with its partner."""
    return {
        "A": tuple(Threat.tian2021(a, 0.0) for a in audio),
        "V": tuple(Threat.tian2021(0.0, v) for v in visual),
        "AV": tuple(Threat.tian2021(a, v) for a, v in zip(audio, visual, strict=True)),
    }
