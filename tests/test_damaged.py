"""Files that declare what no file holds: each is its own failure, named, at once; nothing is made up from them."""

import errno
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from avrobust.data.entry import Entry
from avrobust.data.manifest import Manifest
from avrobust.data.prepare import prepare
from avrobust.media import (
    ClipSpec,
    MediaError,
    decode,
    errors,
    probe,
    reader,
    write_mp4,
    write_png,
    write_wav,
)
from avrobust.media.ffmpeg_log import logged_errors
from movies import FPS, RATE, clicks_and_flashes, grey, mux, tone

SPEC = ClipSpec(seconds=1.0, rate=11025, fps=5, size=32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Two seconds of sound and picture."""
    noise = np.random.default_rng(0).integers(0, 256, (2 * FPS, 48, 64, 3)).astype(np.uint8)
    return write_mp4(tmp_path_factory.mktemp("whole") / "whole.mp4", tone(440, 2.0), noise, RATE, FPS)


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    return write_png(tmp_path_factory.mktemp("photo") / "photo.png", grey([90])[0])


def patched(path: Path, source: Path, *changes: tuple[int, bytes]) -> Path:
    """A copy of a file with some bytes overwritten."""
    data = bytearray(source.read_bytes())
    for at, new in changes:
        data[at : at + len(new)] = new
    path.write_bytes(data)
    return path


def boxes(source: Path, name: bytes) -> list[int]:
    """Where the contents of an mp4's boxes of that name begin."""
    data, found, at = source.read_bytes(), [], 0
    while (at := data.find(name, at)) >= 0:
        found.append(at + 4)
        at += 4
    return found


def clock(path: Path, source: Path, *, track: int, delta: int) -> Path:
    """A copy whose track's frames last `delta` ticks each; track 0 is the picture, 1 the sound."""
    at = boxes(source, b"stts")[track]
    (entries,) = struct.unpack(">I", source.read_bytes()[at + 4 : at + 8])
    return patched(path, source, *((at + 12 + 8 * n, struct.pack(">I", delta)) for n in range(entries)))


@pytest.mark.parametrize("rate", [0, 1, 100, 999, 800_000, 2**31 - 1, 2**32 - 1])
def test_rates_that_no_sound_has(tmp_path, photo, rate):
    wav = write_wav(tmp_path / "whole.wav", tone(440, 1.0), RATE)
    path = patched(tmp_path / "a.wav", wav, (24, struct.pack("<I", rate)))
    with pytest.raises(MediaError, match=r"a\.wav"):
        decode(photo, SPEC, audio=path)


@pytest.mark.parametrize("rate", [1000, 192_000, 768_000])
def test_rates_that_some_sounds_have(tmp_path, photo, rate):
    path = write_wav(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, rate), rate)
    assert decode(photo, SPEC, audio=path).wave.std() > 0.01


@pytest.mark.parametrize(("wide", "high"), [(1, 2**31 - 1), (2**31 - 1, 1), (1, 1000), (10_000, 1)])
def test_pixels_of_a_shape_that_no_picture_has(tmp_path, wide, high):
    anamorphic = mux(tmp_path / "b.mp4", "libx264", "aac", tone(440, 1.0), grey([90] * FPS), aspect=2)
    assert decode(anamorphic, SPEC).frames.any()
    (at,) = boxes(anamorphic, b"pasp")
    path = patched(tmp_path / "a.mp4", anamorphic, (at, struct.pack(">II", wide, high)))
    with pytest.raises(MediaError, match=r"a\.mp4: its (pixels|frames|video)"):
        decode(path, SPEC)
    assert probe(path).video is None


def test_pictures_of_a_shape_or_size_that_none_has(tmp_path, whole):
    wide = write_png(tmp_path / "wide.png", np.zeros((8, 8000, 3), np.uint8))
    with pytest.raises(MediaError, match=r"wide\.png: its frames have an aspect ratio of 1000"):
        decode(wide, SPEC, audio=whole)
    panorama = write_png(tmp_path / "panorama.png", np.full((20, 600, 3), 90, np.uint8))
    assert decode(panorama, SPEC, audio=whole).frames.mean() == 90
    large = patched(tmp_path / "large.png", panorama, (16, struct.pack(">II", 60_000, 50_000)))
    with pytest.raises(MediaError, match=r"large\.png"):
        decode(large, SPEC, audio=whole)


@pytest.mark.parametrize("delta", [0, 1, 8, 128, 512, 700, 1500, 4096, 2**20, 2**31 - 1, 2**32 - 1])
def test_a_damaged_clock_makes_up_no_sound(tmp_path, whole, delta):
    path = clock(tmp_path / "a.mp4", whole, track=1, delta=delta)
    try:
        clip = decode(path, SPEC)
    except MediaError as error:
        assert str(path) in str(error)
    else:  # what is made up for is bounded, and said
        assert (np.abs(clip.wave) > 0).mean() > 0.5
        assert any(note.startswith(("silence for", "audio tiled")) for note in clip.notes)


@pytest.mark.parametrize("delta", [0, 1, 2**20, 2**31 - 1, 2**32 - 1])
def test_a_damaged_clock_of_the_picture(tmp_path, whole, delta):
    path = clock(tmp_path / "a.mp4", whole, track=0, delta=delta)
    try:
        notes = decode(path, SPEC).notes
    except MediaError as error:
        assert str(path) in str(error)
    else:
        assert any(
            note.startswith(("last frame repeated", "video has no new frame", "video shows one frame", "video begins"))
            for note in notes
        )


def test_sound_that_begins_at_the_end_of_a_clip_is_none(tmp_path):
    wave, frames = clicks_and_flashes(2)
    path = mux(tmp_path / "late.mkv", "libx264", "flac", wave, frames, late=0.98)
    with pytest.raises(MediaError, match=r"has 0\.020 s of audio inside the clip of 1 s, expected at least 5%"):
        decode(path, SPEC)


def test_a_table_that_asks_for_all_memory_is_the_files_fault(tmp_path, whole, monkeypatch):
    at = boxes(whole, b"stts")[1]
    path = patched(tmp_path / "a.mp4", whole, (at + 4, struct.pack(">I", 2**31 - 1)))
    with pytest.raises(MediaError, match=r"a\.mp4: cannot be opened: "):
        decode(path, SPEC)
    monkeypatch.setattr(errors, "short_of_memory", lambda: True)  # then it may be the machine's
    try:
        decode(path, SPEC)
    except OSError as error:
        assert (error.errno, error.filename) == (errno.ENOMEM, str(path))
    except MediaError:
        pass  # FFmpeg found the damage before it asked


@pytest.mark.parametrize("fault", [OverflowError, ZeroDivisionError, IndexError, RuntimeError, MemoryError])
def test_whatever_a_file_causes_is_its_failure(whole, monkeypatch, fault):
    def breaks(*arguments):
        raise fault("beyond")

    monkeypatch.setattr(reader, "check_frame", breaks)
    with pytest.raises(MediaError, match=r"whole\.mp4"):
        decode(whole, SPEC)


def test_a_file_has_a_limit_of_computing(whole, monkeypatch):
    monkeypatch.setattr(reader, "COMPUTING", -1.0)
    with pytest.raises(MediaError, match=r"whole\.mp4: its audio takes more than -1 s of computing"):
        decode(whole, SPEC)


def test_what_ffmpeg_reports_is_noted(tmp_path, whole):
    assert not any("FFmpeg reports" in note for note in decode(whole, SPEC).notes)
    at = boxes(whole, b"mdhd")[0] + 12
    notes = decode(patched(tmp_path / "a.mp4", whole, (at, b"\xff" * 4)), SPEC).notes
    assert "video: FFmpeg reports 'Invalid mdhd time scale -1, defaulting to 1'" in notes


def test_one_bad_file_stops_nothing(tmp_path, whole):
    patched(tmp_path / "good.mp4", whole)
    anamorphic = mux(tmp_path / "b.mp4", "libx264", "aac", tone(440, 1.0), grey([90] * FPS), aspect=2)
    patched(tmp_path / "pixels.mp4", anamorphic, (boxes(anamorphic, b"pasp")[0], struct.pack(">II", 1, 2**31 - 1)))
    clock(tmp_path / "clock.mp4", whole, track=1, delta=1)
    names = ("pixels", "clock", "good")
    manifest = Manifest(tmp_path, tuple(Entry(name, "dog", "train", Path(f"{name}.mp4")) for name in names))
    for _ in range(2):  # and the second run says the same
        store = prepare(manifest, SPEC, tmp_path / "out", workers=1, progress=False)
        assert store.ids() == ("good",)
        assert [id for id, _, _ in store.failures] == ["pixels", "clock"]


def test_real_damaged_files(real_data):
    folder = real_data / "media_damaged"
    says = {
        "pasp_1_2147483647.mp4": r"its pixels have an aspect ratio of 1:2147483647",
        "pcmrate_1.mkv": r"its audio has 1 Hz",
        "419_stts_n__bbaf2n.mp4": r"cannot be opened",
        "433_stts_delta__bbaf3s.mp4": r"has 0\.003 s of audio inside the clip of 1 s",
    }
    for name, reason in says.items():
        with pytest.raises(MediaError, match=f"{name}: {reason}"):
            decode(folder / name, SPEC)
    for table, reason in (("start_1e15", "line 2: expected 0 <= start"), ("nul_path", "line 2: expected a path")):
        with pytest.raises(ValueError, match=rf"{table}\.csv {reason}"):
            Manifest.read(folder / f"{table}.csv")


def test_ffmpeg_stays_quiet_beside_a_reader_that_listens(tmp_path, whole, caplog):
    broken = patched(tmp_path / "a.mp4", whole, (boxes(whole, b"mdhd")[0] + 12, b"\xff" * 4))
    with logged_errors() as said, ThreadPoolExecutor(1) as beside:
        assert beside.submit(lambda: av.open(str(broken)).close()).result() is None
    assert said == []
    assert not caplog.records  # which would be printed
    with logged_errors() as said:
        av.open(str(broken)).close()
    assert said == ["Invalid mdhd time scale -1, defaulting to 1"]
