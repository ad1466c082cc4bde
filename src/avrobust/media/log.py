"""What FFmpeg says while it works; FFmpeg keeps one level of it for the whole process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import av

_lock = threading.Lock()
_listeners = 0
_before: tuple[int | None, bool] = (None, True)


@contextmanager
def errors() -> Iterator[list[str]]:
    """The errors that FFmpeg logs in this thread while the block lasts, each once; the list is filled at its end."""
    global _listeners, _before
    said: list[str] = []
    with _lock:
        if not _listeners:
            _before = av.logging.get_level(), av.logging.get_skip_repeated()
            av.logging.set_level(av.logging.ERROR)
            av.logging.set_skip_repeated(False)
        _listeners += 1
    try:
        with av.logging.Capture() as logs:
            yield said
    finally:
        said += dict.fromkeys(text.strip() for _, _, text in logs)
        with _lock:
            _listeners -= 1
            if not _listeners:
                av.logging.set_level(_before[0])
                av.logging.set_skip_repeated(_before[1])
