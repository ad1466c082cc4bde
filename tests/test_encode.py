"""Arrays become files and come back."""

import io
import wave as riff
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation
from PIL import Image

from avrobust.media import (
    ClipSpec,
    encode,
    encode_mp4,
    encode_png,
    encode_wav,
    write_mp4,
    write_png,
    write_wav,
)
from movies import FPS, RATE, clicks_and_flashes, grey, tone

CAREFUL = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
SOUND = tone(440, 1.0, 11025)
NOISE = np.random.default_rng(0).integers(0, 256, (4, 36, 50, 3)).astype(np.uint8)


def smooth(frames: int, height: int, width: int) -> np.ndarray:
    """Pictures that a codec can carry: colours that change slowly over the frame."""
    y, x, t = np.mgrid[0:height, 0:width, 0:frames].transpose(0, 3, 1, 2)
    return np.stack([np.sin(x / 9 + t / 3), np.cos(y / 7), np.sin((x + y) / 11 + t / 5)], axis=-1) / 2.5 + 0.5


def read(data: bytes) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Frames, samples, frame rate and sample rate of an mp4, by PyAV alone."""
    with av.open(io.BytesIO(data)) as file:
        frames = np.stack([f.to_ndarray(format="rgb24", interpolation=CAREFUL) for f in file.decode(video=0)])
        fps = float(file.streams.video[0].average_rate)
    with av.open(io.BytesIO(data)) as file:
        samples = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)])
        return frames, samples, fps, file.streams.audio[0].rate


def test_mp4_keeps_picture_and_sound():
    shown = smooth(8, 48, 64)
    frames, samples, fps, rate = read(encode_mp4(SOUND, shown, 11025, 8.0))
    assert (frames.shape, fps, rate) == ((8, 48, 64, 3), 8.0, 11025)
    difference = frames - np.round(shown * 255)
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 36
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 0.5  # no colour cast
    error = samples[: len(SOUND)] - SOUND
    assert 10 * np.log10(np.mean(SOUND**2) / np.mean(error**2)) > 25


def test_mp4_same_input_same_bytes():
    assert encode_mp4(SOUND, NOISE, 11025, 4) == encode_mp4(SOUND.copy(), NOISE.copy(), 11025, 4)


def test_mp4_same_bytes_in_hundreds_of_calls():
    shown = smooth(8, 48, 64) + np.random.default_rng(0).normal(0, 0.05, (8, 48, 64, 3))
    made = {encode_mp4(SOUND, shown.clip(0, 1), 11025, 4) for _ in range(300)}
    assert len(made) == 1


def test_mp4_same_bytes_on_every_cpu(monkeypatch: pytest.MonkeyPatch):
    shown = (smooth(8, 48, 64) + np.random.default_rng(0).normal(0, 0.05, (8, 48, 64, 3))).clip(0, 1)
    here = encode_mp4(SOUND, shown, 11025, 4)
    for other in ("0", "sse2"):  # x264's code in plain C, and for a CPU of 2001
        monkeypatch.setattr(encode, "X264", f"{encode.X264.split(':')[0]}:asm={other}")
        assert encode_mp4(SOUND, shown, 11025, 4) == here, other


def test_mp4_floats_are_rounded():
    assert encode_mp4(SOUND, NOISE / 255, 11025, 4) == encode_mp4(SOUND, NOISE, 11025, 4)


def test_mp4_odd_sides_repeat_their_edge():
    frames, *_ = read(encode_mp4(SOUND, grey([200] * 2, 33, 47), 11025, 2))
    assert frames.shape == (2, 34, 48, 3)
    assert np.abs(frames.astype(int) - 200).max() <= 3


def test_mp4_keeps_a_rational_rate():
    *_, fps, _ = read(encode_mp4(SOUND, NOISE, 11025, 30000 / 1001))
    assert fps == pytest.approx(30000 / 1001, rel=1e-6)


def test_mp4_better_quality_is_larger():
    sizes = [len(encode_mp4(SOUND, NOISE, 11025, 4, crf=crf)) for crf in (5, 20, 40)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wave": np.array([0.0, 1.5])}, r"lie in \[-1, 1\].*1.5"),
        ({"wave": np.array([0.0, np.nan])}, r"lie in \[-1, 1\].*nan"),
        ({"wave": np.zeros((2, 8))}, r"shape \(n,\).*\(2, 8\)"),
        ({"wave": np.zeros(0)}, r"n > 0"),
        ({"wave": np.zeros(8, np.int16)}, "floating.*int16"),
        ({"frames": np.zeros((2, 3, 8, 8))}, r"\(t, h, w, 3\).*\(2, 3, 8, 8\)"),
        ({"frames": np.zeros((0, 8, 8, 3))}, "none of them 0"),
        ({"frames": np.full((2, 8, 8, 3), 255.0)}, r"\[0, 1\].*255"),
        ({"frames": np.full((2, 8, 8, 3), -0.1)}, r"\[0, 1\].*-0.1"),
        ({"frames": np.full((2, 8, 8, 3), np.nan)}, r"\[0, 1\].*nan"),
        ({"frames": np.zeros((2, 8, 8, 3), np.int64)}, "uint8.*int64"),
        ({"rate": 11000}, "11025.*got 11000"),
        ({"fps": 0.0}, "positive.*0.0"),
    ],
    ids=str,
)
def test_mp4_refuses(change, message):
    good = {"wave": SOUND, "frames": NOISE, "rate": 11025, "fps": 4.0}
    with pytest.raises(ValueError, match=message):
        encode_mp4(**(good | change))


def test_png_is_exact():
    assert (np.asarray(Image.open(io.BytesIO(encode_png(NOISE[0])))) == NOISE[0]).all()
    assert encode_png(NOISE[0] / 255.0) == encode_png(NOISE[0])


def test_wav_rounds_to_16_bits():
    wave = np.linspace(-1, 1, 4001)
    with riff.open(io.BytesIO(encode_wav(wave, 8000))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        stored = np.frombuffer(file.readframes(-1), "<i2")
    assert (stored == np.clip(np.round(wave * 32768), -32768, 32767)).all()


def test_writers_write_what_the_encoders_encode(tmp_path: Path):
    wave, frames = clicks_and_flashes(1)
    assert write_mp4(tmp_path / "a.mp4", wave, frames, RATE, FPS).read_bytes() == encode_mp4(wave, frames, RATE, FPS)
    assert write_wav(tmp_path / "a.wav", wave, RATE).read_bytes() == encode_wav(wave, RATE)
    assert write_png(tmp_path / "a.png", frames[0]).read_bytes() == encode_png(frames[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "a.png", "a.wav"]


@pytest.mark.parametrize(
    "wrong", [{"seconds": 0.0}, {"rate": -1}, {"fps": float("inf")}, {"size": 0}, {"seconds": 1e-6}]
)
def test_a_spec_holds_something(wrong):
    with pytest.raises(ValueError, match="should"):
        ClipSpec(**wrong)


def untyped(**given: Any) -> ClipSpec:
    """A spec as a user makes it, whose types nobody checks."""
    spec = object.__new__(ClipSpec)
    for name, value in (asdict(ClipSpec()) | given).items():
        object.__setattr__(spec, name, value)
    spec.__post_init__()
    return spec


def test_a_spec_takes_numbers_of_any_kind():
    spec = untyped(
        seconds=np.float32(1.5), rate=np.int64(8000), fps=Fraction(30000, 1001), size=32.0, video_track=np.int32(1)
    )
    assert spec == ClipSpec(1.5, 8000, 30000 / 1001, 32, video_track=1)
    assert [type(getattr(spec, name)) for name in ("seconds", "rate", "fps", "size", "video_track")] == [
        float,
        int,
        float,
        int,
        int,
    ]
    assert type(untyped(fps=4).fps) is int  # as it was given, which a digest of it depends on
    for wrong in ({"size": 32.5}, {"rate": "8000"}, {"audio_track": 0.5}):
        with pytest.raises(ValueError, match="should be"):
            untyped(**wrong)


def test_a_spec_counts():
    assert (ClipSpec(seconds=5.944, rate=11025).samples, ClipSpec(seconds=0.1, fps=1).frames) == (65533, 1)
