"""`avrobust demo`: what it does without a page, and the page in a real browser, from upload to download."""

import builtins
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from avrobust.cli import main
from avrobust.data.orchestra import CLASSES, Orchestra
from avrobust.demo import plane
from avrobust.demo.budgets import Sliders
from avrobust.demo.builtin import BuiltIn
from avrobust.demo.clips import Limits, of_orchestra, read
from avrobust.demo.jobs import Jobs, Stopped
from avrobust.demo.work import (
    BUILT_IN,
    OBJECTIVES,
    OWN_PREDICTION,
    USUAL,
    Models,
    attack_of,
    attacked,
    bundle,
    checkpoints_of,
    label_of,
)
from avrobust.media import ClipSpec, write_mp4, write_wav
from avrobust.models.zoo import NetSpec
from avrobust.report.attacked_clip import fragment
from avrobust.training import Recipe, View, checkpoint

SPEC, VIEW = ClipSpec(seconds=0.6, rate=8000, fps=4, size=36), View(samples=4096, frames=1, size=32)
CPU = torch.device("cpu")
NAMES = ("dog", "<b>cat</b>", "owl")
CHROMIUM = Path("/usr/bin/chromium")


def quiet(share, words):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def video(folder):
    g = np.random.default_rng(0)
    wave = (0.3 * np.sin(np.arange(12000) / 5)).astype(np.float32)
    return write_mp4(folder / "my clip.mp4", wave, g.integers(0, 255, (6, 48, 64, 3)).astype(np.uint8), 8000, 4.0)


@pytest.fixture(scope="module")
def models(folder):
    """A network with random weights, whose class names are somebody else's."""
    net = NetSpec(3, width=16, fusion="attention", classifier_std=1.0).build(0)
    path = folder / "mine/net.safetensors"
    checkpoint.save(net.eval(), path, {"clip": vars(SPEC), "view": vars(VIEW), "classes": NAMES})
    return Models(checkpoints_of(path, None), folder / "cache", CPU)


@pytest.fixture(scope="module")
def model(models):
    return models.open("mine", None, quiet)


@pytest.fixture(scope="module")
def found(model, video):
    clip = read(video, model.spec, model.view)
    return attacked(model, clip, attack_of("PGD", 3, USUAL, lossless=False), Sliders(-40, 4), None, None, 0, quiet)


def test_sliders_are_budgets_in_the_units_that_they_name():
    threat = Sliders(-40, 2).threat(None)
    assert threat.audio.eps == pytest.approx(0.01) and threat.visual.eps == pytest.approx(2 / 255)
    x = attack_input = torch.full((1, 1, 3, 4, 5), 0.5)
    from avrobust import AV

    signals = AV(audio=torch.ones(1, 8), visual=x)
    l2 = Sliders(20, 5, "l2").threat(signals)
    moved = attack_input + 5 / 255  # a root mean square of 5 grey levels uses all of the budget
    assert l2.visual.size(moved - x, x).item() == pytest.approx(l2.visual.eps, rel=1e-5)
    assert l2.audio.size(torch.full((1, 8), 0.1), signals.audio).item() == pytest.approx(l2.audio.eps, rel=1e-5)
    assert Sliders(None, 2).threat(None).subset == "V"
    with pytest.raises(ValueError, match="got none"):
        Sliders(None, None).threat(None)


def test_what_sliders_mean_is_said_in_numbers():
    said = Sliders(-40, 0.25).explained()
    assert "0.01 of full scale, 327.7 of 32,768 steps" in said and "rounding will remove this" in said
    assert "stays clean" in Sliders(None, 2).explained() and "dB PSNR" in Sliders(30, 2, "l2").explained()


def test_uploads_that_cannot_be_taken_are_refused_in_words(folder, video):
    text, silent, blind = folder / "text.mp4", folder / "silent.mp4", folder / "blind.wav"
    text.write_text("no video")
    write_wav(blind, np.zeros(8000, np.float32), 8000)
    shutil.copy(video, silent)
    cases = [
        (text, Limits(), "text.mp4: "),
        (blind, Limits(), "blind.wav: expected a video with sound: has no video"),
        (video, Limits(megabytes=0.001), "my clip.mp4: expected a file of at most 0.001 MB, got"),
        (video, Limits(seconds=1), "my clip.mp4: expected at most 1 s, got 1.5 s"),
    ]
    for path, limits, words in cases:
        with pytest.raises(ValueError) as error:
            read(path, SPEC, VIEW, limits=limits)
        assert str(error.value).startswith(words) and str(folder) not in str(error.value)
    assert (
        "the model receives 0.51 s of 0.6 s of audio at 8,000 Hz and 1 frame of 32 x 32 pixels"
        in read(video, SPEC, VIEW).said
    )


def test_every_choice_of_attack_and_objective_is_one():
    for objective in OBJECTIVES:
        assert attack_of("PGD", 3, objective, lossless=True).attack.objective == OBJECTIVES[objective]
    assert label_of(OWN_PREDICTION, "owl", NAMES) == 2 and label_of(OWN_PREDICTION, "tuba", NAMES) is None
    assert label_of("dog", "owl", NAMES) == 0


def test_the_fragment_shows_the_clip_and_escapes_names(found, model):
    html = str(fragment(found, model.spec.rate))
    assert html.count('src="data:video/mp4') == 3 and html.count('alt="Heat map') == 2 and "<b>cat" not in html
    assert "kHz" in html and "probability (%)" in html
    assert found.outcome.startswith(("The attack succeeds", "The attack fails"))
    assert "dBFS at most" in html and "grey levels of 255 at most" in html
    assert 'src="http' not in html and "<script" not in html


def test_the_plane_agrees_with_the_attack_that_it_repeats(found, model):
    cells = plane.plane(model.model, found, attack_of("PGD", 3, USUAL, lossless=False), Sliders(-40, None), 0, quiet)
    assert len(cells) == 25 and cells[0].correct and cells[0].predicted == NAMES[found.label]
    fooled = {(c.budget.audio.eps, c.budget.visual.eps) for c in cells if not c.correct}
    for c in cells:  # larger budgets fool where smaller ones do
        if any(a <= c.budget.audio.eps and v <= c.budget.visual.eps for a, v in fooled):
            assert not c.correct
    assert str(sum(not c.correct for c in cells)) in plane.figure(cells).alt


def test_the_download_is_exact(found, folder, model):
    file = bundle(found, model.spec.rate, folder / "download")
    with zipfile.ZipFile(file) as packed:
        packed.extractall(folder / "unpacked")
    tensors = load_file(folder / "unpacked/clips.safetensors")
    assert torch.equal(tensors["adversarial.audio"], found.adversarial.audio[0])
    assert torch.equal(tensors["clean.visual"], found.x.visual[0])
    about = json.loads((folder / "unpacked/attack.json").read_text())
    assert set(about["attack_succeeds"]) == {
        "adversarial",
        "adversarial, as 8-bit pixels and 16-bit samples",
        "adversarial, after H.264 and AAC",
    }
    assert {"README.txt", "clean.wav", "adversarial.wav", "clean-0.png", "adversarial-0.png"} <= {
        p.name for p in (folder / "unpacked").iterdir()
    }


def test_work_is_stopped_by_the_visitor_who_started_it(model, video):
    jobs = Jobs()
    asked = []

    clip, attack = read(video, model.spec, model.view), attack_of("PGD", 100, USUAL, lossless=False)
    with pytest.raises(Stopped), jobs.work("a") as carry_on:

        def tell(share, words):
            asked.append(words)
            if len(asked) == 2:
                jobs.stop("a")
            carry_on()

        attacked(model, clip, attack, Sliders(-40, 4), None, None, 0, tell)
    assert len(asked) == 2
    with jobs.work("b") as carry_on:
        carry_on()  # another visitor's
    jobs.end()


def test_the_built_in_network_is_trained_once(folder):
    tiny = BuiltIn(
        Orchestra(train=2, val=1, test=0, seconds=0.6, rate=8000, fps=4, size=48), NetSpec(len(CLASSES), width=16, fusion="attention"),
        Recipe(epochs=1), SPEC, VIEW,
    )  # fmt: skip
    told = []
    models = Models({}, folder / "cache", CPU, tiny)
    opened = models.open(BUILT_IN, None, lambda share, words: told.append(words))
    assert opened.classes == CLASSES and opened.view == VIEW and any("training" in words for words in told)
    path = tiny.path(folder / "cache")
    assert {p.name for p in path.parents[1].iterdir() if p.is_dir()} == {
        path.parent.name
    }  # videos and prepared clips are gone
    before = path.stat().st_mtime_ns
    models.open(BUILT_IN, None, quiet)
    assert path.stat().st_mtime_ns == before and replace(tiny, recipe=Recipe(epochs=2)).path(folder / "cache") != path
    clip = read(of_orchestra(tiny.orchestra, "tuba", 5, folder / "takes"), SPEC, VIEW)
    assert clip.name == "tuba-test-0005"


def test_the_command_refuses_what_is_not_there(tmp_path, capsys, monkeypatch):
    assert main(["demo", "--model", str(tmp_path / "none.safetensors")]) == 1
    assert "expected a checkpoint, got no such file" in capsys.readouterr().err
    assert main(["demo", "--run", str(tmp_path)]) == 1
    assert "expected a study's run with models" in capsys.readouterr().err
    real = builtins.__import__

    def without_gradio(name, *args, **kwargs):
        if name.split(".")[0] == "gradio":
            raise ModuleNotFoundError(name, name="gradio")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_gradio)
    assert main(["demo"]) == 1
    assert 'pip install "avrobust[demo]"' in capsys.readouterr().err


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")
def test_the_page_from_upload_to_download(models, video, folder):
    """In a browser: files that are refused in words, an attack, its plane, the download; nothing is asked of other hosts."""
    sync_api = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("gradio")
    from avrobust.demo.command import served

    visits, text, blind, silent = (
        folder / "visits",
        folder / "renamed.mp4",
        folder / "no picture.wav",
        folder / "no sound.mp4",
    )
    visits.mkdir()
    text.write_text("this is no video")
    write_wav(blind, np.zeros(8000, np.float32), 8000)
    without_audio(video, silent)
    long = write_mp4(
        folder / "long.mp4", np.zeros(8000 * 4, np.float32), np.zeros((16, 32, 32, 3), np.uint8), 8000, 4.0
    )
    large = folder / "large.mp4"
    large.write_bytes(video.read_bytes() + bytes(2_100_000))
    with served(models, visits, limits=Limits(megabytes=2, seconds=3)) as page, sync_api.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 390, "height": 844})
        elsewhere = []
        tab.on(
            "request",
            lambda r: elsewhere.append(r.url) if not r.url.startswith((page.local_url, "data:", "blob:")) else None,
        )
        tab.goto(page.local_url)
        tab.set_default_timeout(30_000)
        tab.wait_for_selector("#go")
        for file, words in (
            (text, "renamed.mp4: "),
            (blind, "has no video"),
            (silent, "has no audio"),
            (long, "expected at most 3 s, got 4"),
            (large, "expected a file of at most 2 MB"),
        ):
            upload(tab, file)
            tab.click("#go")
            tab.wait_for_selector(f'#status .error:has-text("{words}")')
            assert str(visits) not in tab.inner_text("#status")
            tab.click('#clip button[aria-label="Clear"], #clip button[aria-label="Remove this file"]')
        upload(tab, video)
        tab.click("#go")
        tab.wait_for_selector("#result video")
        assert tab.locator("#result video").count() == 3 and "my clip.mp4: the model receives" in tab.inner_text(
            "#status"
        )
        played = "e => new Promise(r => { e.oncanplaythrough = () => r(e.duration); if (e.readyState > 3) r(e.duration); e.onerror = () => r(-1); })"
        assert tab.locator("#result video").first.evaluate(played) == pytest.approx(0.51, abs=0.2)
        tab.click("#grid")
        tab.wait_for_selector("#plane svg")
        with tab.expect_download() as download:
            tab.click("#download")
        download.value.save_as(folder / "got.zip")
        assert zipfile.ZipFile(folder / "got.zip").testzip() is None
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        assert not elsewhere
        browser.close()


def upload(tab, file):
    tab.set_input_files("#clip input[type=file]", str(file))
    tab.wait_for_selector(f'#clip :text("{file.stem}")')


def without_audio(video, out):
    import av

    with av.open(str(video)) as file, av.open(str(out), "w") as to:
        stream = to.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(file.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                to.mux(packet)
