"""A network or a run as a repository of the Hugging Face hub: its files, and a card that says what was measured."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from avrobust import __version__, hub, report
from avrobust.evaluation.measures import Accuracy
from avrobust.evaluation.schema import Rows
from avrobust.extras import needs
from avrobust.facts import Budget
from avrobust.files import draft, write_bytes, write_json
from avrobust.report.formatting import ATTACKED
from avrobust.training import checkpoint

URL = "https://github.com/avrobust/avrobust"
CARD = "README.md"
PAGE, RECORD = "report.html", "run.json"


def save_to_hub(
    source: Path | str,
    repo: str | Path,
    *,
    license: str,
    rows: Rows | Path | str | None = None,
    private: bool = False,
) -> str:
    """Publish a checkpoint or a run on the Hugging Face hub with a card; returns where it is.

    `source` is a checkpoint, which becomes a model that `training.load("hf://owner/name")` and `avrobust evaluate
    hf://owner/name` take, or a run's folder, which becomes a data set of its rows with its report.  The card holds clean and
    robust accuracy with counts and 95 % intervals, by attack and budget, and what raises doubt in them: of a checkpoint those
    in `rows`, rows of this model, a file of rows or a run.  `license` is the hub's name of one, such as "apache-2.0".

    `repo` is "owner/name", made if it is not there, with the account of `hf auth login`; a `Path` is a new folder that gets
    the same files, to look at or to upload later.  Raises `CheckpointError` or `RunError` for another source, and
    `ValueError` for rows of several models.

    >>> from tempfile import mkdtemp
    >>> from avrobust import models, training
    >>> folder = Path(mkdtemp())
    >>> training.save(models.NetSpec(classes=2, modality="A", width=16).build(seed=0), folder / "net.safetensors", {})
    >>> net, about = training.load(save_to_hub(folder / "net.safetensors", folder / "repository", license="mit"))
    """
    source = Path(source)
    with TemporaryDirectory() as room:
        folder = Path(room) / "repository"
        folder.mkdir()
        if (source / RECORD).is_file():
            kind = "dataset"
            _fill_with_run(folder, source, license)
        else:
            kind = "model"
            file = hub.local(source)
            meta = checkpoint.read_meta(file)
            shutil.copyfile(file, folder / hub.NET)
            found = report.rows_of(rows) if isinstance(rows, Path | str) else rows
            write_bytes(folder / CARD, model_card(meta, found, str(repo), license).encode())
        if isinstance(repo, Path):
            if repo.exists():
                raise ValueError(f"{repo}: expected a new folder, got one that exists. Name another, or remove it.")
            with draft(repo, folder=True) as part:
                shutil.copytree(folder, part, dirs_exist_ok=True)
            return str(repo)
        with needs("hub"):
            from huggingface_hub import HfApi
        api = HfApi(library_name="avrobust", library_version=__version__)
        api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=folder, repo_type=kind, commit_message=f"From avrobust {__version__}"
        )
    return f"hf://{repo}" if kind == "model" else f"hf://datasets/{repo}"


def model_card(meta: Mapping[str, Any], rows: Rows | None, repo: str, license: str) -> str:
    """The card of a checkpoint, from its header and from rows of its evaluation.

    Raises `ValueError` for rows of several models.
    """
    if rows is not None and len(models := set(rows.data["model"].to_pylist())) != 1:
        raise ValueError(
            f"expected rows of one model, got those of {', '.join(sorted(models)) or 'none'}. Choose one: "
            "rows.where(model=...)."
        )
    with needs("hub"):
        from huggingface_hub import EvalResult, ModelCardData
    data = _short(meta.get("data"))
    results = [
        EvalResult("other", "other", data or "unknown", "accuracy", numbers["robust accuracy"].value, metric_name=name, task_name="audio-visual classification")
        for name, numbers in _named(rows)
        if "robust accuracy" in numbers
    ]  # fmt: skip
    told = ModelCardData(
        license=license, library_name="avrobust", tags=["audio-visual", "adversarial-robustness"],
        model_name=Path(repo).name if results else None, eval_results=results or None,
    )  # fmt: skip
    classes = [str(name) for name in meta.get("classes", ())]
    facts = {
        "Network": _short(meta.get("spec")), "Feature defense": _short(meta.get("feature_defense")),
        "Classes": f"{len(classes)}: {', '.join(classes)}" if classes else "",
        "Trained on": data, "Clips": _short(meta.get("clip")), "View": _short(meta.get("view")),
        "Recipe": _short(meta.get("recipe")),
    }  # fmt: skip
    return "\n".join([
        "---", told.to_yaml().strip(), "---", "",
        f"# {escaped(Path(repo).name)}", "",
        f"An audio-visual network of [avrobust]({URL}) {__version__}. It takes waveforms in [-1, 1] and RGB frames in [0, 1].", "",
        *_table(("", ""), [(name, escaped(fact)) for name, fact in facts.items() if fact]), "",
        "## Robustness", "", *_robustness(rows), "",
        "## Use", "",
        *(["```python", "from avrobust.training import load", "", f'net, about = load("hf://{repo}")', "```", ""] if hub.ADDRESS.fullmatch(f"hf://{repo}") else []),
        "The file holds weights and plain data; loading it runs no code.", "",
    ])  # fmt: skip


def _fill_with_run(folder: Path, run: Path, license: str) -> None:
    """The files of a run that others can use: its rows, its record, its report, and a card."""
    rows = report.rows_of(run)
    rows.save(folder / "rows.parquet")
    if (run / PAGE).is_file():
        shutil.copyfile(run / PAGE, folder / PAGE)
    about = json.loads((run / RECORD).read_text())
    for place in ("root", "store"):  # folders of this machine, which are nobody else's business
        about.get("data", {}).pop(place, None)
    write_json(folder / RECORD, about)
    with needs("hub"):
        from huggingface_hub import DatasetCardData
    told = DatasetCardData(license=license, tags=["audio-visual", "adversarial-robustness"], pretty_name=run.name)
    text = "\n".join([
        "---", told.to_yaml().strip(), "---", "",
        f"# {escaped(run.name)}", "",
        f"A run of [avrobust]({URL}) {__version__}. `rows.parquet` has one row per clip, model, attack and budget; `report.html` "
        "is the page made of them, and `run.json` says what was run.", "",
        "## Robustness", "", *_robustness(rows), "",
    ])  # fmt: skip
    write_bytes(folder / CARD, text.encode())


def _named(rows: Rows | None) -> list[tuple[str, Mapping[str, Any]]]:
    """The numbers of each condition, with a name for it."""
    found = []
    for cell, numbers in [] if rows is None else zip(rows.cells(), rows.numbers, strict=True):
        row = cell.data.slice(0, 1).to_pylist()[0]
        budget = Budget.of(row).attacked
        clean = row["subset"] == "clean"
        found.append(("clean accuracy" if clean else f"robust accuracy, {row['attack']}, {budget}", numbers))
    return found


def _robustness(rows: Rows | None) -> list[str]:
    """Clean and robust accuracy by attack and budget, and what raises doubt."""
    if rows is None or not len(rows):
        return ["Not measured."]
    several = len(set(rows.data["model"].to_pylist())) > 1
    names = list(dict.fromkeys(name for numbers in rows.numbers for name in numbers))
    lines = []
    for cell, numbers in zip(rows.cells(), rows.numbers, strict=True):
        row = cell.data.slice(0, 1).to_pylist()[0]
        condition = "Clean" if row["subset"] == "clean" else ATTACKED[row["subset"]]
        about = (condition, escaped(row["attack"]), escaped(Budget.of(row).attacked or "—"))
        measured = tuple(str(numbers.get(name, "—")) for name in names)
        lines.append(((escaped(row["model"]),) if several else ()) + about + measured)
    head = (("model",) if several else ()) + ("condition", "attack", "budget", *map(escaped, names))
    doubts = [f"- {flag.level}: {escaped(flag.text)}" for flag in rows.flags()]
    what = "Intervals are at 95 %. A budget bounds the perturbation of the waveform and of the frames."
    alone = isinstance(rows.measures(rows.data["model"][0].as_py()), Accuracy)
    meaning = ["The accuracy under the attack none is the clean accuracy."] if alone else []
    return [
        *_table(head, lines),
        "",
        " ".join([what, *meaning]),
        *(["", "What raises doubt:", "", *doubts] if doubts else []),
    ]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)]


def escaped(text: object) -> str:
    """Foreign text as Markdown that says just that, in one line: no link, HTML, table cell or emphasis of its own.

    >>> escaped("a|b <script> [x](http://y)")
    'a&#124;b &#60;script&#62; &#91;x&#93;&#40;http&#58;&#47;&#47;y&#41;'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return re.sub(r"[^\w\s,.%−—×≥≤-]|_", lambda found: f"&#{ord(found[0])};", line)


def _short(value: Any) -> str:
    """Plain data in one line, without what is empty and without long lists."""
    if isinstance(value, Mapping):
        parts = ((name, _short(part)) for name, part in value.items())
        return ", ".join(f"{name} {part}" for name, part in parts if part)
    if isinstance(value, list):
        return " × ".join(map(_short, value)) if len(value) <= 4 else ""
    return "" if value in (None, "", False) else str(value)
