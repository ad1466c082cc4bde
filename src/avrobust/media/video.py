"""The video of a clip: the frames that a player shows at given times, upright, square, RGB."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

from avrobust.media import hdr
from avrobust.media.errors import CHOOSE, CONVERT, DOWNLOAD, MediaError, media_errors
from avrobust.media.ffmpeg_log import logged_errors
from avrobust.media.reader import TICK, Damage, Decoded, Reader
from avrobust.media.spec import ClipSpec

Frames = UInt8[np.ndarray, "t h w 3"]
Square = UInt8[np.ndarray, "h w 3"]
Window = tuple[float, float, float, float]  # x0 y0 x1 y1 in [0, 1] of the upright frame
Matrix = tuple[float, float, float, float]
# Exif's eight orientations, of which 2, 4, 5 and 7 are mirrored.
EXIF: dict[int, Matrix] = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip

# Without the middle two, swscale's shortcuts shift every colour by 1 to 2 of 255; the last: the same on every CPU.
SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT

LONG = 0.5  # s without a new frame that are worth a note: a still scene, or lost data


def decode_video(path: Path, spec: ClipSpec, start: float, end: float | None) -> tuple[Frames, Window, list[str]]:
    """The frames from `start` seconds on, (t, size, size, 3) RGB, their window in the source, and notes.

    Frame `j` is the one that a player shows at `start + (j + 0.5) / fps`, whatever the file's own frame rate; after
    `end`, and after the file's last frame, the last one is repeated.  Raises MediaError.
    """
    with media_errors(path), logged_errors() as messages:
        frames, window, notes = _decode(path, spec, start, end)
    return frames, window, notes + [f"video: FFmpeg reports {text!r}" for text in messages[:1]]


def _decode(path: Path, spec: ClipSpec, start: float, end: float | None) -> tuple[Frames, Window, list[str]]:
    last = np.inf if end is None else end - 2 * TICK
    times = [min(start + (j + 0.5) / spec.fps, last) for j in range(spec.frames)]
    squares: list[Square] = []
    windows: list[Window] = []
    before: Decoded | None = None
    with Reader(path, "video", spec.video_track) as reader:
        notes = reader.notes
        aspect = float(reader.stream.sample_aspect_ratio or 1)
        for shown in _shown(reader, times, start, notes):
            if shown is not before:
                square, window = _square(path, shown.frame, aspect, spec)
                before = shown
            squares.append(square)
            windows.append(window)
    assert before is not None  # a clip has a frame, or there was an error
    if len(squares) > 1 and all(square is squares[0] for square in squares) and not reader.still:
        notes.append("video shows one frame for the whole clip")
    notes += hdr.conversion(before.frame) + _rotation(display_matrix(before.frame, path))
    if (bits := max(part.bits for part in before.frame.format.components)) > 8:
        notes.append(f"video rounded from {bits} to 8 bits per colour")
    if abs(aspect - 1) > 0.01:
        notes.append(f"video widened by {aspect:.3f}, the aspect ratio of its pixels")
    return np.stack(squares), windows[0], notes


def _shown(reader: Reader, times: list[float], start: float, notes: list[str]) -> Iterator[Decoded]:
    """The frame that is shown at each of the rising `times`; adds to `notes`."""
    left = deque([0.0] * len(times) if reader.still else times)
    current: Decoded | None = None
    lost: Damage | None = None  # what could not be decoded since `current`
    met: list[Damage] = []

    for item in reader.read(left[0]):
        if isinstance(item, Damage):
            lost = lost or item
            met.append(item)
            continue
        if current is None and item.seconds > left[0] + TICK and not lost:
            if item.seconds > times[-1]:
                raise MediaError(reader.path, f"its video begins at {item.seconds:.2f} s, after the clip", CHOOSE)
            notes.append(f"video begins {item.seconds - start:.3f} s late; its first frame is repeated to fill the gap")
        if current and item.seconds - current.until > LONG and left[0] < item.seconds:
            gap = item.seconds - current.seconds
            notes.append(f"video has no new frame for {gap:.2f} s from {current.seconds:.2f} s of the file on")
        while left and item.seconds > left[0] + TICK:
            yield _whole(reader.path, current or item, lost, left.popleft(), met)
        if not left:
            break
        current, lost = item, None

    if current is None:
        raise MediaError(reader.path, f"its video has no frame{f', {met[0]}' if met else ''}", DOWNLOAD)
    if left and not reader.still:
        if current.until <= start and not lost:
            reason = f"its video ends at {current.until:.2f} s, before the clip from {start:g} s"
            raise MediaError(reader.path, reason, CHOOSE)
        if left[-1] > current.until + TICK:
            notes.append(f"last frame repeated from {max(0.0, current.until - start):.3f} s")
    while left:
        yield _whole(reader.path, current, lost, left.popleft(), met)
    notes += ["still image"] * reader.still + [f"video {damage}, outside the frames shown" for damage in met[:1]]


def _whole(path: Path, frame: Decoded, lost: Damage | None, at: float, met: list[Damage]) -> Decoded:
    """`frame`, if it is complete and the one shown at the time `at`; raises MediaError if data are missing there."""
    if frame.whole and not (lost and at + TICK >= lost.seconds):
        return frame
    damage = met[-1] if met else Damage(frame.seconds, "corrupt frame")
    raise MediaError(path, f"its video is {damage}, inside the clip", DOWNLOAD)


def _square(path: Path, frame: VideoFrame, aspect: float, spec: ClipSpec) -> tuple[Square, Window]:
    """One frame upright, square, RGB, and the window of the source that it shows."""
    wide, high = frame.width * aspect, frame.height
    scale = spec.size / min(wide, high)
    width, height = (round(side * scale) if spec.fit == "crop" else spec.size for side in (wide, high))
    try:
        deep = "rgb48le" if hdr.conversion(frame) else "rgb24"
        scaled = frame.reformat(width=width, height=height, format=deep, interpolation=SCALER, threads=1)
    except (FFmpegError, ValueError) as error:
        reason = f"its video ({frame.format.name}) cannot be converted to RGB: {error}"
        raise MediaError(path, reason, CONVERT) from error
    image = _upright(scaled.to_ndarray(), display_matrix(frame, path))
    height, width = image.shape[:2]
    top, left = (height - spec.size) // 2, (width - spec.size) // 2
    bottom, right = top + spec.size, left + spec.size
    window = (left / width, top / height, right / width, bottom / height)
    square = np.ascontiguousarray(image[top:bottom, left:right])
    return hdr.to_bt709(square, frame) if square.dtype == np.uint16 else square, window


def display_matrix(frame: VideoFrame, path: Path) -> Matrix:
    """Where a player moves a stored pixel (x, y): to (a x + c y, b x + d y), y downward; as a, b, c, d."""
    try:
        tags: Any = frame.side_data
    except ValueError:  # PyAV refuses a photo's Exif, and says its angle, but not whether the photo is mirrored
        if (matrix := EXIF.get(_orientation(path))) is not None:
            return matrix
        cos, sin = np.cos(np.radians(frame.rotation)), np.sin(np.radians(frame.rotation))
        return cos, -sin, sin, cos
    if "DISPLAYMATRIX" not in tags:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(tags["DISPLAYMATRIX"], np.int32)[:5].tolist()
    return a, b, c, d


def _orientation(path: Path) -> int:
    """The number by which a photo's Exif says how it is shown; 0 where it says none that Pillow reads."""
    try:
        with Image.open(path) as photo:
            return int(photo.getexif().get(0x112, 0))
    except Exception:  # of any damage: FFmpeg has read the photo
        return 0


def is_quarter_turn(matrix: Matrix) -> bool:
    """Whether a matrix rotates by 90 or 270 degrees, so that width and height change places."""
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def _upright(image: NDArray[Any], matrix: Matrix) -> NDArray[Any]:
    """`image` as a player shows it, rotated by the multiple of 90 degrees that is nearest to the matrix."""
    a, b, c, d = matrix
    if is_quarter_turn(matrix):
        image, a, d = image.transpose(1, 0, 2), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _rotation(matrix: Matrix) -> list[str]:
    """A note on what `_upright` does; empty if nothing."""
    a, b, c, d = matrix
    if a * d < b * c:
        return ["video mirrored"]
    quarters = round(np.degrees(np.arctan2(b, a)) / 90) % 4
    return [f"video rotated by {90 * quarters} degrees clockwise"] if quarters else []
