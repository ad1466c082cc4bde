"""The verbs on real files: the tiny study's videos and network."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout
from threadpoolctl import threadpool_info

from avrobust import Rows
from avrobust.cli import main, options, study
from avrobust.cli import model as model_options
from avrobust.cli.answer import Answer
from avrobust.cli.studies import named
from avrobust.cli.task import TaskOptions
from avrobust.data.entry import Entry
from avrobust.data.manifest import Manifest
from avrobust.devices import limited_threads
from avrobust.evaluation import tasks
from avrobust.evaluation.flags import Flag
from avrobust.media.decode import decode
from avrobust.media.spec import ClipSpec
from avrobust.models.zoo import NetSpec
from avrobust.training import View, checkpoint


@pytest.fixture
def network(done):
    return done / "models/AV-0/net.safetensors"


def test_attack_makes_a_video_and_says_what_the_model_takes_it_for(network, videos, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")  # a table wraps in a narrow terminal
    video = min(videos.glob("flute/*.mp4"))  # attacked away from whatever the model takes it for
    words = [
        "attack",
        str(video),
        "--model",
        str(network),
        "--audio",
        "-30 dBFS",
        "--visual",
        "8/255",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    said = capsys.readouterr().out
    about = json.loads((tmp_path / "out/predictions.json").read_text())
    label = about["predictions"]["clean"][0][0]
    assert f"goal: not classified as {label}; PGD-40 within audio linf -30 dBFS" in said
    assert "decoded from the .mp4" in said
    assert "model input: " in said and " Hz and 1 frame" in said and "dBFS at most" in said
    page = (tmp_path / "out/attack.html").read_text()
    assert page.count("<video") == 2 and "data:video/mp4;base64," in page and 'src="http' not in page
    made = {p.name for p in (tmp_path / "out").iterdir()}
    assert {
        "clean.mp4",
        "adversarial.mp4",
        "adversarial.wav",
        "clean.wav",
        "adversarial-0.png",
        "clean-0.png",
        "predictions.json",
    } <= made
    assert 0 < about["linf_visual"] <= 8 / 255 + 1e-6
    assert 0 < about["linf_audio"] <= 10 ** (-30 / 20) + 1e-6
    clean, adversarial = (dict(about["predictions"][k]) for k in ("clean", "adversarial"))
    assert adversarial.get(label, 0.0) < clean[label]
    for name, success in about["success"].items():
        assert success == (about["predictions"][name][0][0] != label)
        assert name in said
    assert said.count(" succeeds\n") == sum(about["success"].values())
    again = decode(tmp_path / "out/adversarial.mp4", ClipSpec(seconds=0.3, size=32))
    assert abs(again.wave).max() > 0.01
    assert main(words) == 1  # what exists is not overwritten
    assert "one that exists" in capsys.readouterr().err


def test_a_targeted_attack_goes_where_it_is_told(network, videos, tmp_path, capsys):
    video = next(videos.glob("flute/*.mp4"))
    assert (
        main(
            [
                "attack",
                str(video),
                "--model",
                str(network),
                "--label",
                "flute",
                "--target",
                "tuba",
                "--audio",
                "0.05",
                "--visual",
                "16/255",
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    about = json.loads((tmp_path / "out/predictions.json").read_text())
    ranking = {k: [name for name, _ in v] for k, v in about["predictions"].items()}
    assert ranking["adversarial"][0] == "tuba" and about["success"]["adversarial"]
    assert (
        main(
            [
                "attack",
                str(video),
                "--model",
                str(network),
                "--label",
                "kazoo",
                "--audio",
                "0.1",
                "--out",
                str(tmp_path / "b"),
            ]
        )
        == 1
    )
    assert "--label: expected a class of the model" in (said := capsys.readouterr().err) and "got 'kazoo'" in said
    assert not (tmp_path / "b").exists()


def test_attack_takes_your_own_model_with_its_class_names(own, videos, tmp_path, capsys):
    video = str(next(videos.glob("flute/*.mp4")))
    words = [
        "attack",
        video,
        "--model",
        "theirs3:model",
        "--out",
        "new",
        "--audio",
        "0.1",
        *own[own.index("--clip.seconds") :],
    ]
    assert main(words) == 1
    assert "expected the names of the model's classes, got none. Give --classes" in capsys.readouterr().err
    assert main([*words, "--classes", "tuba,kazoo,flute", "--target", "tuba", "--attack", "FGSM"]) == 0
    assert "goal: classified as tuba" in capsys.readouterr().out
    words[words.index("new")] = "wrong"  # whatever it hears, this model answers flute
    assert main([*words, "--classes", "tuba,kazoo,flute", "--label", "tuba", "--attack", "FGSM", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["success"].values()) == {None} and told["misclassified_when_clean"]
    assert Path("wrong/attack.html").read_text().count("already wrong") == 3


def test_a_model_of_one_s_own_without_a_form_of_its_clips_gets_the_defaults_with_a_warning(own, capsys):
    for spec, warned in ((ClipSpec(), True), (ClipSpec(rate=16_000), False)):
        model_options.load_model("theirs3:model", spec, View(), (), torch.device("cpu"))
        assert ("warning: theirs3:model receives the package's defaults" in capsys.readouterr().err) == warned


def test_a_checkpoint_s_own_feature_defense_is_imported_where_it_is_allowed(network, videos, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        model_options, "load_any", lambda path, *, allow: asked.append(allow) or checkpoint.load(network)
    )
    words = [str(network), "--data", str(videos), "--audio", "0.01", "--limit", "2", "--allow", "their_package"]
    assert main(["evaluate", *words, "--attacks", "FGSM", "--prepared", str(tmp_path / "clips")]) == 0
    assert asked == [("their_package",)]


def test_errors_of_the_system_say_what_to_do(monkeypatch, capsys):
    for error, says in (
        (PermissionError(13, "Permission denied", "/a"), "/a: expected permission to read or write this path, got"),
        (
            FileNotFoundError(2, "No such file", "/b"),
            "/b: expected an existing file or folder, got 'No such file'. Check",
        ),
        (OSError(28, "No space left", "/c"), "/c: expected to be able to use this path, got 'No space left'. Check"),
    ):
        monkeypatch.setattr("avrobust.cli.train.main", Mock(side_effect=error))
        assert main(["train"]) == 1
        assert says in capsys.readouterr().err


def test_evaluate_writes_a_run_and_continues_it(network, videos, tmp_path, capsys, monkeypatch):
    out, page = tmp_path / "runs/mine", tmp_path / "new/mine.html"
    words = [
        "evaluate", str(network), "--data", str(videos), "--audio", "0.01", "--visual", "4/255", "--attacks", "FGSM", "PGD-2x2",
        "--channels", "files", "--scales", "1/2", "2", "--prepared", str(tmp_path / "clips"), "--out", str(out),
    ]  # fmt: skip
    assert main([*words, "--html", str(page)]) == 0
    table = capsys.readouterr().out
    assert "PGD-2x2" in table and "% of 22" in table and "swapped" not in table
    assert "alarm: The smallest cell has 22 clips" in table and "note: Each model was trained once" in table
    html = page.read_text()
    assert html == (out / "report.html").read_text() and str(network.parent) not in html.split("Reproduce")[0]
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)  # and nothing else
    assert "model outputs" in said.err and "1 frame" in told["input"]
    clean, *attacked = [c for c in told["conditions"] if c["mode"] != "control"]
    assert clean["robust_accuracy"]["n"] == 22 and clean["attack"] == "none"
    assert len(attacked) == 2 * 3 * 3 + 1 + 2 * 3 * 2 and told["flags"][0]["name"] == "few clips"
    assert {file.name for file in out.iterdir()} >= {"run.json", "cells", "gallery", "samples", "report.html"}
    for part in (
        "Accuracy over budgets",
        "Budget used",
        "Contribution of each",
        "After storage",
        "Adversarial examples",
    ):
        assert f"<h2>{part}" in html
    # It goes on where it was, attacks nothing again, and refuses another question in the same folder.
    cells = {file: file.stat().st_mtime_ns for file in out.glob("cells/*/rows.parquet")}
    next(iter(cells)).unlink()
    assert main(words) == 0
    assert sum(file.stat().st_mtime_ns != at for file, at in cells.items()) == 1
    monkeypatch.setattr(options, "prepare", Mock(side_effect=AssertionError))  # which is said before any work
    (tmp_path / "other/mine.txt").mkdir(parents=True)
    assert main([*words[:-1], str(tmp_path / "other")]) == 1
    assert "got a folder with other files" in capsys.readouterr().err
    assert main([*words, "--seed", "1"]) == 1
    assert "got a run that asked for something else (seeds)" in capsys.readouterr().err
    assert main([*words, "--html", str(page)]) == 1
    assert "expected a new file" in capsys.readouterr().err


@pytest.mark.parametrize("twice", [("PGD-2", "PGD-2"), ("AVAutoAttack-10", "AVAutoAttack-50")])
def test_evaluate_refuses_attacks_of_one_name_before_any_work(twice, tmp_path, capsys):
    out = tmp_path / "new/rows.parquet"
    words = ["evaluate", "nowhere.safetensors", "--data", "nowhere", "--audio", "0.01", "--out", str(out)]
    assert main([*words, "--attacks", *twice]) == 1
    name = twice[0].removesuffix("-10")
    assert f"attacks and threats should differ by name, got {name} within" in capsys.readouterr().err
    assert not out.parent.exists()


@pytest.mark.parametrize(("verb", "says"), [("train", "continues from there"), ("grid", "starts again")])
def test_who_stops_it_is_told_what_the_same_command_does(verb, says, monkeypatch, capsys):
    monkeypatch.setattr(f"avrobust.cli.{verb}.main", Mock(side_effect=KeyboardInterrupt))
    assert main([verb]) == 130
    assert says in capsys.readouterr().err


def test_evaluate_takes_anyone_s_model(videos, tmp_path, capsys, monkeypatch):
    (tmp_path / "theirs.py").write_text(
        "import torch\n"
        "def model(x):\n"
        "    return torch.stack([x.audio.mean(1) * k + x.visual.mean((1, 2, 3, 4)) for k in range(11)], 1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = [
        "evaluate",
        "theirs:model",
        "--data",
        str(videos),
        "--audio",
        "0.01",
        "--attacks",
        "FGSM",
        "--prepared",
        str(tmp_path / "clips"),
        "--limit",
        "5",
    ]
    assert (
        main([*words, "--clip.seconds", "0.5", "--clip.size", "40", "--view.samples", "2000", "--view.size", "32"]) == 0
    )
    printed = capsys.readouterr().out
    assert "% of 5" in printed and "gradient" not in printed


@pytest.mark.parametrize(
    "command", [["-m", "avrobust"], ["-c", "import sys; sys.path.remove(''); from avrobust.cli import main; main()"]]
)
def test_a_module_is_found_in_the_folder_where_it_is_called(command, tmp_path):
    """Whichever way it is called: the installed script's path does not hold the working folder."""
    (tmp_path / "here.py").write_text("def model(x):\n    return x\n")
    words = ["evaluate", "here:other", "--data", "nowhere.csv", "--audio", "0.01", "--attacks", "FGSM"]
    done = subprocess.run([sys.executable, *command, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "module 'here' has no attribute 'other'" in done.stderr


OWN = """
import torch

def model(x):
    m = x.audio.abs().mean(1)
    return torch.stack([m, 2 * m, 3 * m], 1)
"""


@pytest.fixture
def own(videos, tmp_path, monkeypatch):
    """The words of `evaluate` for a model of three outputs, and a dataset of two classes, all test."""
    for name in ("flute", "tuba"):
        shutil.copytree(videos / name, tmp_path / "few" / name)
    (tmp_path / "theirs3.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "theirs3:model", "--data", "few", "--on", "train", "--audio", "0.01", "--attacks", "FGSM"]
    return [*words, "--clip.seconds", "0.5", "--clip.size", "40", "--view.samples", "2000", "--view.size", "32"]


def test_classes_are_numbered_in_the_order_of_the_models_outputs_and_it_is_said(own, capsys):
    def clean(out):
        return Rows.concat([Rows.load(file).where(attack="none") for file in Path(out).glob("cells/*/rows.parquet")])

    assert main([*own, "--classes", "tuba,kazoo,flute", "--out", "a"]) == 0
    said = capsys.readouterr().err
    assert "model outputs (order of --classes): 0 tuba, 1 kazoo, 2 flute" in said and "no clips of: kazoo" in said
    rows = clean("a")
    tuba = np.array(["tuba" in clip for clip in rows.column("clip")])
    assert set(rows.column("label")[tuba]) == {0} and set(rows.column("label")[~tuba]) == {2}
    Path("names.txt").write_text("tuba\nkazoo\n\nflute\n")
    assert main([*own, "--classes", "names.txt", "--out", "b"]) == 0
    assert clean("b").column("label").tolist() == rows.column("label").tolist()


def test_which_clips_of_a_folder_without_splits_are_attacked_is_said(own, network, capsys):
    def told(*words):
        assert main(["evaluate", *words, *own[2:4], "--audio", "0.01", "--attacks", "FGSM", "--json"]) == 0
        said = capsys.readouterr()
        return json.loads(said.out)["conditions"][0]["robust_accuracy"]["n"], said.err

    listed = len(list(Path("few").glob("*/*.mp4")))
    theirs = ["theirs3:model", "--classes", "tuba,kazoo,flute", *own[-8:]]
    count, said = told(*theirs)
    assert count == listed and "split" not in said
    # A checkpoint was perhaps trained on the others.
    for words in ([*theirs, "--on", "test"], [str(network)]):
        count, said = told(*words)
        assert count < listed and f"attacking {count} of {listed} clips: the test split (--on)\n" in said
    assert told(str(network), "--on", "all")[0] == listed


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ((), "one class for each of the model's 3 outputs, got 2 (flute, tuba)"),
        (("--classes", "tuba,flute"), "one class for each of the model's 3 outputs, got 2 (tuba, flute)"),
        (("--classes", "dog,cat,bird"), "expected classes of few (flute, tuba), got dog, cat, bird"),
        (("--classes", "tuba,tuba,flute"), "expected each class once"),
    ],
    ids=["not named", "too few", "others", "twice"],
)
def test_outputs_without_a_class_of_their_own_are_refused(own, classes, says, capsys):
    assert main([*own, *classes]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("torch.nn.Linear", "expected a model, got the class Linear"),
        ("3", "expected a model, got int 3"),
        ("torch.nn.BatchNorm1d(2)", "training mode"),
    ],
)
def test_what_is_no_model_is_refused_before_any_work(model, says, own, capsys):
    Path("theirs4.py").write_text(f"import torch\nmodel = {model}\n")
    assert main([word.replace("theirs3", "theirs4") for word in own]) == 1
    assert says in capsys.readouterr().err and not Path("data").exists()
    sys.modules.pop("theirs4")


def test_a_model_that_answers_with_more_than_logits_has_its_outputs_counted(own, capsys):
    Path("theirs5.py").write_text(
        OWN.replace("torch.stack([m, 2 * m, 3 * m], 1)", "{'logits': torch.stack([m, 2 * m, 3 * m], 1)}")
    )
    own = [word.replace("theirs3", "theirs5") for word in own]
    assert main(own) == 1
    assert "one class for each of the model's 3 outputs, got 2" in capsys.readouterr().err


def test_multi_label_clips_are_evaluated_by_label_and_by_tag(own, capsys):
    clips = sorted(Path("few").glob("*/*.mp4"))[:4]
    rows = [f"{clip.relative_to('few')},flute;cello,train,audible;both" for clip in clips[:3]]
    rows.append(f"{clips[3].relative_to('few')},tuba,train,visible")
    Path("few/manifest.csv").write_text("\n".join(["video,labels,split,tags", *rows]) + "\n")
    Path("many.py").write_text(OWN.replace("3 * m]", "-m]"))
    words = ["evaluate", "many:model", *own[2:]]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "mAP" in said and "attack success per label" in said
    assert re.search(r"budget +audible +visible +both\n", said) and said.count("% of 3 [") >= 4 and "% of 1 [" in said
    assert main([*words, "--html", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert "attack success per label" in page and "Robust accuracy by attack" not in page


@pytest.mark.parametrize("verb", ["evaluate", "train"])
def test_a_class_of_which_no_clip_can_be_read_is_an_error(verb, own, capsys):
    for video in Path("few/tuba").glob("*.mp4"):
        video.write_bytes(video.read_bytes()[:300])
    words = own if verb == "evaluate" else ["train", "--data", "few", "--out", "net", "--epochs", "1"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "expected clips of 'tuba' among the train clips, got none that can be read" in said


def test_strict_tells_alarms_by_the_exit_status_alone(own, capsys, monkeypatch):
    own += ["--classes", "tuba,kazoo,flute"]
    for strict, level, status in (
        ([], "alarm", 0), (["--strict"], "alarm", 1), (["--strict"], "warning", 0), (["--strict"], "note", 0),
    ):  # fmt: skip
        monkeypatch.setattr("avrobust.evaluation.schema.flags", lambda _, level=level: (Flag("x", level, "a text"),))
        assert main([*own, *strict]) == status
        assert capsys.readouterr().out.count(f"{level}: a text") == 1


def test_models_that_want_other_clips_share_no_folder(videos, tmp_path, capsys, monkeypatch):
    (tmp_path / "few").mkdir()
    shutil.copytree(videos / "flute", tmp_path / "few/flute")
    (tmp_path / "theirs2.py").write_text(
        "import torch\n"
        "def model(x):\n"
        "    return torch.stack([x.audio.mean(1) * k + x.visual.mean((1, 2, 3, 4)) for k in range(11)], 1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = ",".join(sorted(p.name for p in videos.iterdir() if p.is_dir()))
    asked = [
        "evaluate",
        "theirs2:model",
        "--classes",
        names,
        "--data",
        "few",
        "--on",
        "train",
        "--audio",
        "0.01",
        "--attacks",
        "FGSM",
    ]
    asked += ["--clip.size", "40", "--view.samples", "2000", "--view.size", "32"]
    assert main([*asked, "--clip.seconds", "0.5"]) == main([*asked, "--clip.seconds", "0.4"]) == 0
    first, _ = (tmp_path / "data/prepared").glob("evaluate-*")
    capsys.readouterr()
    assert main([*asked, "--clip.seconds", "0.3", "--prepared", str(first)]) == 1  # said, without a traceback
    assert f"{first}: expected clips as ClipSpec(seconds=0.3" in capsys.readouterr().err


def test_one_process_at_a_time_prepares_a_folder(tmp_path, monkeypatch):
    def held(manifest, spec, out):
        with pytest.raises(Timeout):
            FileLock(out.with_name(f".{out.name}.lock")).acquire(blocking=False)
        raise KeyboardInterrupt

    monkeypatch.setattr(options, "prepare", held)
    manifest = Manifest(tmp_path, (Entry("a", "flute", "train", Path("a.mp4")),))
    with pytest.raises(KeyboardInterrupt):
        options.prepared(manifest, ClipSpec(), tmp_path / "new/clips")
    assert not (tmp_path / "new/clips").exists()  # the lock lies beside it


def test_train_counts_what_cannot_be_read_and_goes_on(videos, tmp_path, capsys):
    mine = tmp_path / "mine"
    for name in ("flute", "tuba"):
        shutil.copytree(videos / name, mine / name)
        for i, source in enumerate(sorted((videos / name).glob("*.mp4"))):
            shutil.copy(source, mine / name / f"again{i}.mp4")
    broken = [next((mine / "flute").glob("*.mp4")), next((mine / "tuba").glob("*.mp4"))]
    broken[0].write_bytes(b"")
    broken[1].write_bytes(broken[1].read_bytes()[:300])
    words = [
        "train",
        "--data",
        str(mine),
        "--out",
        str(tmp_path / "net"),
        "--epochs",
        "1",
        "--modality",
        "A",
        "--clip.seconds",
        "0.5",
        "--clip.size",
        "40",
        "--view.samples",
        "4096",
        "--view.size",
        "32",
    ]
    assert main(words) == 0
    printed, said = capsys.readouterr()
    assert "validation clips" in printed and " test clips, divided at random" in said
    listed = len(list(mine.glob("*/*.mp4")))
    left_out = f"2 of {listed} clips could not be read and were left out: avrobust show {tmp_path / 'net-clips'}"
    assert left_out in printed
    assert main(["show", str(tmp_path / "net-clips")]) == 0
    shown = capsys.readouterr().out
    assert broken[0].name in shown
    assert broken[1].name in shown
    assert main(["data", "audit", "--data", str(mine)]) == 0
    assert main(["data", "audit", "--data", str(mine), "--strict"]) == 1
    audited, said = capsys.readouterr()
    assert " test clips, divided at random" in said
    assert "same" in audited or "cop" in audited  # the copies are found
    assert broken[0].stem in audited


def test_show(done, network, videos, capsys):
    for path, word in ((done, "PGD-2"), (network, "1 frame of"), (next(videos.glob("tuba/*.mp4")), "h264")):
        assert main(["show", str(path)]) == 0
        assert word in capsys.readouterr().out


def test_report_is_rebuilt_from_files(done, capsys):
    before = (done / "report.html").read_text()
    (done / "report.html").unlink()
    assert main(["report", str(done)]) == 0
    assert (done / "report.html").read_text() == before


@pytest.mark.parametrize(
    "words", ["tiny_study:study --workers 1 --out runs/x", "--workers 1 tiny_study:study --out runs/x"]
)
def test_a_study_s_name_may_stand_before_and_behind_options(words):
    options, found = study.read(words.split())
    assert (options.name, options.machines.workers, options.output.out) == ("tiny_study:study", 1, Path("runs/x"))
    assert (found.name, found.epochs, options.view) == ("tiny", 2, found.view)


def test_help_on_a_study_tells_its_own_defaults(capsys):
    for words in (["tian2021_music", "--help"], ["--workers", "1", "tian2021_music", "-h"]):
        with pytest.raises(SystemExit):
            study.read(words)
        printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert f"(default: {named('tian2021_music').view.samples})" in printed


def test_study_on_a_user_s_videos(videos, tmp_path, capsys):
    words = [
        "study",
        "tiny_study:study",
        "--data",
        str(videos),
        "--out",
        str(tmp_path / "run"),
        "--cache",
        str(tmp_path / "data"),
        "--epochs",
        "1",
        "--attacked",
        "4",
        "--workers",
        "2",
        "--quiet",
    ]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "report.html" in out
    assert torch.initial_seed() is not None
    about = json.loads((tmp_path / "run/run.json").read_text())
    assert about["asked"]["epochs"] == 1
    assert about["data"]["counts"]["test"] == [22, 22]
    # The clips are a folder's, not the study's own: so are the title and what may stand beside the numbers.
    assert (about["title"], about["benchmark"]) == (f"Does integration strengthen robustness? {videos.name}", None)
    assert about["title"] in (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: (p / "empty").mkdir() or p / "empty", "expected"),
        (lambda p: (p / "t.csv").write_text("id,label\na,b\n") and p / "t.csv", "video"),
        (
            lambda p: (
                (p / "t.csv").write_text("id,video,label,split\na,x.mp4,b,train\na,y.mp4,b,test\n") and p / "t.csv"
            ),
            "'a'",
        ),
        (lambda p: (p / "t.csv").write_text("id,video,label,split\na,../x.mp4,b,train\n") and p / "t.csv", "inside"),
    ],
    ids=["no videos", "no video column", "an id twice", "a path outside"],
)
def test_data_that_is_not_as_expected(make, message, tmp_path, capsys):
    assert main(["data", "prepare", "--data", str(make(tmp_path)), "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_checkpoints_that_are_none(network, tmp_path, capsys):
    pickle, short = tmp_path / "net.pth", tmp_path / "short.safetensors"
    torch.save({"a": torch.zeros(1)}, pickle)
    short.write_bytes(network.read_bytes()[:5000])
    for path, message in ((pickle, "pickle"), (short, "cut short")):
        assert main(["attack", "v.mp4", "--model", str(path), "--audio", "0.1", "--out", str(tmp_path / "o")]) == 1
        assert message in capsys.readouterr().err


def test_a_checkpoint_that_does_not_say_what_it_was_trained_on(tmp_path, capsys):
    net = NetSpec(3, width=16).build(0)
    bare, nameless = tmp_path / "bare.safetensors", tmp_path / "nameless.safetensors"
    checkpoint.save(net, bare, {})
    checkpoint.save(net, nameless, {"clip": {}, "view": {}})
    for path, message in ((bare, "which clips they were trained on"), (nameless, "names its classes")):
        assert main(["attack", "v.mp4", "--model", str(path), "--audio", "0.1", "--out", str(tmp_path / "o")]) == 1
        said = capsys.readouterr().err
        assert f"{path}: expected" in said and message in said


def test_a_share_of_the_threads_holds_for_every_library():
    before = torch.get_num_threads()
    with limited_threads(1):
        pools = threadpool_info()
        assert {pool["user_api"] for pool in pools} >= {"blas", "openmp"}
        assert {pool["num_threads"] for pool in pools} == {1}
    assert torch.get_num_threads() == before


WRITES = {
    "train": ["train", "--data", "nowhere", "--out"],
    "train, prepared": ["train", "--data", "nowhere", "--out", "net", "--prepared"],
    "evaluate": ["evaluate", "m:x", "--data", "nowhere", "--audio", "0.01", "--out"],
    "evaluate, page": ["evaluate", "m:x", "--data", "nowhere", "--audio", "0.01", "--html"],
    "certify": ["certify", "m:x", "--data", "nowhere", "--noise.audio", "0.01", "--out"],
    "study": ["study", "quick", "--out"],
    "study, cache": ["study", "quick", "--out", "run", "--cache"],
    "study, page": ["study", "quick", "--out", "run", "--html"],
    "selftest": ["selftest", "--out"],
    "prepare": ["data", "prepare", "--data", "nowhere", "--out"],
    "orchestra": ["data", "orchestra", "--out"],
    "attack": ["attack", "v.mp4", "--model", "m:x", "--audio", "0.01", "--out"],
    "grid": ["grid", "m:x", "--data", "nowhere", "--audio", "0.01", "--visual", "0.01", "--html"],
    "compare": ["compare", "nowhere", "--html"],
}


@pytest.mark.parametrize("words", WRITES.values(), ids=WRITES)
def test_a_place_that_cannot_be_written_is_refused_before_any_work(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main([*words, "file/inside"]) == 1
    said = capsys.readouterr().err
    assert f"file/inside: expected a folder that can be written, got the file file. Give another {words[-1]}." in said
    closed = Mock(side_effect=PermissionError(13, "Permission denied"))  # as for others than root
    monkeypatch.setattr("avrobust.cli.places.TemporaryFile", closed)
    assert main([*words, "closed/inside"]) == 1
    assert "expected a folder that can be written, got Permission denied in ." in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_show_answers_programs_too(done, network, videos, capsys):
    def told(path):
        assert main(["show", str(path), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert "1 frame" in told(network)["input"]
    assert told(next(videos.glob("tuba/*.mp4")))["audio"]["codec"] == "aac"
    assert told(done)["conditions"][0]["robust_accuracy"]["n"] > 0


def test_what_a_stranger_s_file_says_moves_no_cursor(capsys):
    Answer("a\x1b[2Jb", {"name": "a\x1b[2Jb", "gap": float("inf")}).print()
    Answer("", {"name": "a\x1b[2Jb", "gap": float("inf")}, json=True).print()
    said = capsys.readouterr().out
    assert "\x1b" not in said and "a\\x1b[2Jb" in said and '"gap": null' in said


@pytest.mark.parametrize(
    ("options", "labels", "says"),
    [
        (TaskOptions("binary"), ("a", "b", "c"), "expected two classes for --task binary, got 3 (a, b, c)"),
        (TaskOptions("multi-label"), ("a", "b"), "expected clips with a column 'labels'"),
        (TaskOptions("binary"), (("a", "b"),), "expected clips with one label each"),
        (TaskOptions("embedding"), ("a", "b"), "expected --tolerance with --task embedding"),
        (TaskOptions(tolerance=0.1), ("a", "b"), "expected --tolerance with --task embedding"),
    ],
)
def test_a_task_has_to_fit_its_clips(options, labels, says):
    entries = tuple(Entry(str(i), label, "test", Path(f"{i}.mp4")) for i, label in enumerate(labels))
    with pytest.raises(ValueError, match=re.escape(says)):
        options.of(Manifest(Path(), entries))


def test_tasks_by_name():
    two, many = (Manifest(Path(), (Entry("0", labels, "test", Path("0.mp4")), Entry("1", labels, "test", Path("1.mp4")))) for labels in ("a", ("a", "b")))  # fmt: skip
    assert TaskOptions().of(two) == tasks.Classification() and TaskOptions().of(many) == tasks.MultiLabel()
    assert TaskOptions("embedding", 0.1).of(two) == tasks.Embedding(0.1)
    assert TaskOptions("retrieval").of(two) == tasks.Retrieval()


def test_certify_writes_a_run_with_its_section(own, tmp_path, capsys):
    words = ["certify", *own[1:6], *own[-8:], "--limit", "4", "--votes", "30", "--select", "5"]
    words += ["--classes", "flute,tuba,erhu", "--json"]
    asked = ["--noise.audio", "0.05", "--keep.visual", "8", "--attacks", "PGD-2", "--audio", "0.1", "--out", "run"]
    assert main([*words, *asked, "--html", "beside.html"]) == 0
    said = capsys.readouterr()
    assert "cost: 70 passes of each clip" in said.err
    told = json.loads(said.out)
    names = [c["certificate"]["class"].partition(":")[2] for c in told["certified"]]
    assert sorted(names) == ["Ablation", "Gaussian"]
    for c in told["certified"]:
        assert c["accuracy"]["n"] == 4 == len(c["reach"][0]) and [a["correct"]["n"] for a in c["attacks"]] == [4]
    html = Path("run/report.html").read_text()
    assert Path("beside.html").read_text().count("<section") == html.count("<section")
    assert 'id="certified"' in html and "What smoothing certifies" in html
    assert main(words) == 1 and "expected noise or elements to keep" in capsys.readouterr().err


def test_a_detector_is_evaluated_as_one(own, capsys):
    Path("detector.py").write_text(
        "def model(x):\n    return 100 * (x.audio.abs().mean(1) - 0.05) + x.visual.mean((1, 2, 3, 4))\n"
    )
    words = ["evaluate", "detector:model", *own[2:], "--task", "binary", "--json"]
    assert main(words) == 0
    attacked = json.loads(capsys.readouterr().out)["conditions"]
    assert all({"AUC", "attack_success"} <= c.keys() for c in attacked if c["mode"] != "control")


def test_a_run_of_another_task_goes_on_while_it_is_the_same_model(own, capsys, monkeypatch):
    Path("encoders.py").write_text(
        "import os\nfrom avrobust import AV\nSCALE = float(os.environ['SCALE'])\ndef model(x):\n"
        "    return AV(x.audio[:, :3], x.visual.mean((1, 3, 4)) ** SCALE)\n"
    )
    words = ["evaluate", "encoders:model", *own[2:], "--task", "retrieval", "--limit", "6", "--out", "run", "--json"]
    said = []
    for scale in ("1", "1", "9"):  # weights, not code
        monkeypatch.setenv("SCALE", scale)
        sys.modules.pop("encoders", None)
        files = set(Path("run").glob("cells/*"))
        assert main(words) == 0
        said.append(
            (str(json.loads(capsys.readouterr().out)["conditions"]), len(set(Path("run").glob("cells/*")) - files))
        )
    (first, new), (again, none), (other, anew) = said
    assert first == again and other != first
    assert (none, anew) == (0, new) and new > 1
    assert Path("run/report.html").is_file()
