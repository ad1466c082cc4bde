"""Small files of ours with seeded damage: each gives a clip with its sound, or an error that names it; nothing else."""

import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from avrobust.data.entry import ManifestError
from avrobust.data.source import Source
from avrobust.media import ClipSpec, MediaError, decode, probe, write_mp4, write_png, write_wav
from movies import FPS, RATE, mux, tone

SPEC = ClipSpec(seconds=0.5, rate=8000, fps=4, size=16)
SOUND = tone(440, 1.0) + 0.3 * tone(1000, 1.0)  # never quiet for longer than a tenth of a millisecond
PICTURES = np.random.default_rng(0).integers(0, 256, (FPS, 32, 48, 3)).astype(np.uint8)
EXTREMES = (0, 1, 2, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

# A clip in which so much of the source's sound is silent has to say so.  Codecs begin with some milliseconds of silence,
# which are much of a sound that is cut to a few and repeated.
SILENT = 0.3
SAYS = ("silence for", "audio padded", "audio is silent", "audio damaged", "audio: FFmpeg reports", "cut short")


def mutants(whole: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Copies of a file with bytes changed, numbers made extreme, parts zeroed, lost, repeated; half near its ends."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        data = bytearray(whole)
        edge = min(len(data), 2000)
        at = int(rng.integers(len(data)) if number % 2 else rng.choice([rng.integers(edge), len(data) - 1 - rng.integers(edge)]))  # fmt: skip
        size = int(2 ** rng.uniform(0, 9))
        kind = rng.integers(7)
        if kind == 0:
            for place in rng.integers(len(data), size=size // 16 + 1):
                data[place] ^= 1 << int(rng.integers(8))
        elif kind in (1, 2):
            form = "><"[int(rng.integers(2))] + "I"
            data[at : at + 4] = struct.pack(form, EXTREMES[int(rng.integers(len(EXTREMES)))])
        elif kind == 3:
            data[at : at + size] = bytes(len(data[at : at + size]))
        elif kind == 4:
            del data[at : at + size]
        elif kind == 5:
            data[at:at] = data[at : at + size]
        else:
            del data[at:]
        yield bytes(data)


def quiet(wave: np.ndarray) -> float:
    """The share of a sound's milliseconds that are silent."""
    blocks = np.abs(wave[: len(wave) // 8 * 8].reshape(-1, 8)).max(axis=1)
    return float((blocks < 1e-4).mean())


def bases(folder: Path) -> dict[str, Path]:
    """A file of each kind; sounds and pictures alone come with a whole partner."""
    return {
        "mp4": write_mp4(folder / "a.mp4", SOUND / 1.3, PICTURES, RATE, FPS),
        "mkv": mux(folder / "a.mkv", "ffv1", "flac", SOUND / 1.3, PICTURES),
        "webm": mux(folder / "a.webm", "libvpx", "libopus", tone(440, 1.0, 48000), PICTURES, rate=48000),
        "avi": mux(folder / "a.avi", "mpeg4", "libmp3lame", SOUND / 1.3, PICTURES),
        "ts": mux(folder / "a.ts", "libx264", "mp2", SOUND / 1.3, PICTURES),
        "wav": write_wav(folder / "a.wav", SOUND / 1.3, RATE),
        "png": write_png(folder / "a.png", PICTURES[0]),
    }


def tried(path: Path, whole: dict[str, Path]) -> str:
    """How a damaged file is taken: "read", "refused", or else what is wrong with it."""
    sound = whole["wav"] if path.suffix == ".png" else path if path.suffix == ".wav" else None
    video = whole["png"] if path.suffix == ".wav" else path
    began = time.thread_time()
    try:
        clip = decode(video, SPEC, audio=sound)
    except MediaError as error:
        return "refused" if str(path) in str(error) else f"does not name the file: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if (lasted := time.thread_time() - began) > 20:
        return f"took {lasted:.0f} s of computing"
    if not (np.isfinite(clip.wave).all() and np.abs(clip.wave).max() <= 1):
        return "its sound is out of range"
    if clip.wave.shape != (SPEC.samples,) or clip.frames.shape != (SPEC.frames, SPEC.size, SPEC.size, 3):
        return "its clip has another form"
    if (share := quiet(clip.wave)) > SILENT and not any(note.startswith(SAYS) for note in clip.notes):
        return f"{share:.0%} of its sound is silent, and nothing is said: {clip.notes}"
    return "read"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Path]:
    return bases(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "avi", "ts", "wav", "png"])
def test_damage_is_named_and_never_silence(tmp_path, whole, kind):
    assert tried(whole[kind], whole) == "read"
    outcomes = set()
    for number, data in enumerate(mutants(whole[kind].read_bytes(), 80, seed=15)):
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(data)
        outcomes.add(came := tried(path, whole))
        assert came in ("read", "refused"), f"mutant {number}"
        try:
            probe(path)
        except MediaError as error:
            assert str(path) in str(error)
    assert outcomes == {"read", "refused"}  # some damage matters, and some does not


def test_damaged_tables_are_named(tmp_path):
    rows = [f"clip{n},dog,train,v/{n}.mp4,{n}.5,{n + 1}.25,0 0 0.5 1" for n in range(4)]
    table = "\n".join(["id,label,split,video,start,end,box", *rows, "x,cat,test,w/x.mp4,,,"]).encode()
    outcomes = set()
    for number, data in enumerate(mutants(table, 300, seed=15)):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(data)
        try:
            manifest = Source(path).manifest()
        except ManifestError as error:
            assert str(path) in str(error)
            outcomes.add("refused")
        else:
            assert all(0 <= e.start < 1e7 and not e.video.is_absolute() for e in manifest.entries)
            outcomes.add("read")
    assert outcomes == {"refused", "read"}
