"""The picture of a clip: the frames shown at given times, upright, square, RGB."""

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

from avrobust.media import hdr
from avrobust.media.faults import FETCH, MediaError, blamed
from avrobust.media.log import errors
from avrobust.media.reader import CHOOSE, TICK, Damage, Decoded, Reader
from avrobust.media.spec import ClipSpec

Pixels = UInt8[np.ndarray, "t h w 3"]
Image = UInt8[np.ndarray, "h w 3"]
Window = tuple[float, float, float, float]
Matrix = tuple[float, float, float, float]

# Without the middle two, swscale's shortcuts shift every colour by 1 to 2 of 255; the last: the same on every CPU.
SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT

HOLE = 0.5  # s between a frame's end and the next frame that are worth a note: a still scene, or lost data


def picture(path: Path, spec: ClipSpec, start: float, end: float | None) -> tuple[Pixels, Window, list[str]]:
    """The clip's frames, (t, size, size, 3) RGB, the part of the upright source that they show, and what was done.

    Frame `j` is the one that a player shows at `start + (j + 0.5) / fps`, whatever the file's own frame rate;
    from `end` on, and after the file's last frame, the last one is held.  Raises MediaError.
    """
    with blamed(path), errors() as said:
        frames, window, notes = _picture(path, spec, start, end)
    return frames, window, notes + [f"picture: FFmpeg reports {text!r}" for text in said[:1]]


def _picture(path: Path, spec: ClipSpec, start: float, end: float | None) -> tuple[Pixels, Window, list[str]]:
    last = np.inf if end is None else end - 2 * TICK
    times = [min(start + (j + 0.5) / spec.fps, last) for j in range(spec.frames)]
    squares: list[Image] = []
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
        notes.append("picture stands still: one frame for the whole clip")
    notes += hdr.said(before.frame) + _turns(matrix(before.frame))
    if (bits := max(part.bits for part in before.frame.format.components)) > 8:
        notes.append(f"picture rounded from {bits} bits a colour to 8")
    if abs(aspect - 1) > 0.01:
        notes.append(f"picture widened by {aspect:.3f}, the shape of its pixels")
    return np.stack(squares), windows[0], notes


def _shown(reader: Reader, times: list[float], start: float, notes: list[str]) -> Iterator[Decoded]:
    """For each of the rising `times` the frame that is shown then; adds to `notes`."""
    left = deque([0.0] * len(times) if reader.still else times)
    now: Decoded | None = None
    lost: Damage | None = None  # what could not be decoded since `now`
    met: list[Damage] = []

    for item in reader.read(left[0]):
        if isinstance(item, Damage):
            lost = lost or item
            met.append(item)
            continue
        if now is None and item.seconds > left[0] + TICK and not lost:
            if item.seconds > times[-1]:
                raise MediaError(reader.path, f"its picture begins at {item.seconds:.2f} s, after the clip", CHOOSE)
            notes.append(f"picture begins {item.seconds - start:.3f} s late: its first frame stands for what lacks")
        if now and item.seconds - now.until > HOLE and left[0] < item.seconds:
            notes.append(
                f"picture stands still for {item.seconds - now.seconds:.2f} s from {now.seconds:.2f} s of the file"
            )
        while left and item.seconds > left[0] + TICK:
            yield _whole(reader.path, now or item, lost, left.popleft(), met)
        if not left:
            break
        now, lost = item, None

    if now is None:
        raise MediaError(reader.path, f"its picture has no frame{f', {met[0]}' if met else ''}", FETCH)
    if left and not reader.still:
        if now.until <= start and not lost:
            raise MediaError(
                reader.path,
                f"its picture ends at {now.until:.2f} s, before the clip from {start:g} s",
                CHOOSE,
            )
        if left[-1] > now.until + TICK:
            notes.append(f"picture held from {max(0.0, now.until - start):.3f} s")
    while left:
        yield _whole(reader.path, now, lost, left.popleft(), met)
    notes += ["still picture"] * reader.still + [f"picture {damage}, outside the frames shown" for damage in met[:1]]


def _whole(path: Path, frame: Decoded, lost: Damage | None, at: float, met: list[Damage]) -> Decoded:
    """`frame`, if it is what is shown at the time `at` and nothing of it lacks."""
    if frame.whole and not (lost and at + TICK >= lost.seconds):
        return frame
    fault = met[-1] if met else Damage(frame.seconds, "corrupt frame")
    raise MediaError(path, f"its picture is {fault}, within the clip", FETCH)


def _square(path: Path, frame: VideoFrame, aspect: float, spec: ClipSpec) -> tuple[Image, Window]:
    """One frame upright, square, RGB, and the part of the source that it shows."""
    wide, high = frame.width * aspect, frame.height
    scale = spec.size / min(wide, high)
    width, height = (round(side * scale) if spec.fit == "crop" else spec.size for side in (wide, high))
    try:
        deep = "rgb48le" if hdr.said(frame) else "rgb24"
        scaled = frame.reformat(width=width, height=height, format=deep, interpolation=SCALER, threads=1)
    except (FFmpegError, ValueError) as error:
        advice = "Convert the file."
        raise MediaError(path, f"its picture ({frame.format.name}) cannot be made RGB: {error}", advice) from error
    image = _upright(scaled.to_ndarray(), matrix(frame))
    height, width = image.shape[:2]
    top, left = (height - spec.size) // 2, (width - spec.size) // 2
    bottom, right = top + spec.size, left + spec.size
    window = (left / width, top / height, right / width, bottom / height)
    square = np.ascontiguousarray(image[top:bottom, left:right])
    return hdr.to_bt709(square, frame) if square.dtype == np.uint16 else square, window


def matrix(frame: VideoFrame) -> Matrix:
    """How a player moves a stored pixel (x, y): to (a x + c y, b x + d y), with y downward; as a, b, c, d."""
    try:
        tags: Any = frame.side_data
    except ValueError:  # PyAV refuses a photo's Exif, and tells its angle but not whether it is mirrored
        cos, sin = np.cos(np.radians(frame.rotation)), np.sin(np.radians(frame.rotation))
        return cos, -sin, sin, cos
    if "DISPLAYMATRIX" not in tags:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(tags["DISPLAYMATRIX"], np.int32)[:5].tolist()
    return a, b, c, d


def sideways(move: Matrix) -> bool:
    """Whether a matrix turns the picture by a quarter, so that width and height change places."""
    a, b, c, d = move
    return abs(b) + abs(c) > abs(a) + abs(d)


def _upright(image: NDArray[Any], move: Matrix) -> NDArray[Any]:
    """`image` as a player shows it, turned by whole quarters: the number nearest to the matrix."""
    a, b, c, d = move
    if sideways(move):
        image, a, d = image.transpose(1, 0, 2), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _turns(move: Matrix) -> list[str]:
    """What `_upright` does, in words."""
    a, b, c, d = move
    if a * d < b * c:
        return ["picture mirrored"]
    quarters = round(np.degrees(np.arctan2(b, a)) / 90) % 4
    return [f"picture rotated by {90 * quarters} degrees clockwise"] if quarters else []
