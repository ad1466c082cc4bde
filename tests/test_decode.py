"""Files that we write, with contents that we know, come back as the right clips; bad ones as named errors."""

import pickle
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.io import wavfile

from avrobust.media import ClipSpec, MediaError, decode, encode_mp4, probe, write_mp4, write_png, write_wav
from avrobust.media.reader import Reader
from movies import FPS, RATE, clicks_and_flashes, grey, mux, peak, tone, white

SECOND = ClipSpec(seconds=1.0, rate=11025, fps=FPS, size=32)


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> Path:
    """Seven seconds with a click at each half second, and a flash that begins 20 ms after it."""
    return write_mp4(tmp_path_factory.mktemp("events") / "events.mp4", *clicks_and_flashes(7), RATE, FPS)


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    return write_png(tmp_path_factory.mktemp("photo") / "100%d [1].png", noise)


def hear(wave: np.ndarray, photo: Path, spec: ClipSpec, rate: int = RATE, **kw):
    """The clip of a sound in its own file."""
    path = write_wav(photo.parent / "sound.wav", wave, rate, float32=True)
    return decode(photo, spec, audio=path, **kw)


def test_opening_passes_what_every_pyav_takes(events, monkeypatch):
    real = av.open

    def of_pyav_19(file, mode=None, format=None, options=None, container_options=None, buffer_size=32768, timeout=None, io_open=None, hwaccel=None):  # fmt: skip
        return real(file, mode, format, options, container_options, buffer_size=buffer_size, timeout=timeout)

    monkeypatch.setattr(av, "open", of_pyav_19)
    assert decode(events, SECOND).frames.any()
    assert encode_mp4(tone(440, 0.1), grey([90] * 2), RATE, FPS)


def test_a_title_in_another_encoding_is_no_obstacle(tmp_path, events):
    path = mux(tmp_path / "a.avi", "mpeg4", "libmp3lame", tone(440, 1.0), grey([90] * 25), title="Mueckenflug")
    path.write_bytes(path.read_bytes().replace(b"Mueckenflug", b"M\xfcckenfluug"))
    assert decode(path, SECOND).frames.any()
    assert probe(path).audio.codec.startswith("mp3")


# ---- time -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0.0, 0.04, 0.4, 1.0, 2.2, 3.48, 5.0, 6.0])
def test_sound_and_picture_stay_together(events, start):
    clip = decode(events, SECOND, start=start)
    click = start + peak(clip.wave, SECOND.rate)
    assert click % 1 == pytest.approx(0.5, abs=1e-3)
    flash = start + white(clip.frames) / FPS  # each frame is on for 1 / FPS
    assert np.abs(np.sort((flash + 0.48) % 1) - [0, 1 / FPS]).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "video", "audio", "delay"),
    [
        ("a.mkv", "libx264", "aac", 0.024),  # an AAC encoder's delay, which Matroska does not tell
        ("a.mov", "libx264", "pcm_s16le", 0.001),
        ("a.webm", "libvpx", "libopus", 0.002),
        ("a.avi", "mpeg4", "libmp3lame", 0.026),
        ("a.ts", "libx264", "mp2", 0.012),
        ("a.mpg", "mpeg2video", "mp2", 0.012),
        ("a.mkv", "ffv1", "flac", 0.001),
    ],
)
@pytest.mark.parametrize("start", [0.0, 4.2])
def test_containers_and_codecs(tmp_path, name, video, audio, delay, start):
    rate = 48000 if audio == "libopus" else RATE
    wave, frames = clicks_and_flashes(6)
    wave = np.interp(np.arange(6 * rate) / rate, np.arange(len(wave)) / RATE, wave)
    path = mux(tmp_path / name, video, audio, wave, frames, rate=rate)
    clip = decode(path, SECOND, start=start)
    click = (start + peak(clip.wave, SECOND.rate)) % 1
    flash = (start + white(clip.frames).min() / FPS) % 1
    assert click == pytest.approx(0.5 + delay / 2, abs=delay / 2 + 1e-3)
    coarse = name.endswith("mpg")  # FFmpeg writes no time for some of its frames, and guesses when it reads
    assert flash == pytest.approx(0.52, abs=(2.01 if coarse else 1.01) / FPS)
    assert probe(path).audio.rate == rate


def test_any_start_gives_the_same_as_reading_from_the_front(events):
    spec = ClipSpec(seconds=6.5, rate=11025, fps=FPS, size=32)
    whole = decode(events, spec)
    for start in (0.6, 1.6, 3.2, 5.4):  # whole numbers of samples and frames
        part = decode(events, SECOND, start=start)
        first = round(start * 11025)
        assert np.abs(part.wave - whole.wave[first : first + 11025]).max() < 0.01
        assert (part.frames == whole.frames[round(start * FPS) :][:FPS]).all()


@pytest.mark.parametrize(
    ("name", "video", "audio", "exact"),
    [
        ("a.mp4", "libx264", "aac", True),
        ("a.mkv", "libx264", "libmp3lame", True),
        (
            "a.ts",
            "libx264",
            "mp2",
            False,
        ),  # FFmpeg's mp2 decoder carries its rounding from frame to frame: 1.2 of 32768
        ("a.mpg", "mpeg2video", "mp2", True),
    ],
)
def test_a_clip_far_inside_a_file_is_the_same_without_decoding_what_is_before(
    tmp_path, monkeypatch, name, video, audio, exact
):
    rng = np.random.default_rng(0)
    frames = np.repeat(grey(rng.integers(0, 256, 40)), FPS, axis=0)  # 40 s; a keyframe each 18 s, and B-frames between
    frames[np.arange(len(frames)), 0, np.arange(len(frames)) % 64] = 255
    options = (
        {"sc_threshold": "0", "bf": "3", "b_strategy": "0", "preset": "ultrafast"}
        if video == "libx264"
        else {"bf": "2"}
    )
    path = mux(tmp_path / name, video, audio, rng.normal(0, 0.1, 40 * RATE), frames, gop=18 * FPS, options=options)
    counts = Counter()
    real = Reader._decode

    def counted(reader, packet):
        decoded, reason = real(reader, packet)
        counts[reader.kind] += len(decoded)
        return decoded, reason

    monkeypatch.setattr(Reader, "_decode", counted)
    part = decode(path, SECOND, start=38.3)
    assert counts["video"] < 6 * FPS
    monkeypatch.setattr("avrobust.media.reader.LEADS", {"audio": (), "video": ()})
    monkeypatch.setattr(Reader, "_from_keyframe", lambda reader, at: reader._packets())
    counts.clear()
    whole = decode(path, SECOND, start=38.3)
    assert counts["video"] > 35 * FPS
    assert (part.frames == whole.frames).all()
    assert np.abs(part.wave - whole.wave).max() <= (0 if exact else 1e-4)


def test_variable_frame_rate_shows_what_is_on(tmp_path):
    times = [0.0, 0.1, 0.15, 0.62, 0.63, 0.9, 1.4]
    levels = [20, 50, 80, 110, 140, 170, 200]
    path = mux(tmp_path / "v.mkv", "libx264", "aac", tone(440, 2.0), grey(levels), times=times, options={"crf": "5"})
    clip = decode(path, ClipSpec(seconds=1.4, fps=10, size=48))
    middles = (np.arange(14) + 0.5) / 10
    expected = np.array(levels)[np.searchsorted(times, middles + 1e-6, side="right") - 1]
    assert np.abs(clip.frames.mean(axis=(1, 2, 3)) - expected).max() < 4


def test_a_dropped_frame_is_no_damage(tmp_path):
    """Theora, and what records slowly, write a packet without data where the frame before it stays."""
    path = tmp_path / "dropped.nut"
    with av.open(path, "w") as out:
        video = out.add_stream("mjpeg", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p"
        for number, pixels in enumerate(grey(range(0, 240, 20))):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            for packet in video.encode(frame):
                kept = av.Packet(packet if number % 3 == 0 else b"")
                kept.pts, kept.dts, kept.time_base, kept.stream = packet.pts, packet.dts, packet.time_base, video
                out.mux(kept)
    sound = write_wav(tmp_path / "sound.wav", tone(440, 1.2), RATE)
    clip = decode(path, ClipSpec(seconds=1.2, fps=10, size=16), audio=sound)
    assert np.abs(clip.frames.mean((1, 2, 3)) - np.repeat([0, 60, 120, 180], 3)).max() < 3
    assert not any("damaged" in note for note in clip.notes)


def test_a_frame_that_begins_at_the_wanted_time_is_shown(tmp_path):
    path = mux(tmp_path / "v.mkv", "libx264", "aac", tone(440, 1.0), grey([20, 220] * 12), options={"crf": "5"})
    clip = decode(path, ClipSpec(seconds=0.4, fps=12.5, size=48))  # at 0.04, 0.12, ...: where frames 1, 3, ... begin
    assert clip.frames.mean(axis=(1, 2, 3)).min() > 200


def test_late_sound_is_silent_until_it_begins(tmp_path):
    wave, frames = clicks_and_flashes(2)
    path = mux(tmp_path / "late.mkv", "libx264", "flac", wave, frames, late=0.2)
    clip = decode(path, SECOND)
    assert peak(clip.wave, SECOND.rate) == pytest.approx(0.7, abs=2e-3)
    assert not clip.wave[: round(0.19 * SECOND.rate)].any()
    assert "silence for 0.200 s where the file has no audio" in clip.notes


def test_a_short_gap_in_the_sound_is_silence(tmp_path):
    wave, frames = clicks_and_flashes(2)
    path = mux(tmp_path / "gap.mkv", "libx264", "flac", wave, frames, gap=(0.2, 0.3))
    clip = decode(path, SECOND)
    assert peak(clip.wave, SECOND.rate) == pytest.approx(0.8, abs=2e-3)
    assert any(note.startswith("silence for 0.3") for note in clip.notes)


def test_a_long_gap_in_the_sound_is_lost_data(tmp_path):
    path = mux(tmp_path / "gap.mkv", "libx264", "flac", tone(440, 3.0), grey([90] * 75), gap=(0.2, 2.0))
    with pytest.raises(MediaError, match=r"gap.mkv: 0\.\d+ s of audio is missing inside the clip"):
        decode(path, SECOND)
    with pytest.raises(MediaError, match="its audio begins after the clip from 1 s to 2 s"):
        decode(path, SECOND, start=1.0)


def test_late_picture_stands_in_for_what_lacks(tmp_path):
    times = [0.5 + i / 25 for i in range(25)]
    path = mux(tmp_path / "late.mkv", "libx264", "flac", tone(440, 2.0), grey(range(100, 125)), times=times)
    clip = decode(path, ClipSpec(seconds=1.0, fps=4, size=32))
    assert np.abs(clip.frames.mean(axis=(1, 2, 3)) - [100, 100, 103, 109]).max() < 3
    assert any("video begins 0.500 s late" in note for note in clip.notes)


# ---- sound ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "rate"), [(44100, 11025), (48000, 11025), (8000, 11025), (22050, 16000)])
def test_resampling_keeps_frequency_level_and_phase(photo, source, rate):
    clip = hear(tone(1000, 1.0, source), photo, ClipSpec(seconds=1.0, rate=rate, fps=1), source)
    middle = slice(500, -500)
    assert np.abs(clip.wave - tone(1000, 1.0, rate))[middle].max() < 2e-4
    assert f"audio resampled from {source} Hz" in clip.notes


@pytest.mark.parametrize("hertz", [5800, 7000, 12000, 20000])
def test_what_lies_above_the_new_nyquist_frequency_vanishes(photo, hertz):
    clip = hear(tone(hertz, 1.0), photo, ClipSpec(seconds=1.0, rate=11025, fps=1))
    assert np.abs(clip.wave[200:-200]).max() < 0.5 * 10 ** (-80 / 20)


def test_the_new_rate_is_used_to_nine_tenths(photo):
    hertz = 0.9 * 11025 / 2
    clip = hear(tone(hertz, 1.0), photo, ClipSpec(seconds=1.0, rate=11025, fps=1))
    assert np.abs(clip.wave - tone(hertz, 1.0, 11025))[200:-200].max() < 5e-3


@pytest.mark.parametrize("channels", [2, 3, 4, 6, 8])
def test_mono_of_any_layout_stays_in_range(tmp_path, photo, channels):
    wave = np.tile(0.98 * tone(440, 1.0, 11025)[:, None] * 2, (1, channels)).astype(np.float32)
    wavfile.write(tmp_path / "many.wav", 11025, wave)
    clip = decode(photo, ClipSpec(seconds=1.0, fps=1), audio=tmp_path / "many.wav")
    assert 0.9 < np.abs(clip.wave).max() <= 0.981
    assert f"audio mixed to mono from {channels} channels" in clip.notes


def test_stereo_becomes_its_mean(tmp_path, photo):
    left, right = tone(440, 1.0, 11025), tone(700, 1.0, 11025)
    wavfile.write(tmp_path / "two.wav", 11025, np.stack([left, right], axis=1).astype(np.float32))
    clip = decode(photo, ClipSpec(seconds=1.0, fps=1), audio=tmp_path / "two.wav")
    assert np.abs(clip.wave - (left + right) / 2).max() < 1e-6


def many(tmp_path: Path, photo: Path, *channels: np.ndarray, **spec):
    """The clip of channels in one file."""
    wavfile.write(tmp_path / "many.wav", 11025, np.stack(channels, axis=1).astype(np.float32))
    return decode(photo, ClipSpec(seconds=1.0, fps=1, **spec), audio=tmp_path / "many.wav")


LEFT, RIGHT, QUIET = tone(440, 1.0, 11025), tone(700, 1.0, 11025), np.zeros(11025)


@pytest.mark.parametrize(
    ("channels", "heard"),
    [
        ((LEFT, -LEFT), 0),
        ((0.8 * LEFT, -LEFT), 1),
        ((LEFT, -LEFT, QUIET, QUIET, QUIET, QUIET), 0),
        ((QUIET, QUIET, QUIET, LEFT, QUIET, QUIET), 3),  # in the bass effects channel alone
    ],
    ids=["opposite", "nearly", "surround", "bass"],
)
def test_channels_that_cancel_do_not_become_silence(tmp_path, photo, channels, heard):
    clip = many(tmp_path, photo, *channels)
    assert np.abs(clip.wave - channels[heard]).max() < 1e-6
    said = f"audio of channel {heard + 1} of {len(channels)}, the loudest, because the channels cancel when mixed"
    assert said in clip.notes


@pytest.mark.parametrize("channels", [(LEFT, RIGHT), (LEFT, QUIET), (QUIET, QUIET), (LEFT, -0.4 * LEFT)])
def test_channels_that_do_not_cancel_are_mixed(tmp_path, photo, channels):
    clip = many(tmp_path, photo, *channels)
    assert np.abs(clip.wave - sum(channels) / 2).max() < 1e-6
    assert "audio mixed to mono from 2 channels" in clip.notes


@pytest.mark.parametrize("name", ["a.m4a", "a.flac", "a.mka", "a.wav"])
def test_eight_channels_of_every_codec(tmp_path, photo, name):
    codec = {"m4a": "aac", "flac": "flac", "mka": "libopus", "wav": "pcm_s16le"}[name[2:]]
    wave = tone(441, 2.0, 48000)
    with av.open(str(tmp_path / name), "w", format="ipod" if name == "a.m4a" else None) as out:
        stream = out.add_stream(codec, rate=48000, layout="7.1")
        frame = av.AudioFrame.from_ndarray(np.repeat(wave, 8)[None].astype(np.float32), "flt", "7.1")
        frame.sample_rate = 48000
        size = stream.codec_context.frame_size or 1024
        for part in av.AudioResampler(stream.codec_context.format, "7.1", 48000, frame_size=size).resample(frame):
            out.mux(stream.encode(part))
        out.mux(stream.encode())
    clip = decode(photo, ClipSpec(seconds=1.0, fps=1), audio=tmp_path / name)
    assert np.abs(clip.wave).max() == pytest.approx(0.5, abs=0.1)  # AAC and Opus make the bass channel's share anew
    assert "audio mixed to mono from 8 channels" in clip.notes


@pytest.mark.parametrize(("mono", "heard"), [("left", 0), ("right", 1), ("loudest", 1)])
def test_one_channel_can_be_chosen(tmp_path, photo, mono, heard):
    clip = many(tmp_path, photo, 0.5 * LEFT, RIGHT, mono=mono)
    assert np.abs(clip.wave - (0.5 * LEFT, RIGHT)[heard]).max() < 1e-6
    assert f"audio of channel {heard + 1} of 2" in clip.notes


def test_wav_of_16_bits_comes_back_within_half_a_step(photo):
    wave = np.random.default_rng(0).uniform(-0.99, 0.99, 11025)
    path = write_wav(photo.parent / "pcm.wav", wave, 11025)
    clip = decode(photo, ClipSpec(seconds=1.0, fps=1), audio=path)
    assert np.abs(clip.wave - wave).max() <= 0.5 / 32768 + 1e-7
    assert write_wav(photo.parent / "again.wav", clip.wave, 11025).read_bytes() == path.read_bytes()


def test_wav_of_floats_is_exact(photo):
    wave = np.random.default_rng(0).uniform(-1, 1, 11025).astype(np.float32)
    assert (hear(wave, photo, ClipSpec(seconds=1.0, fps=1), 11025).wave == wave).all()


def test_louder_than_full_scale_is_clipped_and_said(tmp_path, photo):
    wavfile.write(tmp_path / "loud.wav", 11025, (3 * tone(440, 1.0, 11025)).astype(np.float32))
    clip = decode(photo, ClipSpec(seconds=1.0, fps=1), audio=tmp_path / "loud.wav")
    assert np.abs(clip.wave).max() == 1
    assert "audio clipped to [-1, 1], its peak was 1.500" in clip.notes


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg", "m4a"])
def test_sound_files(tmp_path, photo, suffix):
    codec = {"flac": "flac", "mp3": "libmp3lame", "ogg": "libopus", "m4a": "aac"}[suffix]
    container = "ipod" if suffix == "m4a" else None
    wave, frames = clicks_and_flashes(4)
    rate = RATE
    if suffix == "ogg":
        rate = 48000
        wave = np.interp(np.arange(4 * rate) / rate, np.arange(len(wave)) / RATE, wave)
    path = mux(tmp_path / f"a.{suffix}", None, codec, wave, frames, container=container, rate=rate)
    for start in (0.0, 3.0):
        clip = decode(photo, ClipSpec(seconds=1.0, fps=1), audio=path, start=start)
        assert peak(clip.wave, 11025) == pytest.approx(0.5, abs=1e-3)


# ---- short ----------------------------------------------------------------------------------------------------


def test_short_sound_is_tiled(photo):
    wave = tone(441, 0.5, 11025).astype(np.float32)
    clip = hear(wave, photo, ClipSpec(seconds=1.2, fps=1, short="tile"), 11025)
    assert (clip.wave == np.resize(wave, 13230)).all()
    assert "audio tiled from 0.500 s" in clip.notes


def test_short_sound_is_padded(photo):
    wave = tone(441, 0.5, 11025).astype(np.float32)
    clip = hear(wave, photo, ClipSpec(seconds=1.0, fps=1, short="pad"), 11025)
    assert (clip.wave[: len(wave)] == wave).all() and not clip.wave[len(wave) :].any()
    assert "audio padded with silence from 0.500 s" in clip.notes


def test_short_sound_is_refused(photo):
    with pytest.raises(MediaError, match=r"sound\.wav: its audio lasts 0\.500 s, expected the clip's 1 s\. Choose"):
        hear(tone(441, 0.5, 11025), photo, ClipSpec(seconds=1.0, fps=1, short="error"), 11025)


def test_a_sound_of_just_the_length_is_not_short(photo):
    clip = hear(tone(441, 1.0, 48000), photo, ClipSpec(seconds=1.0, rate=11025, fps=1, short="error"), 48000)
    assert len(clip.wave) == 11025


def test_short_picture_is_held(tmp_path):
    path = write_mp4(tmp_path / "a.mp4", tone(440, 2.0), grey(range(50, 75)), RATE, FPS)
    clip = decode(path, ClipSpec(seconds=2.0, fps=4, size=32))
    assert np.abs(clip.frames[4:].mean(axis=(1, 2, 3)) - 74).max() < 2
    assert "last frame repeated from 1.000 s" in clip.notes


def test_end_cuts_sound_and_picture(tmp_path):
    path = write_mp4(tmp_path / "a.mp4", tone(441, 2.0), grey(range(50, 100)), RATE, FPS)
    clip = decode(path, ClipSpec(seconds=1.0, fps=FPS, size=32, short="pad"), start=0.4, end=0.8)
    assert np.abs(clip.frames.mean(axis=(1, 2, 3)) - np.minimum(np.arange(60, 85), 69)).max() < 2
    assert clip.wave[: round(0.4 * 11025)].std() > 0.3 and not clip.wave[round(0.4 * 11025) :].any()
    assert clip.notes[0] == "cut at 0.8 s"


# ---- picture --------------------------------------------------------------------------------------------------


def test_png_is_exact_and_holds(photo):
    clip = hear(tone(440, 2.0), photo, ClipSpec(seconds=2.0, fps=3, size=32), start=0.0)
    original = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    assert clip.frames.shape == (6, 32, 32, 3) and (clip.frames == original).all()
    assert "still image" in clip.notes and clip.window == (0, 0, 1, 1)


def test_still_picture_has_no_time(photo):
    assert len(hear(tone(440, 9.0), photo, ClipSpec(seconds=1.0, fps=3, size=32), start=7.0).frames) == 3


def corners(height: int = 96, width: int = 160) -> np.ndarray:
    """Red, green, blue, white: left above, right above, left below, right below."""
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    return np.repeat(colours.repeat(height // 2, axis=0).repeat(width // 2, axis=1)[None], 10, axis=0)


def names(frame: np.ndarray) -> str:
    """The colours in the four corners, row by row."""
    n = len(frame)
    seen = [frame[y, x] for y in (n // 8, -n // 8) for x in (n // 8, -n // 8)]
    return "".join("w" if p.min() > 128 else "rgb"[int(p.argmax())] for p in seen)


# What `ffmpeg` shows for the same files.
@pytest.mark.parametrize(
    ("turn", "seen", "note"),
    [
        (None, "rgbw", ""),
        ((90, False, False), "gwrb", "video rotated by 270 degrees clockwise"),
        ((-90, False, False), "brwg", "video rotated by 90 degrees clockwise"),
        ((180, False, False), "wbgr", "video rotated by 180 degrees clockwise"),
        ((0, True, False), "grwb", "video mirrored"),
        ((0, False, True), "bwrg", "video mirrored"),
    ],
    ids=str,
)
def test_pictures_stand_upright(tmp_path, turn, seen, note):
    path = mux(tmp_path / "a.mp4", "libx264", "aac", tone(440, 1.0), corners(), turn=turn)
    clip = decode(path, ClipSpec(seconds=0.4, fps=5, size=32))
    assert names(clip.frames[0]) == seen
    assert not note or note in clip.notes
    x0, y0, x1, y1 = clip.window
    sideways = turn is not None and turn[0] in (90, -90)
    shape = probe(path).video
    assert (shape.width, shape.height) == ((96, 160) if sideways else (160, 96))
    assert ((x0, x1) if sideways else (y0, y1)) == (0, 1)
    assert ((y0 + y1) if sideways else (x0 + x1)) == pytest.approx(1, abs=0.02)
    assert ((y1 - y0) if sideways else (x1 - x0)) == pytest.approx(96 / 160, abs=0.01)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_as_their_exif_says(tmp_path, orientation):
    """As Pillow turns them."""
    photo, exif = Image.fromarray(corners()[0]), Image.Exif()
    exif[0x112] = orientation
    photo.save(tmp_path / "a.jpg", exif=exif, quality=95)
    sound = write_wav(tmp_path / "a.wav", tone(440, 0.5), RATE)
    clip = decode(tmp_path / "a.jpg", ClipSpec(seconds=0.4, fps=5, size=32, fit="stretch"), audio=sound)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))
    assert names(clip.frames[0]) == names(np.asarray(upright.resize((32, 32))))
    assert ("video mirrored" in clip.notes) == (orientation in (2, 4, 5, 7))
    shape = probe(tmp_path / "a.jpg").video
    assert (shape.width, shape.height) == upright.size


def test_window_is_what_is_kept(tmp_path):
    frames = grey([100] * 10, 96, 160)
    frames[:, :, 75:85] = 255  # 0.5 of the width, wherever the cut is
    path = mux(tmp_path / "a.mp4", "libx264", "aac", tone(440, 1.0), frames)
    for fit in ("crop", "stretch"):
        clip = decode(path, ClipSpec(seconds=0.4, fps=5, size=48, fit=fit))
        bright = np.flatnonzero(clip.frames[0].mean(axis=(0, 2)) > 170)
        x0, _, x1, _ = clip.window
        assert x0 + (bright.mean() + 0.5) / 48 * (x1 - x0) == pytest.approx(0.5, abs=0.01)
    assert clip.window == (0, 0, 1, 1)


def hdr(nits: np.ndarray, trc: int) -> np.ndarray:
    """The signal of linear light: ITU-R BT.2100, tables 4 and 5; the gamma of HLG colour by colour."""
    if trc == 16:
        power = (nits / 10_000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    scene = (nits / 1000) ** (1 / 1.2)
    above = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), above)


@pytest.mark.parametrize(("trc", "name"), [(16, "smpte2084"), (18, "arib-std-b67"), (14, None)])
def test_hdr_and_wide_gamut_look_as_on_an_ordinary_screen(tmp_path, trc, name):
    y, x = np.mgrid[0:64, 0:64] / 64
    shown = np.stack([x, y, (x + y) / 2], axis=-1) * 0.6 + 0.3  # below the knee, which begins at 0.957
    bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    light = shown**2.4 @ bt2020.T
    signal = hdr(203 * light, trc) if name else light ** (1 / 2.4)
    frame = av.VideoFrame.from_ndarray(np.round(signal * 65535).astype(np.uint16), "rgb48le").reformat(
        format="gbrp10le"
    )
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=1, width=64, height=64, pix_fmt="gbrp10le")
        stream.color_trc, stream.color_primaries = trc, 9
        out.mux([*stream.encode(frame), *stream.encode()])
    sound = write_wav(tmp_path / "a.wav", tone(440, 1.0), RATE)
    clip = decode(tmp_path / "a.mkv", ClipSpec(seconds=1.0, fps=1, size=64), audio=sound)
    assert np.abs(clip.frames[0] - shown * 255).max() < 3  # 10 bits are coarse where a colour is darker than the others
    assert np.abs(clip.frames[0] - shown * 255).mean() < 0.6
    assert "video rounded from 10 to 8 bits per colour" in clip.notes
    said = f"HDR ({name}), tone-mapped to BT.709" if name else "wide gamut (BT.2020), converted to BT.709"
    assert said in clip.notes


def test_pixels_that_are_not_square_are_shown_so(tmp_path):
    path = mux(tmp_path / "a.mkv", "libx264", "flac", tone(440, 1.0), corners(96, 96), aspect=Fraction(2))
    clip = decode(path, ClipSpec(seconds=0.4, fps=5, size=32))
    assert clip.window == (0.25, 0, 0.75, 1)
    assert "video widened by 2.000, the aspect ratio of its pixels" in clip.notes


# ---- bad input ------------------------------------------------------------------------------------------------


def test_errors_name_file_reason_and_remedy(tmp_path, events, photo):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "note.txt").write_text("not a film\n" * 50)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "half.mp4").write_bytes(events.read_bytes()[: events.stat().st_size // 4])
    silent = mux(tmp_path / "silent.mp4", "libx264", None, np.zeros(1), grey([90] * 25))
    heard = write_wav(tmp_path / "heard.wav", tone(440, 9.0), RATE)
    cases = [
        (tmp_path / "none.mp4", {}, "does not exist"),
        (tmp_path, {}, "is a folder"),
        (Path("/dev/null"), {}, "is not a file"),
        (tmp_path / "empty.mp4", {}, "is empty"),
        (tmp_path / "note.txt", {}, "is text"),
        (tmp_path / "noise.mp4", {}, "cannot be opened"),
        (tmp_path / "half.mp4", {}, "moov atom not found"),
        (silent, {}, "has no audio stream"),
        (heard, {}, "has no video stream"),
        (events, {"start": 20.0}, "its audio ends at 7.01 s, before the clip from 20 s"),
        (events, {"start": 8.0, "audio": heard}, "its video ends at 7.00 s, before the clip from 8 s"),
        (events, {"start": -1.0}, "0 <= start < end, got -1.0 s to None s"),
        (events, {"start": float("nan")}, "got nan s to None s"),
        (events, {"start": 2.0, "end": 2.0}, "got 2.0 s to 2.0 s"),
        (photo, {}, "has no audio stream"),
    ]
    for path, options, reason in cases:
        with pytest.raises(MediaError) as caught:
            decode(path, SECOND, **options)
        error = caught.value
        assert str(error).startswith(f"{path}: ") and reason in error.reason and error.path == path
        assert error.advice.endswith(".") and str(error).endswith(error.advice)


def test_numbers_that_are_none(tmp_path, photo):
    wave = tone(440, 1.0, 11025).astype(np.float32)
    wave[5000] = np.nan
    wavfile.write(tmp_path / "nan.wav", 11025, wave)
    with pytest.raises(MediaError, match="not numbers"):
        decode(photo, SECOND, audio=tmp_path / "nan.wav")


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(MediaError(Path("a.mp4"), "is empty", "Fetch it.")))
    assert (str(error), error.path) == ("a.mp4: is empty. Fetch it.", Path("a.mp4"))


def packets(path: Path, kind: str) -> list[tuple[float, int, int]]:
    """(seconds, position, size) of a stream's packets."""
    with av.open(str(path)) as file:
        stream = file.streams.best(kind)
        return [(float(p.pts * p.time_base), p.pos, p.size) for p in file.demux(stream) if p.size]


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_damage_within_the_clip_is_an_error_and_elsewhere_is_none(events, tmp_path, kind):
    data = bytearray(events.read_bytes())
    for seconds, position, size in packets(events, kind):
        if 4.0 <= seconds < 4.3:
            data[position : position + size] = bytes(size)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    for start in (0.0, 2.6):
        clip, clean = decode(path, SECOND, start=start), decode(events, SECOND, start=start)
        assert (clip.wave == clean.wave).all() and (clip.frames == clean.frames).all()
    with pytest.raises(MediaError, match=rf"damaged.mp4: its {kind} is damaged at (3\.9|4).*inside the clip"):
        decode(path, SECOND, start=3.6)


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
def test_files_cut_short(tmp_path, name):
    wave, frames = clicks_and_flashes(6)
    path = mux(tmp_path / name, "mpeg4", "libmp3lame", wave, frames)
    clean = decode(path, SECOND)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    clip = decode(path, SECOND)
    assert (clip.frames == clean.frames).all() and np.abs(clip.wave - clean.wave).max() < 1e-3
    for start in np.arange(2.0, 5.0, 0.25):  # never a clip that only seems short
        try:
            clip = decode(path, SECOND, start=float(start))
        except MediaError as error:
            assert str(path) in str(error)
        else:
            assert not any("tiled" in note or "repeated" in note for note in clip.notes)


def test_the_best_of_several_streams_is_said(tmp_path, events):
    path = tmp_path / "two.mkv"
    with av.open(str(events)) as source, av.open(str(path), "w") as out:
        sound, picture = source.streams.audio[0], source.streams.video[0]
        copies = {s.index: [out.add_stream_from_template(s) for _ in range(2)] for s in (sound, picture)}
        for packet in source.demux(sound, picture):
            if packet.size:
                for copy in copies[packet.stream.index]:
                    twin = av.Packet(bytes(packet))
                    twin.pts, twin.dts, twin.time_base, twin.is_keyframe = (
                        packet.pts,
                        packet.dts,
                        packet.time_base,
                        packet.is_keyframe,
                    )
                    twin.stream = copy
                    out.mux(twin)
    notes = decode(path, SECOND).notes
    assert any(n.startswith("audio of stream") and n.endswith("of 2") for n in notes)
    assert any(n.startswith("video of stream") and n.endswith("of 2") for n in notes)


def test_every_track_can_be_reached(tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("ffv1", rate=FPS, width=64, height=48, pix_fmt="yuv420p") for _ in range(2)]
        streams += [out.add_stream("flac", rate=11025, layout="mono") for _ in range(2)]
        streams[3].metadata["language"] = "fra"
        for stream, level in zip(streams[:2], (60, 180), strict=True):
            for number, pixels in enumerate(grey([level] * FPS)):
                frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        for stream, wave in zip(streams[2:], (LEFT, RIGHT), strict=True):
            frame = av.AudioFrame.from_ndarray(np.round(wave[None] * 32767).astype(np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 11025, 0, Fraction(1, 11025)
            out.mux(stream.encode(frame))
            out.mux(stream.encode())
    for track, wave, level in ((0, LEFT, 60), (1, RIGHT, 180)):
        clip = decode(path, replace(SECOND, audio_track=track, video_track=track))
        assert np.abs(clip.wave - wave).max() < 1e-4
        assert abs(clip.frames.mean() - level) < 3
        assert f"audio of stream {2 + track}, one of 2" in clip.notes
    with pytest.raises(MediaError, match=r"two.mkv: has no audio track 2, but 0: flac; 1: flac fra. Choose one"):
        decode(path, replace(SECOND, audio_track=2))
    with pytest.raises(MediaError, match="has no video track 2, but 0: ffv1; 1: ffv1"):
        decode(path, replace(SECOND, video_track=2))


def test_probe(events, photo):
    seen = probe(events)
    assert (seen.path, seen.seconds) == (events, 7.0)
    assert (seen.audio.codec, seen.audio.rate, seen.audio.channels) == ("aac", RATE, 1)
    assert (seen.video.codec, seen.video.width, seen.video.height, seen.video.fps, seen.video.still) == (
        "h264",
        64,
        48,
        25,
        False,
    )
    seen = probe(photo)
    assert (seen.audio, seen.video.still, seen.video.fps, seen.video.width) == (None, True, None, 32)
