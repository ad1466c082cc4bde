"""Configuration as plain data and back; what a stranger's plain data may not build."""

import importlib
import json
import sys
from dataclasses import dataclass, replace

import jaxtyping
import numpy as np
import pytest

from avrobust import PGD, Threat
from avrobust.attacks import APGD, AVAutoAttack, Diverse, Square, Transfer
from avrobust.certificates.broken import BrokenCertificate
from avrobust.config import ConfigError, digest, from_plain, to_plain
from avrobust.defenses import FAST, MIN_SIM, PCL, Adversarial, ExFMem
from avrobust.evaluation.channels import Lossless, Mp4, Sent
from avrobust.media import ClipSpec
from avrobust.models import OwnSpec
from avrobust.models.zoo import NetSpec
from avrobust.objectives import EmbeddingShift, WithSimilarity, margin
from avrobust.papers.tian2021 import budgets as tian2021
from avrobust.papers.tian2021.attacks import Published
from avrobust.papers.tian2021.defenses import published_memory
from avrobust.papers.tian2021.recipes import RECIPES
from avrobust.papers.zhang2025.curriculum import Schedule
from avrobust.papers.zhang2025.networks import SmallSpec
from avrobust.papers.zhang2025.objectives import TemporalAndModality
from avrobust.timing import Delay
from avrobust.training import Recipe, View, cross_entropy
from avrobust.types import AV

LINF = Threat.linf(audio=0.01, visual="2/255")


def push(out, y):
    return out.logits[:, 0]


@dataclass(frozen=True)
class Mine:
    """An attack as a user may write one."""

    steps: tuple[int, ...] = (1, 2)
    inner: AV[float | None] | None = None
    objective: object = push

    def __call__(self, model, x, y, threat, seeds):
        return x


@pytest.mark.parametrize(
    "value",
    [
        PGD(steps=3, objective=margin, stop=True),
        PGD(objective=push),
        APGD(),
        Square(),
        AVAutoAttack(),
        Transfer("A", PGD(objective=WithSimilarity(0.5))),
        Sent(Mp4(), Sent(Lossless(), PGD())),
        LINF,
        Threat.l2(audio="40 dB SNR"),
        tian2021.threat(0.006, 0.006),
        Adversarial(cross_entropy, LINF.subsets(), FAST, 0.5),
        Adversarial(MIN_SIM, (LINF,)),
        PCL(),
        ExFMem(),
        published_memory(step=AV(1e-6, None)),
        Recipe(),
        *RECIPES.values(),
        NetSpec(classes=3),
        View(),
        ClipSpec(),
        Mine(),
        Mine((), AV(1.0, None)),
    ],
    ids=lambda setting: type(setting).__name__,
)
def test_settings_come_back_from_json(value):
    plain = json.loads(json.dumps(to_plain(value)))
    back = from_plain(plain)
    assert back == value and type(back) is type(value) and repr(back) == repr(value)
    assert from_plain(plain, type(value)) == value
    assert digest(back) == digest(value)


def test_a_study_comes_back_from_json():
    from avrobust.study.selftest import study

    assert from_plain(json.loads(json.dumps(to_plain(study)))) == study


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Recipe(optimizer="SGD"), r"optimizer should be one of 'adamw', 'sgd', got 'SGD'\. Give Recipe one"),
        (lambda: Recipe(schedule="cosine"), "schedule should be one of 'onecycle', 'steps', got 'cosine'"),
        (lambda: Recipe(precision="bf16"), "precision should be .*'bfloat16', got 'bf16'"),
        (lambda: Schedule(0.0, 1.0, "cos"), "shape should be .*'cosine', got 'cos'"),
        (lambda: PCL("papers"), "form should be .*'paper', got 'papers'"),
        (lambda: ExFMem(choose="any"), "choose should be .*'random', got 'any'"),
        (lambda: NetSpec(modality="VA"), "modality should be one of 'AV', 'A', 'V', got 'VA'"),
        (lambda: OwnSpec("mine:net", modality="audio"), "modality should be .* got 'audio'"),
        (lambda: Diverse(of_audio="quieter"), "of_audio should be .*'gain', got 'quieter'"),
        (lambda: Delay(20.0, edge="wrap"), "edge should be .*'circular', got 'wrap'"),
        (lambda: BrokenCertificate(how="fix"), "how should be .*'fixed', got 'fix'"),
        (lambda: EmbeddingShift(1.0, of="image"), "of should be .*'visual', got 'image'"),
        (lambda: TemporalAndModality(level="answers"), "level should be .*'predictions'.*got 'answers'"),
        (lambda: SmallSpec(audio="vgg"), "audio should be one of 'alexnet', 'resnet', got 'vgg'"),
        (lambda: Published("CW"), "method should be .*got 'CW'"),
        (lambda: PGD(keep="first"), "keep should be .*got 'first'"),
    ],
    ids=lambda v: v.split()[0] if isinstance(v, str) else "",
)
def test_a_setting_that_is_none_of_its_choices_is_refused(make, says, monkeypatch):
    """Each was taken for one of them."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # types are checked in tests only
    with pytest.raises(ValueError, match=says):
        make()


def test_numbers_of_any_kind_are_numbers():
    assert to_plain([np.int64(3), np.float32(0.5), np.bool_(True)]) == [3, 0.5, True]


@pytest.mark.parametrize(
    ("plain", "kind", "says"),
    [
        ({"class": "os:system"}, object, "'os:system'"),
        ({"function": "os:system"}, object, "'os:system'"),
        ({"class": "torch.nn:Linear", "in_features": 1, "out_features": 1}, object, "may be used"),
        ({"class": "avrobust.attacks.gradient:cross_entropy"}, object, "by its own name"),
        ({"class": "avrobust.training.loop:train"}, object, "expected a dataclass"),
        ({"class": "avrobust.models.network:AVNet"}, object, "expected a dataclass"),
        ({"class": "avrobust.attacks.gradient:PGD"}, ExFMem, "expected ExFMem, got avrobust.attacks.gradient:PGD"),
        ({"class": "avrobust.attacks.gradient:PGD", "evil": 1}, object, "expected settings of PGD .* got 'evil'"),
        ({"class": "avrobust.attacks.gradient:PGD", "keep": "first"}, object, "at keep: expected 'best' or 'last'"),
        ({"class": "avrobust.attacks.gradient:PGD", "steps": 0}, object, "steps should be at least 1, got 0"),
        ({"class": "avrobust.attacks.gradient:PGD", "step": float("nan")}, object, "at step: expected finite numbers"),
        ({"class": "avrobust.types:AV", "audio": 1}, AV[int], "expected all settings of AV"),
        ({"class": "avrobust.types:AV", "audio": 1, "visual": "x"}, AV[int], "at visual: expected a valid integer"),
        (to_plain([lambda: 1]), object, "that can be made again, got one told by 'made by'"),
        ({"zeros": [1], "dtype": "save"}, object, "a type of numbers"),
    ],
)  # fmt: skip
def test_plain_data_that_is_no_setting_is_refused_in_words(plain, kind, says):
    if isinstance(plain, list):
        (plain,) = plain
    with pytest.raises(ConfigError, match=says):
        from_plain(plain, kind)


def test_nothing_is_imported_unless_it_is_allowed(tmp_path, monkeypatch):
    (tmp_path / "their_attack.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Theirs:\n    steps: int = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    plain = to_plain(replace(importlib.import_module("their_attack").Theirs(), steps=4))
    monkeypatch.delitem(sys.modules, "their_attack")
    with pytest.raises(ConfigError, match=r"allow it: allow=\('their_attack',\)"):
        from_plain(plain)
    assert "their_attack" not in sys.modules
    assert from_plain(plain, allow=("their_attack",)).steps == 4
    monkeypatch.delitem(sys.modules, "their_attack")
