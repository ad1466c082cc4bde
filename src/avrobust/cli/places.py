"""Where a verb writes: refused before any work, which may take hours, if nothing can be written there."""

import os
from pathlib import Path


def new_file(path: Path, option: str) -> Path:
    """The path of a file to write.  Raises `ValueError` if it exists or cannot be written."""
    if path.exists():
        raise ValueError(f"{path}: expected a new file, got one that exists. Give another {option}.")
    return _writable(path, path.parent, option)


def new_folder(path: Path, option: str) -> Path:
    """The path of a folder to make.  Raises `ValueError` if it exists or cannot be made."""
    if path.exists():
        raise ValueError(f"{path}: expected a new folder, got one that exists. Give another {option}.")
    return _writable(path, path, option)


def folder(path: Path, option: str) -> Path:
    """The path of a folder to write into, new or not.  Raises `ValueError` if nothing can be written there."""
    return _writable(path, path, option)


def _writable(path: Path, folder: Path, option: str) -> Path:
    """Nothing is made yet: a verb that is refused for another reason should leave nothing behind."""
    there = folder
    try:
        while not there.exists():
            there = there.parent
        got = (
            f"the file {there}"
            if not there.is_dir()
            else None
            if os.access(there, os.W_OK | os.X_OK)
            else f"no permission to write in {there}"
        )
    except OSError as error:  # a file as a folder, a name too long, no permission to look
        got = error.strerror or str(error)
    if got:
        raise ValueError(f"{path}: expected a folder that can be written, got {got}. Give another {option}.")
    return path
