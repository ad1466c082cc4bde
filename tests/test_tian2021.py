"""The paper's studies, shrunk to seconds, on clips that lie on disk as users have them: from files to a report."""

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from avrobust import FGSM, PGD
from avrobust.cli import main
from avrobust.cli.answer import Answer
from avrobust.cli.studies import named
from avrobust.cli.study import read
from avrobust.data import selection
from avrobust.data.entry import SPLITS, ManifestError
from avrobust.data.kinetics_sounds import CLASSES, folder_name
from avrobust.data.manifest import Manifest
from avrobust.data.orchestra import Orchestra
from avrobust.data.orchestra.dataset import Job, make
from avrobust.data.source import Source
from avrobust.defenses import ExFMem
from avrobust.media import ClipSpec
from avrobust.media.decode import decode
from avrobust.media.encode import write_wav
from avrobust.models import NetSpec
from avrobust.objectives import WithSimilarity
from avrobust.papers.tian2021 import budgets as tian2021
from avrobust.papers.tian2021 import lists as paper_lists
from avrobust.papers.tian2021.defenses import published_memory
from avrobust.papers.tian2021.lists import Lists
from avrobust.study import ModelConfig, Study, Sweep
from avrobust.study.cost import announced, cost, estimate, size
from avrobust.study.runner import run
from avrobust.training import View

STUDIES = ("tian2021_music", "tian2021_kinetics_sounds", "tian2021_ave")
SHARES = {"train": 3, "val": 1, "test": 2}  # clips of each class
INSTRUMENTS = ("accordion", "clarinet", "violin")
# Ids as YouTube has them: some begin with a dash, one ends like a cutting time.
IDS = [f"{start}{i:02d}_{'x' * (8 - len(start))}" for i, start in enumerate(["-9", "Zz", "_0"] * 6)]
IDS[4] = "abcd_123456"
FEW = ("AV", "A", "V", "MinSim", "Attention")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of clips is decoded sooner than a process starts."""
    monkeypatch.setattr("avrobust.data.prepare.cores", lambda: 1)


@pytest.fixture(scope="module")
def solos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """A few clips of one second per instrument."""
    root = tmp_path_factory.mktemp("solos")
    orchestra = Orchestra(seconds=1.0, fps=8, size=48)
    jobs = [Job(f"{label}-{i}", label, "train") for label in INSTRUMENTS for i in range(sum(SHARES.values()))]
    for job in jobs:
        make(orchestra, root, job)
    return {label: [root / job.path for job in jobs if job.label == label] for label in INSTRUMENTS}


def put(clips: dict[str, list[Path]], root: Path, names: dict[str, list[str]]) -> None:
    """The clips as `<class>/<name>.mp4`, the i-th instrument as the i-th class."""
    for files, (label, stems) in zip(clips.values(), names.items(), strict=True):
        (root / label).mkdir(parents=True)
        for file, stem in zip(files, stems, strict=True):
            shutil.copy(file, root / label / f"{stem}.mp4")


def put_frames(clips: dict[str, list[Path]], root: Path, names: dict[str, list[str]]) -> None:
    """The clips as the paper's code wants them: a wav file, and a folder of 8 frames a second."""
    for files, (label, stems) in zip(clips.values(), names.items(), strict=True):
        for file, stem in zip(files, stems, strict=True):
            clip = decode(file, ClipSpec(seconds=1.0, rate=11025, fps=8, size=48))
            frames = root / "frames" / label / f"{stem}.mp4"
            frames.mkdir(parents=True)
            for number, frame in enumerate(clip.frames, 1):
                Image.fromarray(frame).save(frames / f"{number:06d}.jpg")
            (root / "audio" / label).mkdir(parents=True, exist_ok=True)
            write_wav(root / "audio" / label / f"{stem}.wav", clip.wave, 11025)


def write_lists(folder: Path, dataset: str, names: dict[str, list[str]], frames: int = 8) -> dict[str, list[str]]:
    """Lists in the published form, each class divided by `SHARES`."""
    folder.mkdir()
    order = [split for split, n in SHARES.items() for _ in range(n)]
    for split in SPLITS:
        rows = [f"{label}/{id}" for label, ids in names.items() for id, s in zip(ids, order, strict=True) if s == split]
        text = "".join(f"/{row}.wav,/{row}.mp4,{frames}\n" for row in rows)
        (folder / f"{split}{paper_lists.LISTS[dataset]}.csv").write_text(text)
    return names


def invented(labels: Iterable[str]) -> dict[str, list[str]]:
    n = sum(SHARES.values())
    return {label: IDS[i * n : (i + 1) * n] for i, label in enumerate(labels)}


def published(real_data: Path, dataset: str, labels: Iterable[str]) -> dict[str, list[str]]:
    """As many ids of each class as there are clips, from the lists of the paper's code."""
    entries = paper_lists.published(real_data / "lists/AV-Robustness-CVPR21", dataset=dataset).unique().entries
    n = sum(SHARES.values())
    return {label: [e.video.stem for e in entries if e.label == label][:n] for label in labels}


def shrunk(name: str, models: tuple[str, ...] = FEW, **source: object) -> Study:
    """A study of the paper with small networks, one epoch, small clips, short attacks."""
    study = named(name)

    def small(c: ModelConfig) -> ModelConfig:
        feature_defense = (
            replace(c.feature_defense, columns=6, solver=replace(c.feature_defense.solver, iterations=9))
            if isinstance(c.feature_defense, ExFMem)
            else c.feature_defense
        )
        network = replace(c.network, width=16, visual_weights=None)
        return replace(c, network=network, feature_defense=feature_defense, epochs=c.epochs and 1)

    sweeps = []
    for t in study.sweeps:
        attacks = tuple(replace(a, steps=2) if getattr(a, "steps", 1) > 1 else a for a in t.attacks)
        attacks = attacks if models != FEW else attacks[:2]
        sweeps.append(
            replace(t, models=tuple(m for m in t.models if m in models), attacks=attacks, threats=t.threats[:3])
        )
    return replace(
        study,
        models=tuple(small(c) for c in study.models if c.name in models),
        sweeps=tuple(sweeps),
        data=replace(study.data, **({"middle": 0.5} if study.data.middle else {}), **source),
        clip=replace(study.clip, seconds=0.5, size=40),
        view=View(samples=4096, frames=1, size=32),
        seeds=(0,),
        epochs=1,
        attacked=4,
        batch=8,
    )


def finished(study: Study, folder: Path) -> dict:
    """Run it; what run.json says."""
    page = run(study, folder / "run", data=folder / "cache", progress=False)
    assert page.stat().st_size > 10_000
    about = json.loads((folder / "run/run.json").read_text())
    assert set(about["models"]) == {c.name for c in study.models}
    cells = [json.loads(f.read_text()) for f in folder.glob("run/cells/*/cell.json")]
    assert len(cells) == sum(len(list(study.cells(c.name, 0))) for c in study.models)
    return about


def test_music_as_a_folder_of_classes(solos, tmp_path):
    put(solos, tmp_path / "MUSIC", invented(INSTRUMENTS))
    about = finished(shrunk("tian2021_music", path=tmp_path / "MUSIC"), tmp_path)
    assert about["data"]["classes"] == list(INSTRUMENTS)
    assert about["data"]["counts"] == {"train": [12, 12], "val": [3, 3], "test": [3, 3]}  # 60 : 20 : 20 of 6
    assert about["models"]["AV"]["recipe"] == "published"


@pytest.mark.slow
def test_music_by_its_json_list_with_every_network(solos, tmp_path):
    names, lacking = invented(INSTRUMENTS), INSTRUMENTS[0]
    put(solos, tmp_path / "MUSIC", names)
    (tmp_path / "solos.json").write_text(
        json.dumps({"version": 1.0, "videos": names | {lacking: [*names[lacking], "lost1", "lost2"]}})
    )
    everyone = tuple(c.name for c in named("tian2021_music").models)
    study = shrunk("tian2021_music", everyone, path=tmp_path / "MUSIC", names=tmp_path / "solos.json")
    about = finished(study, tmp_path)
    assert sorted(f["id"] for f in about["data"]["failures"]) == [f"{lacking}/lost1", f"{lacking}/lost2"]


@pytest.mark.parametrize("frames", [False, True], ids=["videos", "frames"])
def test_the_middle_is_that_of_the_file_in_hand(solos, tmp_path, frames):
    names = write_lists(tmp_path / "lists", "music", invented(INSTRUMENTS), frames=800)
    (put_frames if frames else put)(solos, tmp_path / "MUSIC", names)  # of one second, where the list knows of 100
    source = Source(tmp_path / "MUSIC", Lists(tmp_path / "lists"), middle=0.5)
    assert {e.id: e.start for e in source.manifest().entries if e.start != (8 // 2 - 0.5) / 8 - 0.25} == {}


def test_classes_in_capitals_are_the_listed_ones(solos, tmp_path):
    names = invented(INSTRUMENTS)
    put(solos, tmp_path / "MUSIC", {label.capitalize(): ids for label, ids in names.items()})
    put_frames(solos, tmp_path / "FRAMES", {label.upper(): ids for label, ids in names.items()})
    (tmp_path / "solos.json").write_text(json.dumps({"videos": names}))
    write_lists(tmp_path / "lists", "music", names)
    for source in (
        Source(tmp_path / "MUSIC", names=tmp_path / "solos.json"),
        Source(tmp_path / "MUSIC", classes=",".join(INSTRUMENTS)),
        Source(tmp_path / "MUSIC", Lists(tmp_path / "lists")),
        Source(tmp_path / "FRAMES", Lists(tmp_path / "lists")),
    ):
        manifest = source.manifest()
        assert manifest.classes == INSTRUMENTS
        assert len(manifest) == 18
        assert all(path.exists() for e in manifest.entries for path in manifest.paths(e))


def test_videos_that_lie_deeper_are_named(solos, tmp_path):
    put(solos, tmp_path / "MUSIC/solo", invented(INSTRUMENTS))
    with pytest.raises(ManifestError, match=r"one folder further down, in solo\. Give .*, for example .*MUSIC/solo\."):
        Source(tmp_path / "MUSIC").manifest()


def test_a_json_list_counts_what_is_lost(solos, tmp_path):
    names = invented(INSTRUMENTS)
    put(solos, tmp_path / "MUSIC", names)
    (tmp_path / "solos.json").write_text(json.dumps({"version": 1.0, "videos": names | {"tuba": ["lost"]}}))
    source = replace(named("tian2021_music").data, path=tmp_path / "MUSIC", names=tmp_path / "solos.json", middle=0.5)
    entries = {e.id: e for e in source.manifest().entries}
    assert len(entries) == 19
    assert entries.pop("tuba/lost").start == 0
    assert all(abs(e.start - 0.25) < 0.05 for e in entries.values())  # of one second and what a codec adds


@pytest.mark.parametrize("ids", ["invented", "published"])
def test_kinetics_sounds_by_the_papers_lists_with_files_as_kinetics_names_them(solos, tmp_path, request, ids):
    labels = tuple(f"playing_{label}" for label in INSTRUMENTS)
    lists = request.getfixturevalue("real_data") if ids == "published" else None
    names = published(lists, "kinetics_sounds", labels) if lists else invented(labels)
    write_lists(tmp_path / "lists", "kinetics_sounds", names)
    cut = {label: [f"{id}_{7 * i:06d}_{7 * i + 10:06d}" for i, id in enumerate(v)] for label, v in names.items()}
    put(solos, tmp_path / "Kinetics/train", cut)
    study = shrunk(
        "tian2021_kinetics_sounds",
        path=tmp_path / "Kinetics",
        lists=Lists(tmp_path / "lists", "kinetics_sounds"),
        classes="playing violin,playing clarinet",
    )
    assert {e.id for e in study.data.manifest().entries} == {f"{k}/{id}" for k in labels[1:] for id in names[k]}
    if ids == "published":
        return  # that they are found is all that differs
    about = finished(study, tmp_path)
    assert about["data"]["classes"] == ["playing clarinet", "playing violin"]
    assert about["data"]["counts"] == {"train": [6, 6], "val": [2, 2], "test": [4, 4]}
    assert about["models"]["AV"]["recipe"] == "published-30"


@pytest.mark.parametrize("ids", ["invented", "published"])
def test_ave_as_the_papers_code_wants_it(solos, tmp_path, request, ids):
    labels = ("Accordion", "Flute", "Violin")
    lists = request.getfixturevalue("real_data") if ids == "published" else None
    names = published(lists, "ave", labels) if lists else invented(labels)
    put_frames(solos, tmp_path / "AVE", write_lists(tmp_path / "lists", "ave", names))
    leak = (tmp_path / "lists/test_AVE.csv").read_text().splitlines()[0]
    with (tmp_path / "lists/train_AVE.csv").open("a") as file:
        file.write(leak + "\n")  # as the published lists have it
    study = shrunk("tian2021_ave", path=tmp_path / "AVE", lists=Lists(tmp_path / "lists", "ave"))
    manifest = study.data.manifest()
    assert all(path.exists() for e in manifest.entries for path in manifest.paths(e))
    if ids == "published":
        return
    about = finished(study, tmp_path)
    assert about["data"]["counts"] == {"train": [9, 9], "val": [3, 3], "test": [6, 6]}
    assert about["data"]["failures"] == []


def test_ave_without_class_folders(tmp_path):
    names = write_lists(tmp_path / "lists", "ave", invented(["Accordion", "Flute"]))
    (tmp_path / "AVE").mkdir()
    for id in (id for ids in names.values() for id in ids):
        (tmp_path / "AVE" / f"{id}.mp4").touch()
    manifest = Source(tmp_path, Lists(tmp_path / "lists", "ave")).manifest()
    assert all(e.video == Path("AVE", f"{e.id.split('/')[1]}.mp4") for e in manifest.entries)


def test_a_clip_is_not_taken_from_another_class(tmp_path):
    write_lists(tmp_path / "lists", "ave", invented(["Accordion", "Flute"]))
    for label, id in (("Accordion", IDS[0]), ("Accordion", IDS[6])):  # the second is a flute's
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{id}.mp4").touch()
    there = [
        e.id
        for e in Source(tmp_path, Lists(tmp_path / "lists", "ave")).manifest().entries
        if (tmp_path / e.video).exists()
    ]
    assert there == [f"Accordion/{IDS[0]}"]


@pytest.mark.parametrize(
    ("text", "file", "expected"),
    [
        ("label,youtube_id,time_start,time_end,split\nplaying drums,abcd_123456,20,30,validate\n",
         "playing_drums/abcd_123456_000020_000030.mp4", ("playing drums", "val")),
        ('abcd_123456,300,"playing drums, far",test\n', "videos/abcd_123456_000300.mp4", ("playing drums, far", "test")),
        ("abcd_123456_000300.mp4,playing drums\n", "abcd_123456_000300.mp4", ("playing drums", "test")),
        ("abcdef-3456_000300.mp4,playing drums\n", "abcdef-3456.mp4", ("playing drums", "test")),
    ],
    ids=["Kinetics", "VGGSound", "VGGSound's test", "a name without times"],
)  # fmt: skip
def test_tables_of_youtube_ids(tmp_path, text, file, expected):
    (tmp_path / "list.csv").write_text(text)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    (tmp_path / Path(file).with_name("abcd_123456_000900.mp4")).touch()  # another clip of the same video
    (entry,) = Source(tmp_path / "list.csv").manifest().entries
    assert (entry.label, entry.split, entry.video) == (*expected, Path(file))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,1,dog,test\nb,soon,dog,test\n", "line 2"),
        ("a,1,dog,test\nb,2,dog\n", "line 2: expected id, start, label, split"),
        ("label,youtube_id,time_start,time_end,split\ndog,a,1,2,dev\n", "line 2: expected split to be one of"),
    ],
)
def test_tables_of_youtube_ids_that_are_wrong(tmp_path, text, says):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ManifestError, match=says):
        Source(tmp_path / "list.csv").manifest()


def test_the_published_test_list_of_vggsound(real_data):
    manifest = Source(real_data / "lists/extra/vggsound_test.csv").manifest()
    assert (len(manifest), len(manifest.classes)) == (15446, 309)
    assert {e.split for e in manifest.entries} == {"test"}


def test_classes_of_kinetics_sounds(real_data):
    assert {name: len(set(classes)) for name, classes in CLASSES.items()} == {
        "ks27": 27, "ks31": 31, "ks32": 32, "ks34": 34
    }  # fmt: skip
    lists = real_data / "lists/AV-Robustness-CVPR21"
    manifest = paper_lists.kinetics_sounds(lists)
    assert set(manifest.classes) == {folder_name(name) for name in CLASSES["ks27"]}
    kept = selection.keep_classes(manifest, "ks27")
    assert (len(kept), kept.name) == (15516, "kinetics_sounds-ks27")
    with pytest.raises(ManifestError, match=r"of 31 classes \(ks31\), got none of blowing out candles, dribbling"):
        selection.keep_classes(manifest, "ks31")


def test_classes_of_a_folder_are_kept_by_name(tmp_path):
    for label in ("tap_dancing", "massaging_persons_head", "yoga"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.mp4").touch()
    manifest = Source(tmp_path, classes="massaging person's head, tap dancing").manifest()
    assert manifest.classes == ("massaging person's head", "tap dancing")
    assert [e.id for e in manifest.entries] == ["massaging_persons_head/a", "tap_dancing/a"]


@pytest.mark.parametrize("name", STUDIES)
def test_the_settings_are_the_papers(name):
    study = named(name)
    assert study.name == name
    epochs = study.models[0].recipe.epochs
    assert epochs == (100 if name.endswith("music") else 30)
    assert len(study.models) == 19
    for c in study.models:
        assert (c.network.width, c.network.visual_weights, c.network.classifier_std) == (
            64,
            "microsoft/resnet-18",
            1e-4,
        )
        trained, rates = study.recipe(c), {"music": (36, 36), "sounds": (48, 32), "ave": (48, 16)}
        assert (trained.epochs, trained.drops) == (epochs, (30, 60, 90) if name.endswith("music") else (10, 20))
        assert trained.batch == rates[name.split("_")[-1]][c.start is not None]
        slow = c.start is not None and name.endswith("sounds")
        assert (trained.lr.audio, trained.lr.visual, trained.lr_head) == (
            1e-4 if slow else 1e-3,
            1e-4,
            trained.lr.audio,
        )
    defenses = {c.name: c.feature_defense for c in study.models}
    assert defenses["ExFMem published"] == published_memory(
        288 if name.endswith("music") else 1024, 0.6 if "kinetics" in name else 0.5
    )
    assert (study.clip.rate, study.clip.fps, study.clip.size, study.seeds, study.attacked) == (
        11025,
        8,
        246,
        (0, 1, 2),
        None,
    )
    assert study.view == View(samples=65_535, frames=1, size=224)
    assert study.clip.samples >= study.view.samples
    raised = {
        a.objective.weight
        for t in study.sweeps
        for a in t.attacks
        if isinstance(getattr(a, "objective", None), WithSimilarity)
    }
    assert raised == {0.8 if "kinetics" in name else 1.0}
    assert study.tables == ((tian2021.threat(0.012, 0), tian2021.threat(0, 0.012), tian2021.threat(0.006, 0.006)),)
    assert study.defenses == (tian2021.threat(0.006, 0.006).subsets(),)
    assert {t.audio.eps for sweep in study.sweeps for t in sweep.threats} <= {0, *(k / 1000 for k in range(2, 13, 2))}


@pytest.mark.parametrize("name", STUDIES)
def test_trained_as_long_is_as_long_whatever_epochs_are_asked_for(name):
    for asked in (1, 7, 40):
        study = replace(named(name), epochs=asked)
        assert {study.recipe(c).epochs for c in study.models} == {asked}


@pytest.mark.parametrize(("asked", "whole", "further"), [(None, 8, 2), (16, 16, 4), (1, 1, 1)])
def test_a_shorter_training_keeps_its_share(asked, whole, further):
    study = replace(named("quick"), epochs=asked)
    assert {study.recipe(c).epochs for c in study.models if c.start is None} == {whole}
    assert {study.recipe(c).epochs for c in study.models if c.start} == {further}


@pytest.mark.parametrize(("what", "number"), [("epochs", 0), ("epochs", -1), ("attacked", 0), ("batch", 0)])
def test_counts_that_cannot_be_meant_are_refused(what, number):
    with pytest.raises(ValueError, match=f"expected {what} to be 1 or more, got {number}"):
        replace(named("quick"), **{what: number})


@pytest.mark.parametrize("option", [[], ["--visual-weights", "nowhere/at-all"]], ids=["the study's own", "given"])
def test_image_weights_that_are_not_there_are_missed_before_any_work(solos, tmp_path, monkeypatch, capsys, option):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    put(solos, tmp_path / "MUSIC", invented(INSTRUMENTS))
    assert main(["study", "tian2021_music", "--data", "MUSIC", "--workers", "1", *option]) == 1
    said = capsys.readouterr().err
    assert f"expected the weights '{option[1] if option else 'microsoft/resnet-18'}' in a folder" in said
    assert "--visual-weights PATH" in said
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--epochs", "0"], "expected epochs to be 1 or more, got 0"),
        (["--attacked", "-1"], "expected attacked to be 1 or more, got -1"),
        (["--seeds", "0", "0"], "one seed or more, each once"),
        (["--view.size", "300"], "expected frames of at least 300 pixels, got 246 x 246"),
        (["--view.samples", "300000"], "expected at least 300000 samples of audio, got 198450"),
        (["--view.samples", "2000"], "at least 2341 samples of audio, got 2000"),
        (["--tracker", "paper"], "expected a tracker that is installed"),
        (["--out", "MUSIC/violin/0.mp4"], "expected a folder that can be written, got the file MUSIC/violin/0.mp4"),
        (["--cache", "MUSIC/violin/0.mp4"], "expected a folder that can be written, got the file MUSIC/violin/0.mp4"),
        (["--classes", "violin"], "expected clips in the splits val and test, got none of 1"),
    ],
)
def test_wrong_options_are_refused_before_any_work(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    for label in ("tuba", "violin"):
        for i in range(5 if label == "tuba" else 1):
            (tmp_path / "MUSIC" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "MUSIC" / label / f"{i}.mp4").touch()
    asked = ["study", "tian2021_music", "--data", "MUSIC", "--workers", "1", "--quiet", "--visual-weights", "none"]
    assert main([*asked, *words]) == 1
    assert says in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["MUSIC"]


@pytest.mark.parametrize(("words", "weights"), [("none", None), ("some/folder", "some/folder")])
def test_image_weights_of_a_study_may_be_chosen(tmp_path, words, weights):
    _, study = read(["tian2021_music", "--data", str(tmp_path), "--visual-weights", words])
    assert {c.network.visual_weights for c in study.models} == {weights}
    _, study = read(["tian2021_music", "--data", str(tmp_path)])
    assert {c.network.visual_weights for c in study.models} == {"microsoft/resnet-18"}


@pytest.mark.parametrize("name", STUDIES)
def test_what_it_costs_is_what_the_documents_say(name, capsys):
    found = cost(study := named(name), announced(study))
    assert found.weights / len(study.seeds) == pytest.approx(1.125e9, rel=0.01)
    page = (Path(__file__).parents[1] / "docs/published.md").read_text()
    passes = f"{sum(found.passes.values()) / 1e6:.2g} million"
    assert f"| `{name}` | {found.trainings} | {passes} | {size(found.prepared)} | {size(found.weights)} |" in page
    with pytest.raises(SystemExit):
        main(["study", name, "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"{name}: 19 networks, 57 trainings in all, {passes} passes" in said


def test_the_estimate_counts_what_a_run_does():
    """One epoch of 30 clips and 10 to validate, three seeds; FGSM and PGD-2 on 4 of 20 clips."""
    threat = tian2021.threat(0.006, 0.006)
    study = replace(
        named("quick"),
        models=(ModelConfig("AV", NetSpec(width=16)),),
        sweeps=(Sweep(("AV",), (FGSM(), PGD(steps=2)), threat.subsets()),),
        embedded=(),
        epochs=1,
        seeds=(0, 1, 2),
        attacked=4,
        view=View(samples=4096, frames=1, size=32),
    )
    found = cost(study, {"train": 30, "val": 10, "test": 20})
    searched = 3 * (1 + 2) * 4
    assert found.passes == pytest.approx({"AV": 3 * (30 + 10 / 3) + searched, "A": searched, "V": searched})
    assert found.trainings == 3
    assert found.seconds({"A": 1.0, "V": 2.0, "AV": 10.0}) == pytest.approx(1000 + 13 * searched)
    told = estimate(study, {"train": 30, "val": 10, "test": 20})
    assert re.search(r"quick: 1 network, 3 trainings .* on this machine at least", told)


def test_every_clip_of_music_is_long_enough(real_data):
    study = named("tian2021_music")
    frames = [int(e.extra["frames"]) for e in paper_lists.music(real_data / "lists/AV-Robustness-CVPR21").entries]
    assert min(frames) / 8 >= study.clip.seconds == study.data.middle


@pytest.mark.parametrize("name", STUDIES)
def test_without_videos_it_is_said_what_to_give(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", name]) == 1
    said = capsys.readouterr().err
    assert "expected --data, got none" in said
    assert f"avrobust study {name} --data /media/" in said
    assert main(["study", name, "--data", "nowhere"]) == 1
    assert "nowhere: expected" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(ManifestError, match="expected videos, got no path"):
        named(name).data.manifest()


def test_a_user_types_one_command(tmp_path, monkeypatch, capsys):
    asked: list[tuple[Study, Manifest]] = []

    def instead(study: Study, out: Path, **_: object) -> Path:
        asked.append((study, study.data.manifest()))
        return out / "report.html"

    monkeypatch.setattr("avrobust.cli.study.run", instead)
    monkeypatch.setattr("avrobust.study.cost.seconds_per_pass", lambda *_: {"A": 1e-3, "V": 2e-3, "AV": 3e-3})
    monkeypatch.setattr("avrobust.cli.study.answered", lambda out, page, output: Answer(str(page), None))
    for name in CLASSES["ks27"] + ("yoga",):
        (tmp_path / folder_name(name)).mkdir()
        (tmp_path / folder_name(name) / "a_000001_000011.mp4").touch()
    assert main(["study", "tian2021_kinetics_sounds", "--workers", "1", "--data", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "report.html" in said.out
    assert re.search(r"tian2021_kinetics_sounds: 19 networks, 57 trainings .* \d+ s on this machine at least", said.err)
    ((study, manifest),) = asked
    assert study.data == Source(tmp_path, dataset="kinetics_sounds", classes="ks27")
    assert len(manifest) == 27
    assert (
        main(["study", "tian2021_kinetics_sounds", "--workers", "1", "--data", str(tmp_path), "--classes", "all"]) == 0
    )
    assert len(asked[-1][1]) == 28
