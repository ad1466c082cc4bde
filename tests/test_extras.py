"""The five lines and the command line need no extra; what needs one says which, before any work."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import avrobust

# The packages of each extra, by what they are imported as.
EXTRAS = {
    "models": {"transformers"},
    "train": {"accelerate"},
    "report": {"sklearn", "vl_convert"},
    "hub": {"datasets", "huggingface_hub"},
    "ray": {"ray"},
    "track": {"tensorboard"},
    "perception": {"pesq", "torchmetrics"},
    "demo": {"gradio", "altair"},
}
# Imported as a whole, within `needs`, by those that use them.
WHOLE = {"report": "report", "demo": "demo"}
ROOT = Path(avrobust.__file__).parent

BLOCKED = f"""
import sys

class Blocked:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {set().union(*EXTRAS.values())}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked)
"""

FIVE_LINES = """
import torch
import avrobust as avr

head = torch.nn.Linear(7, 3).eval()
my_net = lambda wave, frames: head(torch.cat([wave[:, :4], frames.mean((1, 3, 4))], 1))
wave, frames, y = torch.rand(4, 8) - 0.5, torch.rand(4, 2, 3, 4, 4), torch.tensor([0, 1, 2, 0])

model = lambda x: my_net(x.audio, x.visual)
batch = avr.Batch(x=avr.AV(audio=wave, visual=frames), label=y)
threat = avr.Threat.linf(audio=0.002, visual="4/255")
rows = avr.evaluate(model, [batch], [avr.PGD(steps=2)], threat)
assert "PGD-2" in rows.table()

from avrobust import cli

def tried(*words):
    try:
        return cli.main(list(words))
    except SystemExit as end:
        return end.code

assert tried("evaluate", "--help") == tried("attack", "--help") == tried("train", "--help") == 0
for words in (
    ["evaluate", "os:getcwd", "--data", "none", "--audio", "0.1", "--visual", "0", "--html", "page.html"],
    ["study", "quick", "--out", "run"],
    ["train", "--data", "none", "--out", "net"],
):
    assert tried(*words) == 1, words

import numpy as np
from avrobust.evaluation.embedding import spread

for use in (
    lambda: avr.models.NetSpec(classes=3).build(0),
    lambda: avr.data.from_hf("none", "folder", visual="video", label="label"),
    lambda: spread(np.eye(3), np.array([0, 0, 1])),
):
    try:
        use()
    except ImportError as error:
        print(error)
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code],
        env={**os.environ, "PYTHONPATH": path}, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_five_lines_and_the_command_line_need_no_extra(tmp_path):
    done = run(FIVE_LINES, tmp_path)
    assert done.returncode == 0, done.stderr
    asked = re.findall(
        r'expected the package (\w+), got .* Install it: pip install "avrobust\[(\w+)\]"', done.stderr + done.stdout
    )
    assert [extra for _, extra in asked] == ["report", "train", "train", "models", "hub", "report"], (
        done.stderr + done.stdout
    )
    assert all(package in EXTRAS[extra] for package, extra in asked)
    assert not list(tmp_path.iterdir())


def outside(tree: ast.AST, extra: str | None = None):
    """The imports in a file, each with the extra whose `needs` stands around it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, extra) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, extra
        inner = extra
        if isinstance(node, ast.With):
            calls = [i.context_expr for i in node.items if isinstance(i.context_expr, ast.Call)]
            inner = next((c.args[0].value for c in calls if getattr(c.func, "id", "") == "needs"), extra)
        yield from outside(node, inner)


def test_packages_of_extras_are_imported_within_needs():
    extra_of = {package: extra for extra, packages in EXTRAS.items() for package in packages}
    found = 0
    for path in sorted(ROOT.rglob("*.py")):
        whole = WHOLE.get(path.relative_to(ROOT).parts[0])
        for module, extra in outside(ast.parse(path.read_text())):
            wanted = extra_of.get(module.partition(".")[0])
            found += wanted is not None
            assert wanted in (None, extra, whole), f"{path}: import {module} within needs({wanted!r})"
    assert found > 5
