"""Facts are values: no part of the program reads a fact back out of a display name."""

import ast
import pickle
from pathlib import Path

import pytest

import avrobust
from avrobust import Rows, Threat
from avrobust.config import digest
from avrobust.evaluation.conditions import tabulate
from avrobust.facts import Budget, ModalityBudget

ROOT = Path(avrobust.__file__).parent
PARSING = {"startswith", "endswith", "split", "rsplit", "partition", "rpartition", "removeprefix", "removesuffix"}
# Text that is no display name: what a user types, files, and the names of Python's modules and of tensors.
OUTSIDE = {
    "attacks/__init__.py": "an attack as typed on the command line: PGD-10x5",
    "units.py": "a budget as typed: 2/255, -44 dBFS",
    "cli/studies.py": "a study as typed: a name, a file, module:name",
    "config.py": "module:name, messages of pydantic",
    "models/own.py": "module:name",
    "defenses/saving.py": "module:name",
    "hub.py": "addresses on the hub",
    "report/hub.py": "Markdown",
    "sources.py": "names of modules",
    "engine/deferred.py": "names of attributes that an attack asks for",
    "engine/folding.py": "names of modules",
    "evaluation/training_mode.py": "names of modules",
    "study/jobs.py": "names of modules and tensors",
    "training/checkpoint.py": "names of tensors, bytes of files",
    "training/state.py": "names of tensors",
    "models/published/cavmae.py": "names of tensors",
    "models/efficientnet.py": "names of tensors",
    "models/torch_file.py": "names of tensors, messages of torch",
    "papers/tian2021/weights.py": "names of tensors and files",
    "evaluation/precision.py": "a torch.dtype",
    "study/record.py": "addresses in a repr, /proc/cpuinfo",
    "data/entry.py": "cells of a manifest",
    "data/kinetics_sounds.py": "labels of a data set",
    "data/lists.py": "cells of a data set's own lists",
    "data/public.py": "lines of a data set's own lists",
    "data/tables.py": "cells of a manifest",
    "data/youtube.py": "names of video files",
    "media/container.py": "FFmpeg's names of its readers",
    "report/export.py": "cells of tables for spreadsheets and LaTeX",
    "report/formatting.py": "a heading as an HTML id",
    "report/figures.py": "SVG and colours in a specification",
}
DISPLAYED = {"attack", "attack_name", "budget", "channel", "model", "name", "objective", "threat", "title", "words"}


def parsed(tree: ast.AST) -> list[int]:
    """The lines that take a text apart, or look for one text inside another that is displayed."""
    return sorted(node.lineno for node in ast.walk(tree) if _takes_apart(node) or _looks_inside(node))


def _takes_apart(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="re"))):
            return True
        case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in PARSING:
            return not isinstance(value, ast.Constant) and not (method == "split" and not node.args)
    return False


def _looks_inside(node: ast.AST) -> bool:
    match node:
        case ast.Compare(left=ast.Constant(value=str()), ops=[ast.In() | ast.NotIn()], comparators=[where]):
            if isinstance(where, ast.Call):  # str(threat), display_name(attack)
                return bool(where.args) and _displayed(where.args[0])
            return _displayed(where)
    return False


def _displayed(node: ast.AST) -> bool:
    return getattr(node, "attr", getattr(node, "id", None)) in DISPLAYED


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_fact_is_read_out_of_a_name(path):
    found = parsed(ast.parse(path.read_text()))
    if (name := path.relative_to(ROOT).as_posix()) in OUTSIDE:
        assert found, f"{name} takes no text apart any more: strike it from the list"
    else:
        assert not found, (
            f"{name}, lines {found}: a text is taken apart. Carry the fact as a value (a column, a field, a property); if the "
            "text comes from outside, list the file with what it reads"
        )


@pytest.mark.parametrize(
    "line",
    [
        "threat.startswith('linf')",
        "re.sub(r'[0-9]+', '', words)",
        "attack.split(' > ')",
        "'published' in c.attack",
        "'normalised' in str(threat)",
    ],
)
def test_the_test_finds_what_it_looks_for(line):
    assert parsed(ast.parse(line)) == [1]


@pytest.mark.parametrize("line", ["'A' in c.subset", "'AXIS one'.split()", "x in names", "text.split()"])
def test_the_test_leaves_values_alone(line):
    assert parsed(ast.parse(line)) == []


def test_budgets_are_columns_and_their_display_is_only_that():
    threat = Threat.linf(audio=0.006, visual="0.006 normalised")
    row = threat.budget.columns()
    assert (row["norm_audio"], row["eps_audio"], row["unit_audio"]) == ("linf", 0.006, "linear")
    assert (row["norm_visual"], row["eps_visual"], row["unit_visual"]) == ("linf", 0.006, "normalised")
    assert row["threat"] == str(threat)
    assert Budget.of(row | {"threat": "anything"}) == threat.budget
    assert Threat.l2(audio="40 dB SNR").budget == Budget(ModalityBudget(0.01, "l2", "snr"))
    assert threat.only("A").budget == Threat.linf(audio=0.006).budget  # whatever the other ball is


def test_a_budget_is_shown_as_it_was_typed_and_compared_by_value(tmp_path):
    typed, computed = Threat.linf(audio="-44 dBFS", visual="2/255"), Threat.linf(audio=10 ** (-44 / 20), visual=2 / 255)
    assert str(typed) == "audio linf -44 dBFS, visual linf 2/255" and "0.007843" in str(computed)
    assert typed == computed and typed.budget == computed.budget and digest(typed) == digest(computed)
    assert str(pickle.loads(pickle.dumps(typed))) == str(typed)  # as workers get it
    assert str(Threat(*typed.map(lambda ball: ball.scaled(0.5)))) == "audio linf 0.003155, visual linf 1/255"
    seen = {
        "clip": ["a"],
        "model": "m",
        "seed": 0,
        "mode": "corrected",
        "subset": "AV",
        "status": "ok",
        "correct": True,
    }
    parts = [
        Rows.of(seen | {"attack": name, "correct_clean": True} | threat.budget.columns())
        for name, threat in (("PGD", typed), ("MIM", computed))
    ]
    Rows.concat(parts).save(tmp_path / "rows.parquet")
    table = Rows.load(tmp_path / "rows.parquet").table()
    assert "audio linf -44 dBFS, visual linf 2/255" in table and "visual linf 0.007843" in table
    again = Rows.of(seen | {"seed": 1, "attack": "PGD", "correct_clean": True} | computed.budget.columns())
    (condition,) = tabulate(Rows.concat([parts[0], again]).data)  # one condition with two seeds
    assert str(condition.budget) == str(typed)
