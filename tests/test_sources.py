"""What code stands behind a value: a user's own files and what they import, and nobody else's."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

import avrobust
from avrobust import PGD, Threat
from avrobust.attacks import Transfer
from avrobust.evaluation.channels import Sent
from avrobust.sources import _FILES, _path, sources
from avrobust.study.plan import Cell
from avrobust.training.checkpoint import write

ATTACK = """
from own_helpers.steps import STEP
def mine(model, x, y, threat, seeds):
    from own_late import anything
    return x
class Search:
    def __call__(self, model, x, y, threat, seeds):
        return x
def push(out, y):
    return out.logits[:, 0]
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """An attack in three files; gone from Python's modules afterwards."""
    (tmp_path / "own_helpers").mkdir()
    (tmp_path / "own_helpers/__init__.py").write_text("from .steps import STEP\n")
    (tmp_path / "own_helpers/steps.py").write_text("STEP = 0.1\n")
    (tmp_path / "own_late.py").write_text("def anything():\n    return 1\n")
    (tmp_path / "own_attack.py").write_text(ATTACK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("own_attack")
    for name in [n for n in sys.modules if n.startswith("own_")]:
        del sys.modules[name]


def key(attack: object, *, sent: tuple = ()) -> str:
    return Cell("AV", 0, attack, Threat.linf(audio=0.01), sent).key("weights", "clips")


def edited(own, file: str, text: str):
    """The attack as the next process has it."""
    path = Path(own.__file__).parent / file
    path.write_text(path.read_text() + text)
    _FILES.clear()
    for name in [n for n in sys.modules if n.startswith("own_")]:
        del sys.modules[name]
    return importlib.import_module("own_attack")


@pytest.mark.parametrize("file", ["own_attack.py", "own_helpers/steps.py", "own_helpers/__init__.py", "own_late.py"])
@pytest.mark.parametrize(
    "make",
    [
        lambda m: m.mine,
        lambda m: m.Search(),
        lambda m: PGD(objective=m.push),
        lambda m: Transfer("A", PGD(objective=m.push)),
        lambda m: Sent(m.push, PGD()),
    ],
)  # fmt: skip
def test_an_edited_attack_is_another_cell(own, make, file):
    before = key(make(own))
    assert key(make(own)) == before
    assert key(make(edited(own, file, "\nSTEPS = 3\n"))) != before


def test_an_attack_that_is_loaded_anew_in_this_process_is_another_cell(own):
    before = key(own.mine)
    Path(own.__file__).write_text(ATTACK + "\n# edited\n")
    assert key(own.mine) == before  # what is loaded is what will run
    assert key(importlib.reload(own).mine) != before


def test_another_version_is_another_cell(monkeypatch):
    before = key(PGD())
    monkeypatch.setattr(avrobust, "__version__", "9.9.9")
    assert key(PGD()) != before


def test_code_without_a_file_is_told_by_what_it_does():
    made = []
    for step in (1, 1, 2):
        space: dict = {"__name__": "notebook"}
        exec(f"def mine(model, x, y, threat, seeds):\n    return x, {step}", space)
        made.append(key(space["mine"]))
    assert made[0] == made[1] != made[2]


CELL = """
STEPS = 10
def helper(x): return x
class Mine:
    __slots__ = ("eps",)
    share = 0.5
    def __init__(self): self.eps = 0.1
    @property
    def half(self): return self.eps / 2
    def __call__(self, model, x, y, threat, seeds): return helper(x)
def mine(model, x, y, threat, seeds): return [helper(x) for _ in range(STEPS)]
"""


@pytest.mark.parametrize(
    ("of", "old", "new"),
    [
        ("mine", "STEPS = 10", "STEPS = 11"),
        ("mine", "return x\n", "return -x\n"),
        ("Mine", "return x\n", "return -x\n"),
        ("Mine", "= 0.5", "= 0.6"),
        ("Mine", "= 0.1", "= 0.2"),
        ("Mine", "/ 2", "/ 3"),
    ],
)
def test_what_an_attack_in_a_notebook_uses_is_told_with_it(of, old, new):
    made = []
    for text in (CELL, CELL, CELL.replace(old, new)):
        space: dict = {"__name__": "notebook"}
        exec(text, space)
        made.append(key(space[of]() if of == "Mine" else space[of]))
    assert made[0] == made[1] != made[2]


def test_the_package_s_and_the_libraries_code_is_left_to_their_versions():
    assert sources(PGD(), torch.nn.Linear(2, 2), torch.nn.functional.relu, Threat.linf(audio=0.1)) == {}


def test_a_training_with_an_edited_loss_is_another_training(own, tmp_path):
    from avrobust.models.zoo import NetSpec
    from avrobust.training.identity import TrainingError, refuse_another

    def asked(loss: object) -> dict:
        return {"code": sources(loss, NetSpec(classes=2, width=16, modality="A").build(0).feature_defense)}

    path = tmp_path / "net.safetensors"
    write({}, path, asked(own.push))
    refuse_another(path, asked(own.push))
    with pytest.raises(TrainingError, match=r"code\.own_attack \w+ there, \w+ asked"):
        refuse_another(path, asked(edited(own, "own_attack.py", "\nSTEPS = 3\n").push))


def test_a_folder_that_is_named_as_a_function_is_no_module(tmp_path, monkeypatch):
    """`avrobust.study.runner:run` beside a folder called run, where a study writes."""
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    assert _path("avrobust.study.runner.run") is None
