"""A study of natural corruptions: networks that adapt themselves beside those that do not, and the paper's claims."""

import json
from dataclasses import replace

import pytest

from avrobust import FGSM, Threat
from avrobust.attacks import ANYTHING
from avrobust.corruptions import Missing, corruptions
from avrobust.defenses import Selective, Tent
from avrobust.papers.maharana2025.claims import PAPER
from avrobust.report.load import read
from avrobust.report.sections.claims import claims
from avrobust.study.machines import ALONE
from avrobust.study.plan import ModelConfig, Sweep
from avrobust.study.runner import run
from avrobust.types import InputError
from tiny_study import NETWORK, study

ADAPTING = {"AV + Tent": Tent(), "AV + selective": Selective(rate=0.01)}
MODELS = (
    ModelConfig("AV", NETWORK),
    ModelConfig("A", replace(NETWORK, modality="A")),
    ModelConfig("V", replace(NETWORK, modality="V")),
    *(ModelConfig(name, NETWORK, start="AV", epochs=0, adaptation=a) for name, a in ADAPTING.items()),
)
NAMES = tuple(c.name for c in MODELS)
SWEEPS = (Sweep(NAMES, (*corruptions(["gaussian"], (1, 5)), Missing(1.0)), ANYTHING.subsets()),)
WEATHER = replace(study, name="weather", title=None, models=MODELS, sweeps=SWEEPS, embedded=(), paper=PAPER)


def test_a_study_measures_networks_that_adapt_and_tests_the_claims(tmp_path, cache):
    out = tmp_path / "run"
    page = run(WEATHER, out, data=cache, progress=False, machines=ALONE).read_text()
    told = json.loads((out / "run.json").read_text())
    assert "failures" not in told and told["models"]["AV + Tent"]["adaptation"] == "Tent"
    found = read(out, {PAPER.name: PAPER})
    same = [found.clean(name)["margin"].tolist() for name in ("AV", "AV + Tent")]
    assert same[0] != same[1]  # it adapts to clean clips, too
    tested = {claim.name: claim for claim in claims(found)}
    compared = {name: [(c.low_name, c.high_name) for c in tested[name].comparisons] for name in PAPER.said}
    assert compared["severity"][0] == ("audio corrupted, severity 5", "severity 1") and len(compared["severity"]) == 3
    assert compared["co-occurring"] == [("both corrupted", "audio corrupted"), ("both corrupted", "video corrupted")]
    assert compared["helps"] == [("AV", "AV + Tent, both corrupted"), ("AV", "AV + selective, both corrupted")]
    assert len(tested["integration"].comparisons) == 4 and len(tested["trained"].comparisons) == 0
    assert all(text in page for text in ("Natural corruptions", PAPER.said["helps"], "By severity"))


def test_a_network_that_adapts_is_not_attacked():
    with pytest.raises(InputError, match="expected corruptions, got FGSM"):
        replace(WEATHER, sweeps=(Sweep(("AV + Tent",), (FGSM(),), (Threat.linf(audio=0.01),)),))
