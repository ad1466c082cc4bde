"""What FFmpeg logs while it works.  FFmpeg has one log level for the whole process, which is shared by threads here."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import av

_lock = threading.Lock()
_users = 0
_before: tuple[int | None, bool, bool] = (None, True, True)
_logger = logging.getLogger("libav")  # where PyAV sends what no thread captures
_logger.addHandler(logging.NullHandler())


@contextmanager
def logged_errors() -> Iterator[list[str]]:
    """The errors that FFmpeg logs in this thread during the block, each once; the list is filled when the block ends."""
    messages: list[str] = []
    _start()
    try:
        with av.logging.Capture() as logs:
            yield messages
    finally:
        messages += dict.fromkeys(text.strip() for _, _, text in logs)
        _stop()


def _start() -> None:
    global _users, _before
    with _lock:
        if not _users:
            _before = av.logging.get_level(), av.logging.get_skip_repeated(), _logger.propagate
            av.logging.set_level(av.logging.ERROR)
            av.logging.set_skip_repeated(False)
            _logger.propagate = _before[0] is not None  # other threads stay as quiet as they were
        _users += 1


def _stop() -> None:
    global _users
    with _lock:
        _users -= 1
        if not _users:
            level, skip, _logger.propagate = _before
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skip)
