"""Files of decoded clips: Arrow streams of one record batch, written once and read through a memory map.

With one batch, a mapped file is two arrays: all waveforms and all frames.  Audio is float32, bit for bit as decoded: 16
bits would need a third less disk at 11 kHz and four frames a second, but a conversion at every access.
"""

import errno
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from avrobust.files import draft
from avrobust.media import ClipSpec
from avrobust.media.decode import Clip

PATTERN = "clips-*.arrow"


class StoreError(ValueError):
    """A folder of prepared clips that cannot be read or written: what was expected, what came, what to do."""


class Shard(NamedTuple):
    """One mapped file: row `i` of each array and of the table is one clip."""

    waves: NDArray[np.float32]  # (clips, n)
    frames: NDArray[np.uint8]  # (clips, t, h, w, 3)
    about: pa.RecordBatch  # key, digest, window, notes


def clip_bytes(spec: ClipSpec) -> int:
    """The size of a prepared clip on disk, in bytes.

    >>> clip_bytes(ClipSpec(seconds=1.0, rate=1000, fps=2, size=10))
    4600
    """
    return 4 * spec.samples + 3 * spec.frames * spec.size**2


def read_shard(path: Path, spec: ClipSpec) -> Shard:
    """A file of clips, memory-mapped: data are read when they are used.  Raises StoreError for a damaged file."""
    try:
        batch = pa.ipc.open_stream(pa.memory_map(str(path))).read_next_batch()
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(
            f"{path}: expected a file of prepared clips, got: {error}. Prepare again; files that are whole are kept."
        ) from None
    waves, frames = (batch.column(name).values.to_numpy(zero_copy_only=True) for name in ("wave", "frames"))
    shape = (len(batch), spec.frames, spec.size, spec.size, 3)
    return Shard(waves.reshape(len(batch), spec.samples), frames.reshape(shape), batch.drop_columns(["wave", "frames"]))


def write_shard(folder: Path, clips: Sequence[tuple[str, Clip]]) -> None:
    """Write a new file of clips and their keys, whole or not at all.  Raises StoreError on a full disk.

    The file is named by the keys, so that two runs into one folder never overwrite each other's clips.
    """
    keys = [key for key, _ in clips]
    waves, frames = np.stack([clip.wave for _, clip in clips]), np.stack([clip.frames for _, clip in clips])
    batch = pa.record_batch(
        {
            "key": keys,
            "digest": [content(clip) for _, clip in clips],
            "window": pa.array([clip.window for _, clip in clips], pa.list_(pa.float64())),
            "notes": pa.array([clip.notes for _, clip in clips], pa.list_(pa.string())),
            "wave": _rows(waves),
            "frames": _rows(frames),
        }
    )
    name = PATTERN.replace("*", hashlib.blake2b("".join(keys).encode(), digest_size=8).hexdigest())
    try:
        with (
            draft(folder / name) as part,
            pa.OSFile(str(part), "wb") as file,
            pa.ipc.new_stream(file, batch.schema) as stream,
        ):
            stream.write_batch(batch)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreError(
            f"{folder}: expected {batch.nbytes / 1e6:.0f} MB of free disk, got a full disk. Free some and prepare again; clips "
            "written before are kept."
        ) from None


def content(clip: Clip) -> str:
    """A hash of a clip's samples and pixels, whatever file they came from."""
    return hashlib.blake2b(clip.wave.tobytes() + clip.frames.tobytes(), digest_size=16).hexdigest()


def _rows(arrays: NDArray[np.float32] | NDArray[np.uint8]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(arrays.reshape(-1)), arrays[0].size)
