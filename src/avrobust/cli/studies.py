"""The studies that the command line knows by name, of this package and of the papers in it."""

import sys
from pathlib import Path

from avrobust.models.own import imported
from avrobust.names import unknown
from avrobust.papers.maharana2025.claims import PAPER as MAHARANA2025
from avrobust.papers.tian2021.printed import PAPER as TIAN2021_PAPER
from avrobust.papers.tian2021.studies import STUDIES as TIAN2021
from avrobust.papers.zhang2025.claims import PAPER as ZHANG2025
from avrobust.study import Study
from avrobust.study.aware_claims import CLAIMS as AWARE

# Those whose numbers may stand beside a run's.
PAPERS = {paper.name: paper for paper in (TIAN2021_PAPER, MAHARANA2025, ZHANG2025, AWARE)}
# name: module with a `study`
STUDIES = {
    **TIAN2021,
    "aware": "avrobust.study.aware",
    "corruptions": "avrobust.papers.maharana2025.corruptions",
    "certificates": "avrobust.study.certificates",
    "perceptual": "avrobust.study.perceptual",
    "temporal": "avrobust.papers.zhang2025.temporal",
    "selftest": "avrobust.study.selftest",
}


def named(name: str) -> Study:
    """The study called `name`; for your own, the one at `module:name`, or `study` in a file such as my_study.py."""
    if (file := Path(name)).suffix == ".py":
        if not file.is_file():
            raise ValueError(f"expected a file with a study, got no file at {name}. Check the path.")
        sys.path.insert(0, str(file.resolve().parent))  # the file imports what lies beside it
        name = f"{file.stem}:study"
    elif ":" not in name and name not in STUDIES:
        raise ValueError(unknown("a study", name, STUDIES, "For your own, give a file, my_study.py, or module:name."))
    found = imported(name if ":" in name else f"{STUDIES[name]}:study")
    if not isinstance(found, Study):
        raise ValueError(f"{name!r} should be a Study, got {type(found).__name__}.")
    return found
