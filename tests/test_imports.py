"""Imports point one way: a module may use what stands before it in this list, and nothing after."""

import ast
from pathlib import Path

import pytest

import avrobust

ORDER = [
    "types", "names", "seeds", "facts", "extras", "files", "hub", "config", "sources", "locks", "progress", "allocator", "devices", "media", "data", "models", "limits", "units", "threat", "timing",
    "budget_check",
    "objectives", "engine", "attacks",
    "defenses", "corruptions", "certificates", "training", "evaluation", "study", "report", "papers", "cli", "demo",
]  # fmt: skip
# A report is a function of files and of rows, so studies and `Rows.report` may end with one.
ALLOWED = {("study", "report"), ("evaluation", "report")}
ROOT = Path(avrobust.__file__).parent


def modules():
    return sorted(p.relative_to(ROOT) for p in ROOT.rglob("*.py") if p.name != "__main__.py")


def imported(path: Path) -> set[str]:
    """The top-level parts of this package that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        names = (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        for name in names:
            if name == "avrobust" and isinstance(node, ast.ImportFrom):
                found |= {a.name for a in node.names if a.name in ORDER}
            elif name.startswith("avrobust."):
                found.add(name.split(".")[1])
    return found


@pytest.mark.parametrize("path", modules(), ids=str)
def test_imports_point_one_way(path):
    here = path.parts[0].removesuffix(".py")
    if here == "__init__":
        return  # the public names, imported when they are used
    assert here in ORDER, f"{path}: give '{here}' its place in the order of imports"
    later = {part for part in imported(path) if ORDER.index(part) > ORDER.index(here)}
    assert not {part for part in later if (here, part) not in ALLOWED}, (
        f"{path} imports {sorted(later)}, which come after '{here}'"
    )


@pytest.mark.parametrize("path", modules(), ids=str)
def test_the_core_names_no_paper(path):
    """Neither imports one nor has the name of its module in a string, to import it when it runs."""
    here = path.parts[0].removesuffix(".py")
    if here == "__init__" or ORDER.index(here) >= ORDER.index("papers"):
        return
    said = [n.value for n in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(n, ast.Constant)]
    assert "papers" not in imported(path)
    assert not [text for text in said if isinstance(text, str) and "avrobust.papers" in text]


def test_reports_and_data_need_no_torch():
    import subprocess
    import sys

    for module in ("avrobust", "avrobust.report", "avrobust.data.prepare", "avrobust.data.orchestra", "avrobust.cli"):
        code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, f"import {module} loads torch"
