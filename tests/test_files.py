"""Files that are whole or not there, and folders too."""

import errno
from pathlib import Path

import pytest

from avrobust.files import draft, occupied, sha256, write_bytes, write_json
from avrobust.study.record import begun


def test_files_stand_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_bytes(tmp_path / "new" / "a.bin", b"before")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.bin"):
        write_bytes(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_takes_the_place_of_another_when_it_is_done(tmp_path: Path):
    out = tmp_path / "cells" / "a"
    for text in ("one", "two"):
        with draft(out, folder=True, locked=True) as part:
            (part / f"{text}.txt").write_text(text)
    assert [path.name for path in out.iterdir()] == ["two.txt"]
    with pytest.raises(KeyboardInterrupt), draft(out, folder=True, locked=True) as part:
        (part / "three.txt").write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in out.parent.rglob("*")] == ["a", "two.txt"]


def test_what_a_killed_process_left_is_written_over(tmp_path: Path):
    (tmp_path / ".a.part").mkdir()
    (tmp_path / ".a.part" / "old").touch()
    (tmp_path / ".b.part").write_text("half of a file")
    with draft(tmp_path / "a", folder=True, locked=True), draft(tmp_path / "b", locked=True) as part:
        part.write_text("b")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b"]


def test_writers_of_one_file_are_not_in_each_other_s_way(tmp_path: Path):
    """Threads, or processes of one number in two containers: the last of them is there, whole."""
    path = tmp_path / "a"
    with draft(path) as one:
        one.write_text("one")
        with draft(path) as two:
            two.write_text("two")
        assert path.read_text() == "two"
    assert path.read_text() == "one" and [*tmp_path.iterdir()] == [path]


def test_a_folder_that_a_killed_process_had_just_begun_is_begun_again(tmp_path: Path):
    (tmp_path / ".run.json.0a1b.part").write_text('{"half')
    assert not occupied(tmp_path) and not occupied(tmp_path / "none")
    assert begun(tmp_path, {}) == {}
    (file := tmp_path / "holiday.mp4").touch()
    assert occupied(tmp_path) and not occupied(tmp_path, [file])


def test_json_and_digests(tmp_path: Path):
    path = write_json(tmp_path / "a.json", {"a": [1, None]})
    assert path.read_text() == '{\n "a": [\n  1,\n  null\n ]\n}'
    assert sha256(path) == "4d33dc8016f56df6d4f957f356074ef6441317b131d5282ea8392a68d9bcb7d1"


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="other"), draft(tmp_path / "a"):
        (tmp_path / "other").read_bytes()
