"""The printed numbers of Tian & Xu, "Can audio-visual integration strengthen robustness under multimodal
attacks?", CVPR 2021 (arXiv 2104.02000), in per cent, as printed, misprints included; and what it says of each claim.

Captions give budgets ten times too large (0.12, 0.06): the axis of Figure 3 and the authors' README say 0.012 and
0.006.  Waveforms lie in [-1, 1]; visual budgets are in the units of an ImageNet-normalised frame.
"""

from avrobust.papers.tian2021.claims import CLAIMS, DEFENSE_CLAIMS
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
    "MIT-MUSIC": {
        "FGSM": Row(88.46, 50.00, 25.00, 15.38, 30.12),
        "PGD": Row(88.46, 13.46, 1.92, 0.00, 5.09),  # recomputes to 5.13
        "MIM": Row(88.46, 6.73, 1.92, 0.00, 2.88),
    },
    "Kinetics-Sounds": {
        "FGSM": Row(72.42, 33.38, 15.08, 8.18, 18.88),
        "PGD": Row(72.42, 6.22, 1.90, 0.77, 2.96),
        "MIM": Row(72.42, 3.87, 1.55, 0.32, 1.91),
    },
}

# Five fusions, FGSM at 0.006, MIT-MUSIC.  Avg is `avg_all`.
TABLE_2 = {
    "sum": Row(88.46, 35.58, 45.19, 3.85, 43.27),
    "concat": Row(88.46, 51.92, 45.19, 15.38, 50.24),
    "film": Row(83.65, 28.85, 39.42, 3.85, 38.95),
    "gated-sum": Row(89.42, 33.65, 44.23, 4.81, 43.03),
    "gated-concat": Row(89.42, 45.19, 43.27, 13.46, 47.84),
}

# Defenses, by modalities, loss and feature defense; FGSM at 0.006.  Avg is `avg_attacked`.
PLAIN = "cross_entropy", ""
TABLE_3 = {
    "MIT-MUSIC": {
        ("AV", *PLAIN): Row(88.46, 51.92, 45.19, 15.38, 37.50, 0.00),
        ("A", *PLAIN): Row(59.62, 0.00, 59.62, 0.00, 19.87, -46.47),
        ("V", *PLAIN): Row(81.73, 81.73, 11.54, 11.54, 34.94, -9.29),
        ("AV", "PCL", "Prototypes"): Row(83.65, 81.73, 37.50, 36.54, 51.91, 9.60),
        ("AV", "MaxSim", ""): Row(89.42, 52.88, 45.19, 31.73, 43.27, 6.73),
        ("AV", "MinSim", ""): Row(91.35, 70.19, 46.15, 36.54, 50.96, 16.35),
        ("AV", "cross_entropy", "ExFMem"): Row(89.42, 53.85, 50.00, 20.19, 41.34, 4.80),
        ("AV", "MinSim", "ExFMem"): Row(90.38, 73.08, 53.85, 42.31, 56.41, 20.83),
    },
    "Kinetics-Sounds": {
        ("AV", *PLAIN): Row(72.42, 36.40, 26.35, 8.09, 23.61, 0.00),
        ("A", *PLAIN): Row(35.99, 1.87, 35.99, 1.87, 13.24, -46.80),
        ("V", *PLAIN): Row(66.08, 66.08, 18.72, 18.72, 34.50, 4.55),
        ("AV", "PCL", "Prototypes"): Row(64.50, 63.43, 29.28, 28.67, 40.46, 8.93),
        ("AV", "MaxSim", ""): Row(71.39, 34.95, 29.57, 21.46, 28.66, 4.02),
        ("AV", "MinSim", ""): Row(70.88, 52.42, 28.12, 21.62, 34.05, 8.99),  # RI recomputes to 8.90
        ("AV", "cross_entropy", "ExFMem"): Row(72.71, 41.56, 29.93, 10.44, 27.31, 3.99),
        ("AV", "MinSim", "ExFMem"): Row(71.33, 55.96, 30.57, 24.90, 37.14, 12.44),
    },
}

# What the paper has in each section of the page, by the section's name.
NOTES = {
    "accuracy": "The paper's Table 1.",
    "curves": "The paper's Figure 3.",
    "fusions": (
        "The paper's Table 2: the same two encoders, five fusions. “Avg” means two things in the paper: in this table the "
        "mean of the clean and the three attacked columns, elsewhere the mean of the three attacked ones."
    ),
    "defenses": "The paper's Table 3, whose attack is FGSM. “CE + cos” is the loss that the published attackers raise against defended models.",
    "claims": "Claims without printed evidence are ours.",
    "robustness": "The paper evaluates its defenses under FGSM only.",
    "localisation": "The paper's section 4.5 and Figure 4, which show frames; the boxes here make them numbers.",
    "features": "The paper's Figure 5.",
    "one_clip": "The paper's Figure 1.",
    "setup": (
        "Normalised budgets are those of the paper's code: 0.012 there is two thirds of a grey level, while 0.012 of a "
        "waveform is −38 dBFS. Published attacks do what the paper's code does."
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
        "visual budget and 1.25 times its audio budget, its PGD to the budget."
    ),
    "leaving": (
        "Its bounds are around the value just stepped to, so they bound nothing: ten steps go to 1.25 times the budget "
        "for audio and bright pixels, and to 11.25 times for dark ones."
    ),
    "weaker": "Table 1, PGD at 0.012: MIT-MUSIC audio 13.5, visual 1.9; Kinetics-Sounds 6.2, 1.9.",
    "one step": "Table 1, visual at 0.012: MIT-MUSIC FGSM 25.0, PGD 1.9; Kinetics-Sounds 15.1, 1.9.",
    "pretraining": "All of its visual encoders start from ImageNet weights.",
    "fusion": "MIT-MUSIC, FGSM on both: Concat 15.4; Sum 3.9, FiLM 3.9, Gated-Sum 4.8.",
    "localisation": "Figure 4, by eye: six frames.",
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
    notes=NOTES,
    claims=CLAIMS,
    defense_claims=DEFENSE_CLAIMS,
)  # fmt: skip
