"""The procedural orchestra: real files, the same ones every time, whose sound and picture are what they say."""

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from avrobust.data.manifest import Manifest
from avrobust.data.orchestra import CLASSES, Orchestra, dataset, write
from avrobust.data.orchestra.audio import SOUNDS, perform, record
from avrobust.data.orchestra.brush import Brush
from avrobust.data.orchestra.difficulty import acoustics, looks
from avrobust.data.orchestra.instruments import DRAWINGS
from avrobust.data.orchestra.score import RANGES, Note, Pose, Score, compose
from avrobust.data.orchestra.video import cast, extent, film
from avrobust.media import ClipSpec, decode

RATE = 22050
SMALL = Orchestra(train=1, val=0, test=1, seconds=1.0, fps=4.0, size=64)
TIMES = (np.arange(8) + 0.5) / 8


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def held(pitch: float, seconds: float = 1.0, name: str = "flute") -> Score:
    """One long note."""
    return Score((Note(0.0, seconds, pitch, 1.0),), 0.5, *RANGES[name])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write(SMALL, tmp_path_factory.mktemp("data") / "small", workers=1, progress=False)


# ---- files


def test_every_class_has_a_file_in_its_own_folder_with_sound_and_picture(small: Manifest) -> None:
    assert small.classes == CLASSES == tuple(sorted(SOUNDS)) == tuple(sorted(DRAWINGS))
    assert {(e.label, e.split) for e in small.entries} == {(c, s) for c in CLASSES for s in ("train", "test")}
    assert all(e.video == Path(e.label) / f"{e.id}.mp4" for e in small.entries)
    clip = decode(small.root / small.entries[0].video, ClipSpec(seconds=1.0, rate=RATE, fps=4.0, size=64))
    assert clip.frames.shape == (4, 64, 64, 3) and clip.frames.std() > 10
    assert 0.1 < np.abs(clip.wave).max() <= 1


def test_the_table_says_what_is_in_the_clips(small: Manifest) -> None:
    assert Manifest.read(small.root / "manifest.csv", classes=CLASSES) == small
    for e in small.entries:
        silent = e.extra.get("silent", "").split(";") if "silent" in e.extra else []
        assert e.box is not None and e.label not in silent
        assert len(silent) == len(set(silent)) and (e.extra["rival"] == "0" or silent)
        assert e.extra["carries"] == "both"


def test_the_same_values_give_the_same_bytes_whoever_makes_them(small: Manifest, tmp_path: Path) -> None:
    again = write(SMALL, tmp_path / "small", workers=2, progress=False)
    assert again.entries == small.entries
    for e in small.entries:
        assert (again.root / e.video).read_bytes() == (small.root / e.video).read_bytes()


ANOTHER_CPU = """
import ctypes, sys
from pathlib import Path
import av
from avrobust.data.orchestra import write
from test_orchestra import SMALL
for library in Path(av.__file__).parent.with_name("av.libs").glob("libavutil*"):  # plain C in FFmpeg too
    ctypes.CDLL(str(library)).av_force_cpu_flags(0)
write(SMALL, Path(sys.argv[1]), workers=1, progress=False)
"""


def test_another_kind_of_cpu_makes_the_same_bytes(small: Manifest, tmp_path: Path) -> None:
    """One without the instructions that NumPy, the C library and FFmpeg would choose here; x264 has tests of its own."""
    numpy = pytest.importorskip("numpy._core._multiarray_umath")
    chosen = [name for name in numpy.__cpu_dispatch__ if numpy.__cpu_features__[name]]
    older = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(chosen),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])),
    }
    subprocess.run([sys.executable, "-c", ANOTHER_CPU, str(tmp_path / "there")], env=os.environ | older, check=True)
    for e in small.entries:
        assert (tmp_path / "there" / e.video).read_bytes() == (small.root / e.video).read_bytes(), e.id


def test_another_seed_gives_other_clips_and_more_test_clips_leave_the_others_alone(tmp_path: Path) -> None:
    one = Orchestra(train=1, val=0, test=0, seconds=0.5, fps=2.0, size=32)
    job = next(iter(dataset._jobs(one)))
    first, other, more = (
        dataset.make(o, tmp_path / str(i), job) for i, o in enumerate((one, replace(one, seed=1), replace(one, test=3)))
    )
    assert first.box != other.box and first.box == more.box
    files = [(tmp_path / str(i) / job.path).read_bytes() for i in range(3)]
    assert files[0] == files[2] != files[1]


def test_a_second_run_makes_only_what_is_missing(small: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = small.root / small.entries[3].video
    bytes_before = lost.read_bytes()
    made = []
    real = dataset.write_mp4
    monkeypatch.setattr(dataset, "write_mp4", lambda path, *a, **k: made.append(path) or real(path, *a, **k))
    assert write(SMALL, small.root, workers=1, progress=False) == small and not made
    lost.unlink()
    assert write(SMALL, small.root, workers=1, progress=False) == small and made == [lost]
    assert lost.read_bytes() == bytes_before


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = replace(SMALL, test=0, seconds=0.5)
    real = dataset.write_mp4

    def stop_at_the_fifth(path, *args, **keywords):  # type: ignore[no-untyped-def]
        if len(list(tmp_path.rglob("*.mp4"))) == 4:
            raise KeyboardInterrupt
        return real(path, *args, **keywords)

    monkeypatch.setattr(dataset, "write_mp4", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        write(tiny, tmp_path / "o", workers=1, progress=False)
    assert not (tmp_path / "o" / "manifest.csv").exists()
    monkeypatch.setattr(dataset, "write_mp4", real)
    assert len(write(tiny, tmp_path / "o", workers=1, progress=False)) == 11
    assert len(list(tmp_path.rglob("*.mp4"))) == 11


def test_a_folder_of_something_else_is_refused(small: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"orchestra with rivals=0.1, got one with rivals={SMALL.rivals}"):
        write(replace(SMALL, rivals=0.1), small.root)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="got other files"):
        write(SMALL, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    assert json.loads((small.root / "orchestra.json").read_text())["rivals"] == SMALL.rivals


@pytest.mark.parametrize(
    "wrong",
    (
        {"rivals": 1.2},
        {"shared": -0.1},
        {"train": 0, "val": 0, "test": 0},
        {"val": -1},
        {"rate": 1000},
        {"size": 63},
        {"fps": 0.0},
        {"seconds": 0.1},
        {"audio_difficulty": float("nan")},
    ),
)
def test_impossible_values_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Orchestra(**wrong)  # type: ignore[arg-type]


def test_difficulties_go_through_the_middle_and_up() -> None:
    assert looks(0.25).furniture == pytest.approx((looks(0.0).furniture + looks(0.5).furniture) / 2)
    for easy, hard in ((0.0, 0.4), (0.4, 0.7), (0.7, 1.0)):
        assert all(getattr(looks(easy), f.name) < getattr(looks(hard), f.name) for f in fields(looks(0.0)))
        assert acoustics(easy).snr_db > acoustics(hard).snr_db and acoustics(easy).others < acoustics(hard).others


# ---- sound


def partials(wave: np.ndarray, hz: float, count: int = 8) -> np.ndarray:
    """How strong the first harmonics of `hz` are, from the middle of a second of sound."""
    middle = wave[RATE // 4 : 3 * RATE // 4] * np.hanning(RATE // 2)
    spectrum = np.abs(np.fft.rfft(middle))
    return np.array([spectrum[int(k * hz / 2) - 4 : int(k * hz / 2) + 5].max() for k in range(1, count + 1)])


@pytest.mark.parametrize("name", CLASSES)
def test_instruments_play_the_note_that_stands_in_the_score(name: str) -> None:
    low, high = RANGES[name]
    pitch = (low + high) // 2
    wave = perform(name, held(pitch, 1.0, name), RATE, RATE, rng(1))
    assert wave.dtype == np.float32 and np.sqrt(np.mean(wave**2)) == pytest.approx(1, rel=1e-4)
    spectrum = np.abs(np.fft.rfft(wave[: RATE // 2]))
    hz = 440 * 2 ** ((pitch - 69) / 12)
    bins = np.arange(len(spectrum)) * 2.0  # Hz
    near = np.zeros(len(spectrum), bool)
    for k in range(1, 13):
        near |= np.abs(bins - k * hz) < 0.02 * k * hz + 4
    assert np.sum(spectrum[near] ** 2) > 0.5 * np.sum(spectrum**2)


def test_a_clarinet_sounds_odd_harmonics_and_a_saxophone_all() -> None:
    def even_to_odd(name: str) -> float:
        p = partials(perform(name, held(57, 1.0, name), RATE, RATE, rng()), 220.0)
        return float(p[1:6:2].sum() / p[0:6:2].sum())

    assert even_to_odd("clarinet") < 0.2 < 0.5 < even_to_odd("saxophone")


def test_brass_is_brighter_when_loud_and_plucked_and_struck_notes_die() -> None:
    def centroid(loud: float) -> float:
        score = Score((Note(0.0, 1.0, 60, loud),), 0.5, *RANGES["trumpet"])
        p = partials(perform("trumpet", score, RATE, RATE, rng()), 261.63, 12)
        return float((p * np.arange(1, 13)).sum() / p.sum())

    assert centroid(1.0) > centroid(0.4) + 0.3
    for name in ("acoustic_guitar", "xylophone"):
        wave = perform(name, held(69, 1.0, name), RATE, RATE, rng())
        assert wave[: RATE // 4].std() > 4 * wave[-RATE // 4 :].std()
    sung = perform("violin", held(69, 1.0, "violin"), RATE, RATE, rng())
    assert 0.5 < sung[RATE // 4 : RATE // 2].std() / sung[RATE // 2 : 3 * RATE // 4].std() < 2


def test_the_recording_keeps_the_levels_it_was_asked_for() -> None:
    player = perform("violin", held(69, 1.0, "violin"), RATE, RATE, rng())
    kept = {"other": None, "below_db": 0.0, "room_s": 0.05, "tilt_db": 0.0, "rate": RATE}
    clean = record(player, **kept, snr_db=60.0, peak=0.5, rng=rng(3))  # type: ignore[arg-type]
    noisy = record(player, **kept, snr_db=-20.0, peak=0.5, rng=rng(3))  # type: ignore[arg-type]
    assert np.abs(clean).max() == pytest.approx(0.5) == pytest.approx(np.abs(noisy).max())

    def heard(wave: np.ndarray) -> float:
        return abs(float(np.corrcoef(wave, clean)[0, 1]))

    assert heard(noisy) < 0.2 < 0.9 < heard(record(player, **kept, snr_db=20.0, peak=0.9, rng=rng(3)))  # type: ignore[arg-type]


# ---- score and picture


@pytest.mark.parametrize("name", CLASSES)
def test_melodies_stay_in_the_instruments_range_and_in_time(name: str) -> None:
    for seed in range(20):
        score = compose(name, 2.5, rng(seed))
        low, high = RANGES[name]
        assert all(low <= n.pitch <= high and 0 <= n.start_s < 2.5 for n in score.notes)
        assert all(
            a.start_s + a.seconds <= b.start_s + 1e-9 for a, b in zip(score.notes, score.notes[1:], strict=False)
        )
        assert score.notes[0].start_s < 0.1


def test_the_pose_follows_the_notes() -> None:
    score = Score((Note(0.0, 0.5, 62, 1.0), Note(0.5, 0.5, 91, 1.0)), 0.5, 62, 91)
    assert score.pose(0.0).hit == 1 and score.pose(0.45).hit < 0.05 and score.pose(0.5).hit == 1
    assert score.pose(0.2).finger == 0 and score.pose(0.7).finger == 1
    assert score.pose(0.0).bow == 1 and score.pose(0.499).bow < 0.01 < 0.99 < score.pose(0.999).bow


@pytest.mark.parametrize("name", CLASSES)
def test_drawings_fill_their_square_and_move_with_the_pose(name: str) -> None:
    poses = [Pose(bow, finger, hit, 0.0) for bow, finger, hit in ((0, 0, 1), (1, 1, 0), (0.5, 0.5, 0.5))]
    pictures, bounds = [], []
    for pose in poses:
        image = Image.new("RGB", (150, 150))
        matrix = np.array([[50.0, 0, 75], [0, 50.0, 75]])
        DRAWINGS[name](Brush(ImageDraw.Draw(image), matrix), pose)
        nowhere = Brush(None, matrix)
        DRAWINGS[name](nowhere, pose)
        drawn = image.getbbox()
        assert drawn is not None and np.abs(np.array(drawn) - nowhere.bounds()).max() < 4
        pictures.append(np.asarray(image).copy())
        bounds.append(nowhere.bounds())
    x0, y0, x1, y1 = (np.array(bounds).T - 75) / 50
    longest = max(x1.max() - x0.min(), y1.max() - y0.min())
    assert 1.85 < longest < 2.15 and np.abs([x0, y0, x1, y1]).max() < 1.15
    assert (pictures[0] != pictures[1]).any() and (pictures[0] != pictures[2]).any()


def test_only_the_player_moves_and_only_within_its_box() -> None:
    for seed in range(4):
        actors, player = cast("cello", compose("cello", 1.0, rng(seed)), 1.0, True, looks(0.5), rng(seed))
        box = extent(actors[player], TIMES)
        frames = film(actors, player, box, False, TIMES, 64, looks(0.5), rng(seed)).astype(int)
        ys, xs = np.nonzero(np.ptp(frames, axis=0).max(-1))
        assert len(xs) > 20
        x0, y0, x1, y1 = np.array(box) * 64
        assert xs.min() >= x0 - 3 and xs.max() <= x1 + 3 and ys.min() >= y0 - 3 and ys.max() <= y1 + 3


def test_a_rival_is_as_large_as_the_player_and_stands_anywhere_the_player_could() -> None:
    sizes, xs, ys, front = [], [], [], []
    for seed in range(400):
        actors, player = cast("tuba", compose("tuba", 1.0, rng(seed)), 1.0, True, looks(0.5), rng(seed))
        rival = next(a for a in actors[::-1] if a.still_s is not None)
        assert len({a.name for a in actors}) == len(actors) and actors[player].name == "tuba"
        sizes.append(rival.size / actors[player].size)
        xs.append(rival.x - actors[player].x)
        ys.append(rival.y - actors[player].y)
        front.append(actors[-1] is rival)
    assert 0.9 <= min(sizes) < 0.95 < 1.05 < max(sizes) <= 1.1
    for differences in (np.log(sizes), xs, ys, np.array(front) - 0.5):  # no side is the player's side
        assert abs(np.mean(differences)) < 3.5 * np.std(differences) / 20
    alone = [cast("tuba", compose("tuba", 1.0, rng(s)), 1.0, False, looks(0.5), rng(s)) for s in range(50)]
    assert all(a.size < 0.62 * actors[player].size for actors, player in alone for a in actors if a.still_s is not None)


def test_silent_poses_come_from_where_playing_poses_come_from() -> None:
    """One frame does not tell who plays: both show a random moment of a random melody."""
    playing, silent = [], []
    for seed in range(300):
        score = compose("violin", 2.5, rng(seed))
        playing.append(score.pose(float(rng(seed + 1000).uniform(0, 2.5))))
        actors, _ = cast("cello", score, 2.5, True, looks(0.5), rng(seed))
        silent += [a.pose(0.0) for a in actors if a.still_s is not None]
        assert all(a.pose(0.0) == a.pose(1.7) for a in actors if a.still_s is not None)
    for field in ("bow", "finger", "hit", "sway"):
        a, b = ([getattr(p, field) for p in poses] for poses in (playing, silent))
        assert abs(np.mean(a) - np.mean(b)) < 4 * np.hypot(np.std(a) / np.sqrt(len(a)), np.std(b) / np.sqrt(len(b)))


def test_what_is_not_shared_is_hidden_or_buried(tmp_path: Path) -> None:
    lonely = Orchestra(train=2, val=0, test=0, shared=0.0, rivals=1.0, seconds=0.5, fps=4.0, size=64)
    entries = write(lonely, tmp_path / "o", workers=1, progress=False).entries
    assert {e.extra["carries"] for e in entries} == {"audio", "visual"}
    assert all(e.extra["rival"] == "0" for e in entries if e.extra["carries"] == "visual")
    actors, player = cast("cello", compose("cello", 1.0, rng()), 1.0, False, looks(0.0), rng())
    box = extent(actors[player], TIMES)
    behind = film(actors, player, box, True, TIMES, 64, looks(0.0), rng())
    assert (behind == behind[0]).all()  # nothing of what moves is seen
