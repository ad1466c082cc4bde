"""What the documents promise runs: blocks of Python, commands, notebooks, links, names of the API."""

import ast
import json
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
import tyro
from their_model import make

import avrobust
from avrobust.attacks import by_name
from avrobust.cli import VERBS, main
from avrobust.cli.studies import STUDIES
from nets import clips, network

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if page.parent.name != "decisions")]
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))
# The same code, in seconds: shorter searches find less.
QUICKER = {
    "AVAutoAttack()": "AVAutoAttack(steps=2, targets=1, queries=5)", "PGD()": "PGD(steps=2)",
    "steps=40": "steps=2", "steps=10": "steps=2",
}  # fmt: skip
MY_PACKAGE = "from their_model import TheirNet as MyNet\nmodel = net = noise = make_net = MyNet\n"


class Block(NamedTuple):
    """A fenced block: its language, the file that its title names, its text, and the output that stands below it."""

    language: str
    file: str | None
    text: str
    output: str | None


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    fence = r'^```(\w*)(?: title="([^"]*)")?\n(.*?)^```$(?:\n\n```text\n(.*?)^```)?'
    return [Block(*found.groups()) for found in re.finditer(fence, page.read_text(), re.M | re.S)]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder to write into, in which modules called my_package, my_attacks and my_models lie."""
    for module in ("my_package", "my_attacks", "my_models"):
        (tmp_path / f"{module}.py").write_text(MY_PACKAGE)
    (tmp_path / "my_study.py").write_text("from avrobust.study.selftest import study\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for module in [m for m, loaded in sys.modules.items() if str(tmp_path) in str(getattr(loaded, "__file__", ""))]:
        del sys.modules[module]


@pytest.mark.parametrize("page", [page for page in PAGES if "```py" in page.read_text()], ids=name)
def test_the_code_of_a_page_runs(page, elsewhere, capsys):
    """`python` runs, in order, with a model, clips and a network at hand, and prints the `text` below it; `py` needs weights or
    files that are not here: it is read, and its imports are made."""
    my_net, wave, frames, y = make()
    batch = avrobust.Batch(x=avrobust.AV(audio=wave, visual=frames), label=y)
    names = {
        "avr": avrobust, "torch": torch, "my_net": my_net, "wave": wave, "frames": frames, "y": y,
        "model": lambda x: my_net(x.audio, x.visual), "batch": batch,
        "threat": avrobust.Threat.linf(audio=0.002, visual="4/255"),
        "net": network(), "training_batches": [clips(12)],
    }  # fmt: skip
    for block in blocks(page):
        if block.language == "python":
            code = block.text
            for slow, quick in QUICKER.items() if block.output is None else ():
                code = code.replace(slow, quick)
            if block.file:
                (elsewhere / block.file).write_text(block.text)
            exec(compile(code, f"{page.name}: {code[:40]!r}", "exec"), names)
            said = capsys.readouterr().out
            assert "table()" not in code or "accuracy" in said or "mAP" in said or "points" in said
            assert block.output is None or said.rstrip() == block.output.rstrip()
        elif block.language == "py":
            for line in ast.parse(block.text).body:
                if isinstance(line, ast.Import | ast.ImportFrom):
                    exec(ast.unparse(line), names)


class Parsed(BaseException):
    """The options that a command line was read as."""


def read(words: list[str], monkeypatch) -> object:
    """The options of a command line, as its verb reads them; nothing runs.  None for help."""

    def stop(*args, real=tyro.cli, **kwargs):
        raise Parsed(real(*args, **kwargs))

    with monkeypatch.context() as patch:
        patch.setattr(tyro, "cli", stop)
        try:
            assert main(words) == 0
        except Parsed as parsed:
            return parsed.args[0]
        except SystemExit as end:
            assert end.code == 0, shlex.join(words)
    return None


def commands(page: Path) -> list[list[str]]:
    """The words after `avrobust` of each command line of a page."""
    found = []
    for block in blocks(page):
        if not block.language.startswith("py") and block.language != "text":
            for line in block.text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True) if "avrobust" in line else []
                for i, word in enumerate(words):
                    if (word == "avrobust" and words[i - 1] not in ("cd", "install")) or word.endswith("bin/avrobust"):
                        found.append(words[i + 1 :])
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name)
def test_the_commands_of_a_page_are_understood(page, elsewhere, monkeypatch, capsys):
    """By the parser of their verb, with the budgets, attacks and studies that they name."""
    for words in commands(page):
        options = read(words, monkeypatch)
        for budget in (options, getattr(options, "budget", None)):
            if hasattr(budget, "threat"):
                budget.threat()
        for attack in (*getattr(options, "attacks", ()), *filter(None, [getattr(options, "attack", None)])):
            assert ":" in attack or by_name(attack)
        if words[0] == "study":
            assert options is None or options.name in STUDIES or options.name.endswith(".py") or ":" in options.name


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_a_notebook_was_executed_and_still_reads(notebook, elsewhere, monkeypatch):
    """Its cells compile, their imports are there, its commands are understood, and it is small."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert notebook.stat().st_size < 500_000 and any(cell["outputs"] for cell in cells)
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    names: dict[str, object] = {}
    for code in ("".join(cell["source"]) for cell in cells):
        if code.startswith("!avrobust "):
            assert read(shlex.split(re.sub(r"\{\w+\}", "1", code))[1:], monkeypatch)
        elif not code.startswith("%"):
            for line in ast.walk(ast.parse(code)):
                if isinstance(line, ast.Import | ast.ImportFrom) and not re.search(
                    "IPython|matplotlib", ast.unparse(line)
                ):
                    exec(ast.unparse(line), names)  # those two are of the extra `docs`


@cache
def explained(*words: str) -> str:
    """The help of a verb, or of all."""
    if not words:
        return "".join(explained(verb) for verb in VERBS)
    said = StringIO()
    for command in [words] if words != ("data",) else [("data", part) for part in ("orchestra", "prepare", "audit")]:
        with redirect_stdout(said), suppress(SystemExit):
            main([*command, "--help"])
    return said.getvalue()


def test_words_about_commands_name_verbs_and_options_that_exist():
    """In running text: `avrobust evaluate --strict`, `--clip.audio-track 1`."""
    wrong = []
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        for verb, rest in re.findall(r"`avrobust ([a-z]\w*)([^`]*)`", prose):
            known = verb in VERBS and explained(verb)
            wrong += [
                (page.name, verb, word)
                for word in re.findall(r"--[a-z][\w.-]*", rest)
                if not known or word not in known
            ]
            wrong += [] if known else [(page.name, verb)]
        wrong += [(page.name, word) for word in re.findall(r"`(--[a-z][\w.-]*)", prose) if word not in explained()]
    assert not wrong


def test_options_of_several_verbs_are_listed_with_all_of_them():
    data = {f"data {command}" for command in ("orchestra", "prepare", "audit")}
    verbs = {*VERBS, *data} - {"data"}
    page = (DOCS / "guide/command-line.md").read_text()
    for option, cell in re.findall(r"^\| `(--\w+)` \|.*\| (.*) \|$", page, re.M):
        named = set(re.findall(r"`([a-z ]+)`", cell))
        listed = verbs - named if cell.startswith("all but") else named
        assert listed == {verb for verb in verbs if re.search(rf"^[│ ] {option} ", explained(*verb.split()), re.M)}, (
            option
        )


def test_a_function_is_an_attack_under_its_own_name():
    """Without registering or wrapping anything: that of the guide."""
    my_net, wave, frames, y = make()
    names = {"my_net": my_net, "wave": wave, "frames": frames, "y": y}
    exec(blocks(DOCS / "index.md")[1].text + blocks(DOCS / "guide/attack.md")[0].text.rpartition("print")[0], names)
    rows = avrobust.evaluate(names["model"], [names["batch"]], [names["noise"]], names["threat"])
    assert torch.tensor(rows.where(attack="noise", subset="AV").column("used_audio")).max() <= 1 + 1e-5


def test_the_site_has_every_page():
    site = (ROOT / "mkdocs.yml").read_text()
    pages = [*PAGES[1:], *(notebook.with_suffix(".md") for notebook in NOTEBOOKS)]
    assert [page for page in pages if str(page.relative_to(DOCS)) not in site] == []
    index = (DOCS / "guide/index.md").read_text()
    assert [page for page in DOCS.glob("guide/[!i]*.md") if f"]({page.name})" not in index] == []


def public() -> dict[str, object]:
    """Every public name of the package, by where a user imports it from; one name for one object."""
    found: dict[int, tuple[str, object]] = {}
    packages = [
        "attacks",
        "certificates",
        "corruptions",
        "data",
        "defenses",
        "limits",
        "media",
        "models",
        "objectives",
        "study",
        "evaluation.tasks",
        "training",
        "timing",
    ]
    for place in ["", *packages, "models.frontends", "models.published", "report"]:
        module = import_module("avrobust" + f".{place}" * bool(place))
        for each in module.__all__:
            value = getattr(module, each)
            if not isinstance(value, ModuleType | str):
                found.setdefault(id(value), (".".join(filter(None, ("avrobust", place, each))), value))
    return dict(found.values())


def test_the_api_pages_have_every_public_name_with_an_example():
    """An example in its docstring, or in the code of its page."""
    shown: dict[str, str] = {}
    for page in (DOCS / "api").glob("*.md"):
        text = page.read_text()
        code = "\n".join(block.text for block in blocks(page))
        shown |= dict.fromkeys(re.findall(r"^::: (\S+)", text, re.M), code)
    names = public()
    assert set(shown) == set(names)
    values = {each: names[each] for each in shown}
    examples = {
        each: [str(getattr(part, "__doc__", "")) for part in (value, *vars(value).values())] if isinstance(value, type)
        else [str(getattr(value, "__doc__", ""))] for each, value in values.items()
    }  # fmt: skip
    bare = [n for n, docs in examples.items() if not any(">>>" in d for d in docs)]
    missing = [n for n in bare if not re.search(rf"\b{n.rpartition('.')[2]}\b", shown[n])]
    assert missing == []


def test_readme_names_verbs_that_exist():
    verbs = re.findall(r"^avrobust (\w+)", README, re.M)
    assert len(verbs) >= 2
    assert set(verbs) <= set(VERBS)


def test_documents_link_to_files_that_exist():
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
        for file in re.findall(r"`((?:src/avrobust|benchmarks)/[\w./-]+)`", page.read_text()):
            assert (ROOT / file).exists(), f"{page.name}: {file}"


def test_every_decision_is_in_the_index():
    folder = DOCS / "decisions"
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
        ["certify"],
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
        (["evalute"], 2, "Did you mean evaluate?"),
        (["study", "quik"], 1, "Did you mean quick?"),
        (["report", "nowhere"], 1, "nowhere: expected a run"),
        (["report", __file__], 1, "expected a run's folder or a .parquet file of rows, got another file"),
        (["show", "nowhere.mp4"], 1, "nowhere.mp4"),
        (["data", "audit", "--data", "nowhere"], 1, "got nothing. Check the path"),
        (["study", "slow"], 1, "expected a study (quick, "),
        (["evaluate", "nowhere.safetensors", "--data", "x", "--audio", "loud"], 1, "cannot read the budget 'loud'"),
        (["evaluate", "nowhere.safetensors", "--data", "x"], 1, "got 0 for both"),
        (["evaluate", "nowhere.safetensors", "--data", "x", "--audio", "0.1", "--attacks", "CW"], 1, "expected an attack (FGSM, "),
        (["attack", "v.mp4", "--model", "nowhere.safetensors", "--out", "new", "--audio", "0.1"], 1, "no such file"),
        (["evaluate", "torch:relu", "--data", "x", "--audio", "0.1", "--device", "tpu"], 1, "a device that PyTorch can use here, got 'tpu'"),
    ],
)  # fmt: skip
def test_wrong_words_are_answered_in_words(words, status, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == status
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def measured_pages() -> dict[str, str]:
    """The pages that `docs/measured.py` writes, without what it wrote, and the docstrings of the studies."""
    import measured

    pages = {
        page: (DOCS / page).read_text() for page in ("../README.md", *(page for page, _ in measured.PAGES.values()))
    }
    assert all(text.count(measured.BEGIN) == text.count(measured.END) == 1 for text in pages.values())
    typed = {page: re.sub(f"{measured.BEGIN}.*{measured.END}", "", text, flags=re.S) for page, text in pages.items()}
    modules = {import_module(STUDIES[name].partition(":")[0]) for name in measured.PAGES}
    return typed | {module.__name__: str(module.__doc__) for module in modules}


def test_what_studies_found_is_written_by_a_program(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    interval = re.compile(r"\[(?!-1, 1|0, 1)[-−+]?\d[\d.]*, [-−+]?\d[\d.]*\]")  # ranges of signals are none
    assert interval.search("71.1 % of 120 [63.6, 77.6]") and interval.search("−4.6 points [−7.0, −2.3]")
    found = {
        page: interval.findall(re.sub(r"```.*?```", "", text, flags=re.S)) for page, text in measured_pages().items()
    }
    assert {page: typed for page, typed in found.items() if typed} == {}
