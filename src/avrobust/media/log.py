"""What FFmpeg says while it works; FFmpeg keeps one level of it for the whole process."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import av

_lock = threading.Lock()
_listeners = 0
_before: tuple[int | None, bool, bool] = (None, True, True)
_logger = logging.getLogger("libav")  # where PyAV puts what no thread captures
_logger.addHandler(logging.NullHandler())


@contextmanager
def errors() -> Iterator[list[str]]:
    """The errors that FFmpeg logs in this thread while the block lasts, each once; the list is filled at its end."""
    said: list[str] = []
    _listen()
    try:
        with av.logging.Capture() as logs:
            yield said
    finally:
        said += dict.fromkeys(text.strip() for _, _, text in logs)
        _leave()


def _listen() -> None:
    global _listeners, _before
    with _lock:
        if not _listeners:
            _before = av.logging.get_level(), av.logging.get_skip_repeated(), _logger.propagate
            av.logging.set_level(av.logging.ERROR)
            av.logging.set_skip_repeated(False)
            _logger.propagate = _before[0] is not None  # other threads stay as quiet as they were
        _listeners += 1


def _leave() -> None:
    global _listeners
    with _lock:
        _listeners -= 1
        if not _listeners:
            level, skip, _logger.propagate = _before
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skip)
