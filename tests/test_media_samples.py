"""Real files of many kinds, some of them broken: each gives the clip that `ffmpeg` gives, or an error with the reason."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from avrobust.media import ClipSpec, MediaError, decode, probe, write_wav

SPEC = ClipSpec(seconds=1.0, rate=11025, fps=4, size=72, short="pad")

READABLE = [
    "activitynet_19p62fps.mp4",
    "bbb_1s_vp8_vorbis.webm",
    "bbb_5p1ch_aac.mp4",
    "chaplin_h264_mp3.mp4",
    "cockatoo_mp3_16k.mp4",
    "failing_audio.mp4",
    "fire2_vfr_2s.mp4",
    "grid_bbaf2n.mpg",
    "kinetics_R6llTwEh07w.mp4",
    "kinetics_WUzgd7C1pWA.mp4",
    "kinetics_pancake_opus.mkv",
    "nasa_13013_8khz.mp4",
    "no_duration_vp9_opus.webm",
    "realshort_48k.mp4",
    "truncated_moov_first.mp4",
    "ucf101_eyemakeup_mp3.avi",
    "vas_baby_22k.mp4",
    "vas_cough_15fps.mp4",
    "vggsound_dog_16k.mp4",
    "vggsound_portrait_576x720.mp4",
]
# Without sound; their picture is tried with a sound of ours.
SILENT = [
    "av1_noaudio.mkv",
    "corrupted.mp4",
    "hevc_noaudio.mp4",
    "hmdb51_bad_utf8_metadata.avi",
    "ucf101_soccer_noaudio.avi",
]
BROKEN = {"empty.mp4": "is empty (0 bytes)", "truncated_kinetics.mp4": "cannot be opened: moov atom not found"}

# What else must be said of a clip from the front.
NOTES = {
    "bbb_1s_vp8_vorbis.webm": ["silence for 0.003 s where the file has no audio"],
    "bbb_5p1ch_aac.mp4": ["audio mixed to mono from 6 channels", "audio resampled from 48000 Hz"],
    "fire2_vfr_2s.mp4": ["video rotated by 180 degrees clockwise", "silence for 0.155 s where the file has no audio"],
    "nasa_13013_8khz.mp4": ["audio of stream 4, one of 2", "video of stream 3, one of 2"],
    "no_duration_vp9_opus.webm": ["silence for 0.015 s where the file has no audio"],
}


@pytest.fixture(scope="module")
def samples(real_data) -> Path:
    return real_data / "media_samples"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * 11025)
    return write_wav(tmp_path_factory.mktemp("sound") / "noise.wav", noise, 11025)


@pytest.fixture(scope="module")
def ffmpeg() -> str:
    if not (found := shutil.which("ffmpeg")) or not shutil.which("ffprobe"):
        pytest.skip("the ffmpeg and ffprobe commands are not on this machine")
    return found


def test_every_sample_is_tried(samples):
    assert sorted(READABLE + SILENT + list(BROKEN)) == sorted(p.name for p in samples.iterdir() if p.suffix != ".md")


@pytest.mark.parametrize("name", READABLE)
def test_readable(samples, name):
    clip = decode(samples / name, SPEC)
    assert clip.wave.shape == (11025,) and clip.frames.shape == (4, 72, 72, 3)
    assert np.abs(clip.wave).max() <= 1 and np.isfinite(clip.wave).all()
    assert clip.frames.std() > 1 or name == "no_duration_vp9_opus.webm"  # it begins in the dark
    assert clip.wave.any() or name in ("no_duration_vp9_opus.webm", "cockatoo_mp3_16k.mp4")  # silent as they stand
    for note in NOTES.get(name, []):
        assert note in clip.notes


@pytest.mark.parametrize("name", SILENT)
def test_without_sound(samples, sound, name):
    with pytest.raises(MediaError, match=f"{name}: has no audio stream"):
        decode(samples / name, SPEC)
    clip = decode(samples / name, SPEC, audio=sound)
    assert clip.frames.std() > 1
    assert probe(samples / name).audio is None


@pytest.mark.parametrize("name", BROKEN)
def test_broken(samples, sound, name):
    for options in ({}, {"audio": sound}):
        with pytest.raises(MediaError) as caught:
            decode(samples / name, SPEC, **options)
        assert (caught.value.path, caught.value.reason) == (samples / name, BROKEN[name])
    with pytest.raises(MediaError):
        probe(samples / name)


def test_damaged_part(samples, sound):
    path = samples / "corrupted.mp4"  # one packet at 3.0 s cannot be decoded, and later frames build on it
    for start in (0.0, 1.0):
        decode(path, SPEC, audio=sound, start=start)
    with pytest.raises(MediaError, match=r"its video is damaged at .*\(Invalid data .*inside the clip"):
        decode(path, SPEC, audio=sound, start=2.5)


@pytest.mark.parametrize(("name", "start"), [("truncated_moov_first.mp4", start) for start in (0.0, 4.0, 7.5)])
def test_before_the_cut(samples, name, start):
    clip, clean = (decode(samples / n, SPEC, start=start) for n in (name, "activitynet_19p62fps.mp4"))
    assert (clip.wave == clean.wave).all() and (clip.frames == clean.frames).all()


@pytest.mark.parametrize("start", [8.5, 9.0, 9.2, 12.0])
def test_after_the_cut(samples, start):
    with pytest.raises(MediaError, match=r"its (audio|video) is damaged at 9\.\d+ s"):
        decode(samples / "truncated_moov_first.mp4", SPEC, start=start)


# ---- against the ffmpeg command -------------------------------------------------------------------------------


def run(*arguments: object) -> bytes:
    return subprocess.run([str(a) for a in arguments], capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout


def said(path: Path, *entries: object) -> list[str]:
    return run("ffprobe", "-v", "error", *entries, "-of", "csv=p=0", path).decode().replace(",", " ").split()


def beginning(path: Path) -> float:
    """The file's first moment on its own clock; a codec's priming, where it lies before 0, is not counted."""
    return float(said(path, "-show_entries", "format=start_time")[0])


def lag(a: np.ndarray, b: np.ndarray, rate: int) -> float:
    """Seconds by which `a` comes after `b`: where their correlation is largest, to a sixteenth of a sample."""
    n, fine = len(a), 16
    cross = np.fft.rfft(a, 2 * n) * np.conj(np.fft.rfft(b, 2 * n))
    best = int(np.fft.irfft(cross, 2 * n * fine).argmax())
    return (best - 2 * n * fine if best > n * fine else best) / fine / rate


@pytest.mark.parametrize("start", [0.0, 3.2])
@pytest.mark.parametrize("name", READABLE)
def test_sound_is_what_ffmpeg_gives(samples, ffmpeg, name, start):
    path = samples / name
    if start >= 1.0 and (probe(path).seconds or 5.0) < start + 1.0:
        pytest.skip("the file ends before")
    clip = decode(path, SPEC, start=start)
    # Gaps filled as timestamps tell (async), the better resampler of the two left to its defaults.
    gaps = "aresample=async=1:min_hard_comp=0.01:first_pts=0"
    raw = run(ffmpeg, "-v", "error", "-i", path, "-map", f"0:{probe(path).audio.index}", "-af", gaps, "-t", start + 2, "-ac", 1, "-ar", 11025, "-f", "s16le", "-")  # fmt: skip
    theirs = np.frombuffer(raw, np.int16) / 32768
    first = round((start - min(beginning(path), 0.0)) * 11025)
    theirs = theirs[first : first + 11025]
    ours = clip.wave[: len(theirs)]
    assert len(theirs) > 8000
    if not theirs.any():
        assert np.abs(ours).max() < 1e-3
        return
    assert abs(lag(ours, theirs, 11025)) < 1.1e-3
    overlap = np.abs(np.fft.rfft(ours) * np.conj(np.fft.rfft(theirs))).sum() / np.sqrt((np.abs(np.fft.rfft(ours)) ** 2).sum() * (np.abs(np.fft.rfft(theirs)) ** 2).sum())  # fmt: skip
    assert overlap > 0.97  # the same spectrum, whatever fraction of a sample lies between
    assert np.sqrt(np.mean(ours**2)) == pytest.approx(np.sqrt(np.mean(theirs**2)), rel=0.05)


@pytest.mark.parametrize("start", [0.0, 3.2])
@pytest.mark.parametrize("name", READABLE + SILENT)
def test_picture_is_what_ffmpeg_gives(samples, ffmpeg, sound, name, start):
    path, stream = samples / name, probe(samples / name).video
    stamps = said(
        path,
        "-read_intervals",
        f"%+{start + 2}",
        "-select_streams",
        stream.index,
        "-show_entries",
        "frame=best_effort_timestamp_time",
    )
    times = np.array([float(t) for t in stamps if t != "N/A"]) - max(beginning(path), 0.0)
    if start >= times[-1]:
        pytest.skip("the file ends before")
    try:
        clip = decode(path, SPEC, start=start, audio=sound)
    except MediaError as error:
        assert name == "corrupted.mp4" and start == 3.2 and "damaged" in str(error)
        return
    wanted = start + (np.arange(4) + 0.5) / 4
    shown = np.maximum(np.searchsorted(times, wanted + 1e-6, side="right") - 1, 0)
    short = "scale='if(gt(a,1),-1,72)':'if(gt(a,1),72,-1)':flags=bicubic+full_chroma_int+accurate_rnd,format=rgb24,crop=72:72"
    picked = "select='" + "+".join(f"eq(n,{n})" for n in sorted(set(shown))) + f"',{short}"
    raw = run(ffmpeg, "-v", "error", "-t", start + 2, "-i", path, "-map", f"0:{stream.index}", "-vf", picked, "-vsync", "passthrough", "-f", "rawvideo", "-")  # fmt: skip
    theirs = np.frombuffer(raw, np.uint8).reshape(-1, 72, 72, 3)[np.searchsorted(np.unique(shown), shown)]
    error = ((theirs.astype(float) - clip.frames) ** 2).mean(axis=(1, 2, 3))
    assert 10 * np.log10(255**2 / max(error.max(), 1e-3)) > 36
