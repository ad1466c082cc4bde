"""The paper's experiments as values: on the procedural orchestra, and on the videos of its datasets."""

# name: module with a `study`
STUDIES = {
    "quick": f"{__name__}.quick",
    "standard": f"{__name__}.standard",
    "worst_case": f"{__name__}.worst_case",
    "pretrained": f"{__name__}.pretrained",
    "tian2021_music": f"{__name__}.music",
    "tian2021_kinetics_sounds": f"{__name__}.kinetics_sounds",
    "tian2021_ave": f"{__name__}.ave",
}
