"""Where a verb writes: refused before any work, which may take hours, if nothing can be written there."""

from pathlib import Path
from tempfile import TemporaryFile


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
    """Tried with a file that is gone at once: permissions do not tell all, and a verb that is refused leaves nothing behind."""
    there = folder
    try:
        while not there.exists():
            there = there.parent
        got = "" if there.is_dir() else f"the file {there}"
        if not got:
            with TemporaryFile(dir=there):
                pass
    except OSError as error:  # no permission, a name too long, a full disk
        got = f"{error.strerror or error} in {there}"
    if got:
        raise ValueError(f"{path}: expected a folder that can be written, got {got}. Give another {option}.")
    return path
