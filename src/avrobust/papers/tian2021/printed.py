"""The printed numbers of Tian & Xu, "Can audio-visual integration strengthen robustness under multimodal
attacks?", CVPR 2021 (arXiv 2104.02000), in per cent, as printed, misprints included; and what it says of each claim.

Captions give budgets ten times too large (0.12, 0.06): the axis of Figure 3 and the authors' README say 0.012 and
0.006.  Waveforms lie in [-1, 1]; visual budgets are in the units of an ImageNet-normalised frame.
"""

from avrobust.papers.tian2021.claims import CLAIMS
from avrobust.report.paper import Paper, Printed, Row

CITATION = (
    "Yapeng Tian and Chenliang Xu. Can audio-visual integration strengthen robustness under multimodal "
    "attacks? CVPR 2021. arXiv:2104.02000."
)
# (audio, visual) budgets: of Table 1, and of Tables 2 and 3
EPS_ATTACK = {"A": (0.012, 0.0), "V": (0.0, 0.012), "AV": (0.006, 0.006)}
EPS_DEFENSE = {"A": (0.006, 0.0), "V": (0.0, 0.006), "AV": (0.006, 0.006)}

# Unimodal accuracy on clean clips: (audio, visual)
UNIMODAL = {"MIT-MUSIC": (59.62, 81.73), "Kinetics-Sounds": (35.99, 66.08)}

# Three attacks; single-modality budgets 0.012, joint 0.006.  Avg is `avg_attacked`.
TABLE_1 = {
    "MIT-MUSIC": (
        Row("FGSM", 88.46, 50.00, 25.00, 15.38, 30.12),
        Row("PGD", 88.46, 13.46, 1.92, 0.00, 5.09),  # recomputes to 5.13
        Row("MIM", 88.46, 6.73, 1.92, 0.00, 2.88),
    ),
    "Kinetics-Sounds": (
        Row("FGSM", 72.42, 33.38, 15.08, 8.18, 18.88),
        Row("PGD", 72.42, 6.22, 1.90, 0.77, 2.96),
        Row("MIM", 72.42, 3.87, 1.55, 0.32, 1.91),
    ),
}

# Five fusions, FGSM at 0.006, MIT-MUSIC.  Avg is `avg_all`.
TABLE_2 = (
    Row("Sum", 88.46, 35.58, 45.19, 3.85, 43.27),
    Row("Concat", 88.46, 51.92, 45.19, 15.38, 50.24),
    Row("FiLM", 83.65, 28.85, 39.42, 3.85, 38.95),
    Row("Gated-Sum", 89.42, 33.65, 44.23, 4.81, 43.03),
    Row("Gated-Concat", 89.42, 45.19, 43.27, 13.46, 47.84),
)

# Defences, FGSM at 0.006.  Avg is `avg_attacked`.
TABLE_3 = {
    "MIT-MUSIC": (
        Row("None", 88.46, 51.92, 45.19, 15.38, 37.50, 0.00),
        Row("Unimodal A", 59.62, 0.00, 59.62, 0.00, 19.87, -46.47),
        Row("Unimodal V", 81.73, 81.73, 11.54, 11.54, 34.94, -9.29),
        Row("PCL", 83.65, 81.73, 37.50, 36.54, 51.91, 9.60),
        Row("MaxSim", 89.42, 52.88, 45.19, 31.73, 43.27, 6.73),
        Row("MinSim", 91.35, 70.19, 46.15, 36.54, 50.96, 16.35),
        Row("ExFMem", 89.42, 53.85, 50.00, 20.19, 41.34, 4.80),
        Row("MinSim+ExFMem", 90.38, 73.08, 53.85, 42.31, 56.41, 20.83),
    ),
    "Kinetics-Sounds": (
        Row("None", 72.42, 36.40, 26.35, 8.09, 23.61, 0.00),
        Row("Unimodal A", 35.99, 1.87, 35.99, 1.87, 13.24, -46.80),
        Row("Unimodal V", 66.08, 66.08, 18.72, 18.72, 34.50, 4.55),
        Row("PCL", 64.50, 63.43, 29.28, 28.67, 40.46, 8.93),
        Row("MaxSim", 71.39, 34.95, 29.57, 21.46, 28.66, 4.02),
        Row("MinSim", 70.88, 52.42, 28.12, 21.62, 34.05, 8.99),  # RI recomputes to 8.90
        Row("ExFMem", 72.71, 41.56, 29.93, 10.44, 27.31, 3.99),
        Row("MinSim+ExFMem", 71.33, 55.96, 30.57, 24.90, 37.14, 12.44),
    ),
}

# What the paper prints for each claim, by the claim's name.
SAID = {
    "clean": "MIT-MUSIC 88.5 against 59.6 (A) and 81.7 (V); Kinetics-Sounds 72.4 against 36.0 and 66.1.",
    "A": "MIT-MUSIC 50.0 (FGSM), 13.5 (PGD), 6.7 (MIM) against 81.7: MIM takes 91.76 % of it.",
    "V": "MIT-MUSIC 25.0 (FGSM), 1.9 (PGD), 1.9 (MIM) against 59.6: MIM takes 96.77 % of it.",
    "joint": "MIT-MUSIC, FGSM: 15.4 against 50.0 (A) and 25.0 (V).",
    "company": "MIT-MUSIC, FGSM: yes, 15.4 against 0.0 (A) and 11.5 (V). Kinetics-Sounds: no, 8.1 against 18.7 (V).",
    "MIM": (
        "MIT-MUSIC: MIM leaves 6.7, 1.9, 0.0 (A, V, AV), PGD 13.5, 1.9, 0.0. But the code's MIM goes to 11.25 times its "
        "budget for pictures and 1.25 times that for sound, its PGD to the budget."
    ),
    "leaving": (
        "Its bounds are around the value just stepped to, so they hold nothing back: ten steps go to 1.25 times the budget "
        "for sound and bright pixels, and to 11.25 times for dark ones."
    ),
    "fusion": "MIT-MUSIC, FGSM on both: Concat 15.4; Sum 3.9, FiLM 3.9, Gated-Sum 4.8.",
    "localisation": "Figure 4, by eye: six pictures.",
    "listening": "Taken for granted in section 4.5.",
    "MinSim": "Avg under FGSM: MIT-MUSIC 51.0 against 43.3, Kinetics-Sounds 34.1 against 28.7.",
    "RI": "RI: MIT-MUSIC 20.8, next best MinSim 16.4; Kinetics-Sounds 12.4, next best MinSim 9.0. More training alone and adversarial training are not in the paper.",
    "kept": "MIT-MUSIC 90.4 against 88.5; Kinetics-Sounds 71.3 against 72.4.",
}

PAPER = Paper(
    name="tian2021",
    citation=CITATION,
    eps_attack=EPS_ATTACK,
    eps_defense=EPS_DEFENSE,
    printed={
        "MIT-MUSIC": Printed(
            classes=11, test_clips=104, unimodal=UNIMODAL["MIT-MUSIC"], attacks=TABLE_1["MIT-MUSIC"], fusions=TABLE_2,
            defenses=TABLE_3["MIT-MUSIC"],
            note="The paper prints 5.09 for PGD's Avg on MIT-MUSIC; its columns give 5.13. Its captions say 0.12 and 0.06 "
            "for the budgets; its figure and code say 0.012 and 0.006.",
        ),
        "Kinetics-Sounds": Printed(
            classes=27, test_clips=3104, unimodal=UNIMODAL["Kinetics-Sounds"], attacks=TABLE_1["Kinetics-Sounds"],
            defenses=TABLE_3["Kinetics-Sounds"],
        ),
    },
    said=SAID,
    claims=CLAIMS,
)  # fmt: skip
