"""The metadata of the package agree with each other."""

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest

import avrobust

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version_and_one_date():
    """Of the package, the changelog's first section with a date, and the citation; `make dist` builds that version."""
    version, day = re.search(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text(), re.M).groups()
    citation = dict(re.findall(r"^(version|date-released): (\S+)$", (ROOT / "CITATION.cff").read_text(), re.M))
    assert version == avrobust.__version__ == citation["version"]
    assert date.fromisoformat(day) == date.fromisoformat(citation["date-released"])
    assert PROJECT["dynamic"] == ["version", "readme"]


def test_all_has_every_extra_of_users():
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(re.fullmatch(r"avrobust\[(.*)\]", everything)[1].split(","))
    implied = {name for extra in named for name in re.findall(r"avrobust\[(.*)\]", " ".join(extras[extra]))}
    assert named | implied >= set(extras) - {"all", "test", "docs", "check"}


def test_constraints_hold_the_lower_bounds():
    """constraints.txt pins what pyproject.toml names, at or above its bound."""
    packaging = pytest.importorskip("packaging.requirements")
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    known = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    for text in [*PROJECT["dependencies"], *(t for extra in PROJECT["optional-dependencies"].values() for t in extra)]:
        wanted = packaging.Requirement(text)
        if wanted.name != "avrobust":
            assert known[re.sub(r"[-_.]+", "-", wanted.name).lower()] in wanted.specifier, text
