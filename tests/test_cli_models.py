"""A pair of encoders and a user's own network on the command line: trained, then evaluated and attacked by their checkpoints."""

import shutil
from pathlib import Path

import pytest

from avrobust.cli import main
from avrobust.models import OwnNet, PairSpec
from avrobust.training import load

FORM = ["--clip.seconds", "0.5", "--clip.rate", "8000", "--clip.fps", "4", "--clip.size", "40"]
FORM += ["--view.samples", "4000", "--view.size", "32"]
ON = ["--data", "few", "--epochs", "1", *FORM]


@pytest.fixture
def few(videos, tmp_path, monkeypatch):
    """A working folder with a few clips of two classes."""
    for name in ("flute", "tuba"):
        shutil.copytree(videos / name, tmp_path / "few" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_pair_is_trained_evaluated_and_attacked(few, capsys):
    from test_hf import ast, hf, vit

    for name, tiny in (("ears", ast), ("eyes", vit)):
        config, processor = tiny()
        hf.AutoModel.from_config(config).save_pretrained(name)
        processor.save_pretrained(name)
    pair = ["--audio-model", "ears", "--visual-model", "eyes", "--frozen"]
    assert main(["train", *ON, "--out", "pair", *pair]) == 0
    shutil.rmtree("ears")  # the checkpoint needs neither
    shutil.rmtree("eyes")
    net, meta = load("pair/net.safetensors")
    assert isinstance(net.spec, PairSpec) and net.spec.frozen and meta["recipe"]["name"] == "ours"
    asked = ["pair/net.safetensors", "--data", "few", "--on", "train", "--limit", "2", "--audio", "0.01"]
    assert main(["evaluate", *asked, "--visual", "4/255", "--attacks", "FGSM"]) == 0
    assert main(["grid", *asked, "--visual", "4/255", "--attack", "FGSM", "--levels", "1", "--html", "g.html"]) == 0
    video = next(Path("few/tuba").glob("*.mp4"))
    assert main(["attack", str(video), "--model", "pair/net.safetensors", "--audio", "0.01", "--attack", "FGSM", "--out", "o"]) == 0  # fmt: skip
    assert capsys.readouterr().err.count("avrobust") == 0


def test_a_network_of_one_s_own_is_trained_and_evaluated(few, capsys):
    assert main(["train", *ON, "--out", "own", "--net", "own_study:TwoStreams"]) == 0
    asked = ["evaluate", "own/net.safetensors", "--data", "few", "--on", "train", "--limit", "2", "--audio", "0.01"]
    assert main(asked) == 1
    assert "allow it: allow=('own_study',), or --allow own_study" in capsys.readouterr().err
    assert main([*asked, "--attacks", "FGSM", "--allow", "own_study"]) == 0
    assert isinstance(load("own/net.safetensors", allow=("own_study",))[0], OwnNet)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--audio-model", "ears"], "expected --audio-model and --visual-model together, got one of them"),
        (["--frozen"], "expected --audio-model and --visual-model together"),
        (["--net", "a:b", "--audio-model", "ears"], "expected no --audio-model beside --net"),
        (["--modality", "A", "--visual-weights", "a"], "expected no --visual-weights beside --modality A"),
        (["--audio-model", "a", "--visual-model", "b", "--visual-weights", "c"], "expected no --visual-weights beside"),
        (["--net", "nowhere:make"], "expected module:name with the module in the working directory"),
        (["--recipe", "slow"], "expected a recipe (ours, fine-tune, pretrained-visual, published"),
    ],
    ids=lambda words: " ".join(words[:3]) if isinstance(words, list) else "",
)
def test_networks_that_cannot_be_had(few, capsys, words, says):
    assert main(["train", *ON, "--out", "net", *words]) == 1
    assert says in capsys.readouterr().err
    assert not Path("net").exists()
