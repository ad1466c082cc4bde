"""Checkpoints and runs as repositories of the hub: written to a folder, uploaded, and read back without a network."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml

import avrobust as avr
from avrobust import hub, report
from avrobust.cli.model import from_checkpoint
from avrobust.evaluation.schema import Rows
from avrobust.facts import Budget, ModalityBudget
from avrobust.report.hub import escaped, model_card
from avrobust.training import CheckpointError, load, save
from fake_run import fake_run

CLASSES = ["dog", "cat | **<script>alert(1)</script>**"]


LOUD = Budget(audio=ModalityBudget(0.002, "linf", "linear")).columns()


def rows(model: str = "mine") -> Rows:
    """Two clips, clean and with audio attacked."""
    what = {
        "model": model,
        "seed": 0,
        "mode": "corrected",
        "clip": ["a", "b"],
        "label": [0, 1],
        "status": "ok",
        "correct_clean": True,
    }
    clean = Rows.of(what | Budget().columns() | {"attack": "none", "subset": "clean", "correct": True})
    return Rows.concat([clean, Rows.of(what | LOUD | {"attack": "[P](x)|GD", "subset": "A", "correct": [True, False]})])


@pytest.fixture
def checkpoint(tmp_path):
    net = avr.models.NetSpec(classes=2, modality="A", width=16).build(seed=0)
    save(net, tmp_path / "here/net.safetensors", {"classes": CLASSES, "data": "orchestra: 'x'\nlicense: evil"})
    return tmp_path / "here/net.safetensors"


def card(folder: Path) -> tuple[dict, str]:
    _, told, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(told), text


def same(net, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_checkpoint_becomes_a_folder_with_a_card_that_loads_again(checkpoint, tmp_path):
    repo = tmp_path / "net-of-mine"
    assert avr.save_to_hub(checkpoint, repo, license="cc-by-4.0", rows=rows()) == str(repo)
    assert sorted(p.name for p in repo.iterdir()) == ["README.md", "net.safetensors"]
    told, text = card(repo)
    assert told["license"] == "cc-by-4.0" and told["library_name"] == "avrobust"
    results = told["model-index"][0]["results"][0]["metrics"]
    assert [m["value"] for m in results] == [1.0, 0.5] and "robust accuracy" in results[1]["name"]
    assert "| Audio attacked | &#91;P&#93;&#40;x&#41;&#124;GD |" in text
    assert "| 50.0 % of 2 [9.5, 90.5] |" in text
    assert "<script" not in text and "cat &#124; &#42;&#42;&#60;script&#62;" in text
    assert "alarm: The smallest cell has 2 clips" in text
    net, about = load(repo)
    assert same(net, load(checkpoint)[0]) and about["classes"] == CLASSES


def test_a_repository_is_uploaded_whole(checkpoint, tmp_path, monkeypatch):
    calls = []

    class Api:
        def __init__(self, **about):
            calls.append(about)

        def create_repo(self, repo, **how):
            calls.append((repo, how))

        def upload_folder(self, *, repo_id, folder_path, repo_type, commit_message):
            shutil.copytree(folder_path, tmp_path / "there" / repo_id)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert avr.save_to_hub(checkpoint, "someone/net", license="mit", private=True) == "hf://someone/net"
    assert calls == [
        {"library_name": "avrobust", "library_version": avr.__version__},
        ("someone/net", {"repo_type": "model", "private": True, "exist_ok": True}),
    ]
    told, text = card(tmp_path / "there/someone/net")
    assert 'load("hf://someone/net")' in text and "Not measured." in text and "model-index" not in told

    record = fake_run(tmp_path / "run", clips=22, attacked=11, gallery=1, samples=1) / "run.json"
    told = json.loads(record.read_text())
    record.write_text(json.dumps(told | {"data": told["data"] | {"root": "/home/me/clips", "store": "/home/me/data"}}))
    assert avr.save_to_hub(tmp_path / "run", "someone/run", license="mit") == "hf://datasets/someone/run"
    assert calls[-1] == ("someone/run", {"repo_type": "dataset", "private": False, "exist_ok": True})
    there = tmp_path / "there/someone/run"
    assert {"README.md", "rows.parquet", "run.json"} <= {p.name for p in there.iterdir()}
    assert json.loads((there / "run.json").read_text()) == {"version": 2} | told  # without places on this machine
    assert len(Rows.load(there / "rows.parquet")) == len(report.rows_of(tmp_path / "run"))
    assert "| model | condition | attack |" in card(there)[1]


def test_an_address_is_read_from_the_cache_offline(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        OSError, match=r"^hf://someone/net: expected a repository with net.safetensors, .* got: .*hf auth login"
    ):
        load("hf://someone/net")
    cached = tmp_path / "cache/models--someone--net"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text("0" * 40)
    (cached / "snapshots" / ("0" * 40)).mkdir(parents=True)
    shutil.copy(checkpoint, cached / "snapshots" / ("0" * 40) / hub.NET)
    for address in ("hf://someone/net", "hf://someone/net@main"):
        assert same(load(address)[0], load(checkpoint)[0])
    with pytest.raises(CheckpointError, match="do not say which clips"):  # the command line takes it, too
        from_checkpoint("hf://someone/net")


def test_refusals(checkpoint, tmp_path):
    for address in ("hf://net", "hf://a/b/c", "hf:/a/b", "hf://../..@x@y"):
        with pytest.raises(ValueError, match="expected hf://owner/name"):
            hub.local(address)
    with pytest.raises(ValueError, match="expected rows of one model, got those of mine, other"):
        model_card({}, Rows.concat([rows(), rows("other")]), "a/b", "mit")
    with pytest.raises(ValueError, match="expected a new folder"):
        avr.save_to_hub(checkpoint, tmp_path, license="mit")
    with pytest.raises(CheckpointError, match="no such file"):
        avr.save_to_hub(tmp_path / "nothing", tmp_path / "new", license="mit")
    assert not (tmp_path / "new").exists()


def test_escaped_text_stays_in_its_cell():
    assert escaped("a\n\n---\n# b\x1b[31m") == "a --- &#35; b &#91;31m"
    assert escaped("naïve: 5 % [1, 2]") == "naïve&#58; 5 % &#91;1, 2&#93;"
