"""Locks where a disk has none: markers of other hosts are named, waited for while they live, and given up after."""

import errno
import fcntl
import os
import threading
import time

import pytest

from avrobust import locks
from avrobust.locks import Lock, LockError
from avrobust.study.record import RunFile
from avrobust.study.runner import run_jobs
from test_study import Counted


@pytest.fixture(autouse=True)
def no_locks(monkeypatch):
    """A disk whose system knows no locks, as some network file systems."""

    def missing(fd, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)


def marker(path, age_s=0.0, host="node17"):
    path.write_text(f"4711\n{host}\n")
    then = time.time() - age_s
    os.utime(path, (then, then))


@pytest.mark.filterwarnings("ignore")
def test_a_marker_that_was_left_behind_is_named_and_given_up(tmp_path, capsys):
    marker(tmp_path / ".lock", age_s=3e5)
    marker(tmp_path / ".run.lock", age_s=3e5)
    says = r"lock: .*process 4711 on node17, last heard of \d{4}-.* silent for 3\d{5} s\. .*delete this file"
    with pytest.raises(LockError, match=says):
        run_jobs([Counted(tmp_path)])
    with pytest.raises(LockError, match=says):
        RunFile(tmp_path, {})
    assert capsys.readouterr().err.count("waiting for process 4711 on node17") == 2  # once each
    assert (tmp_path / ".lock").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_marker_that_is_touched_is_waited_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AVROBUST_LOCK_WAIT_S", "0.6")
    marker(tmp_path / ".lock")
    began, ended = time.monotonic(), []

    def alive():
        while time.monotonic() - began < 1.5:
            os.utime(tmp_path / ".lock")
            time.sleep(0.05)
        (tmp_path / ".lock").unlink()

    holder = threading.Thread(target=alive)
    holder.start()
    with Lock(tmp_path / ".lock"):
        ended.append(time.monotonic() - began)
    holder.join()
    assert ended[0] >= 1.5
    assert capsys.readouterr().err.count("waiting for") == 1


@pytest.mark.filterwarnings("ignore")
def test_a_marker_of_ours_is_touched_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "TOUCH_S", 0.05)
    with Lock(tmp_path / ".lock") as held, held:
        os.utime(tmp_path / ".lock", (0, 0))
        deadline = time.monotonic() + 5
        while (tmp_path / ".lock").stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (tmp_path / ".lock").stat().st_mtime > 0
    assert not (tmp_path / ".lock").exists()


@pytest.mark.filterwarnings("ignore")
def test_the_others_are_done_before_a_marker_is_given_up(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    marker(tmp_path / "a" / ".lock", age_s=3e5)
    first, second = Counted(tmp_path / "a"), Counted(tmp_path / "b")
    with pytest.raises(LockError):
        run_jobs([first, second])
    assert (first.entered, second.entered) == (0, 1)
