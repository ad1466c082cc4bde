"""What the documents promise runs."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from their_model import make

import avrobust
from avrobust.cli import VERBS, main
from nets import clips, network

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/guide").glob("*.md")), ROOT / "docs/index.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page, capsys):
    """Every block, in order, with a model, clips and a network with a place for a feature defense at hand."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    my_net, wave, frames, y = make()
    batch = avrobust.Batch(x=avrobust.AV(audio=wave, visual=frames), label=y)
    names = {
        "avr": avrobust, "torch": torch, "my_net": my_net, "wave": wave, "frames": frames, "y": y,
        "model": lambda x: my_net(x.audio, x.visual), "batch": batch,
        "threat": avrobust.Threat.linf(audio=0.002, visual="4/255"),
        "net": network(), "training_batches": [clips(12)],
    }  # fmt: skip
    for block in blocks:
        exec(block.replace("AVAutoAttack()", "AVAutoAttack(steps=2, targets=1, queries=5)"), names)  # a few seconds
    said = capsys.readouterr().out
    assert ("accuracy" in said or "mAP" in said) == any("table()" in block for block in blocks)


def test_readme_names_its_attack():
    """Without registering or wrapping anything, the function of the README is an attack."""
    my_net, wave, frames, y = make()
    names = {"my_net": my_net, "wave": wave, "frames": frames, "y": y}
    five_lines, noise = re.findall(r"```python\n(.*?)```", README, re.S)[:2]
    exec(five_lines + noise, names)
    rows = avrobust.evaluate(names["model"], [names["batch"]], [names["noise"]], names["threat"])
    assert torch.tensor(rows.where(attack="noise", subset="AV").column("used_audio")).max() <= 1 + 1e-5


def test_the_site_has_every_guide():
    site = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs/guide").glob("*.md"):
        assert f"guide/{page.name}" in site and f"guide/{page.name}" in (ROOT / "docs/index.md").read_text()


def test_the_api_page_names_what_exists():
    for name in re.findall(r"^::: (\S+)", (ROOT / "docs/api.md").read_text(), re.M):
        pkgutil.resolve_name(name)


def test_readme_names_verbs_that_exist():
    verbs = re.findall(r"^avrobust (\w+)", README, re.M)
    assert len(verbs) >= 5
    assert set(verbs) <= set(VERBS)


def test_documents_link_to_files_that_exist():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
    for file in re.findall(r"`(src/[^`]+)`", README):
        assert (ROOT / file).exists(), file


def test_every_decision_is_in_the_index():
    folder = ROOT / "docs/decisions"
    index = set(re.findall(r"\]\((\d{4}-[^)]+)\)", (folder / "README.md").read_text()))
    assert index == {page.name for page in folder.glob("[0-9]*.md")}


@pytest.mark.parametrize(
    "words",
    [
        ["study"],
        ["report"],
        ["show"],
        ["train"],
        ["evaluate"],
        ["grid"],
        ["attack"],
        ["selftest"],
        ["data", "orchestra"],
        ["data", "prepare"],
        ["data", "audit"],
    ],
    ids=" ".join,
)
def test_every_verb_explains_itself_with_an_example(words, capsys):
    try:
        main([*words, "--help"])
    except SystemExit as stop:
        assert stop.code == 0
    out = capsys.readouterr().out
    assert "example" in out
    assert f"avrobust {' '.join(words)}" in out
    assert ">>>" not in out and "{None}" not in out  # no docstring of a class, no type of an option that is off


def test_help_answers_without_heavy_imports(capsys):
    code = "import sys; from avrobust.cli import main; main(['--help']); sys.exit(bool({'torch', 'numpy', 'av', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["fly"], 2, "got 'fly'"),
        (["report", "nowhere"], 1, "no run.json"),
        (["show", "nowhere.mp4"], 1, "nowhere.mp4"),
        (["data", "audit", "--data", "nowhere"], 1, "got nothing. Check the path"),
        (["study", "slow"], 1, "there is no study 'slow'"),
        (["evaluate", "nowhere.safetensors", "--data", "x", "--audio", "loud"], 1, "cannot read the budget 'loud'"),
        (["evaluate", "nowhere.safetensors", "--data", "x"], 1, "got 0 for both"),
        (["evaluate", "nowhere.safetensors", "--data", "x", "--audio", "0.1", "--attacks", "CW"], 1, "cannot read the attack 'CW'"),
        (["attack", "v.mp4", "--model", "nowhere.safetensors", "--out", "new", "--audio", "0.1"], 1, "no such file"),
        (["evaluate", "torch:relu", "--data", "x", "--audio", "0.1", "--device", "tpu"], 1, "a device that PyTorch can use here, got 'tpu'"),
    ],
)  # fmt: skip
def test_wrong_words_are_answered_in_words(words, status, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == status
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
