"""Locks name their holder, on disks with locks and on those without, where a marker of a crashed host stays."""

import errno
import fcntl
import os
import re
import threading

import pytest

from avrobust import locks
from avrobust.locks import Lock, LockError


@pytest.fixture(params=["locks", "no locks"], autouse=True)
def disk(request, monkeypatch):
    """A disk as it is, and one whose system knows no locks, as some network file systems."""

    def missing(fd, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    if request.param == "no locks":
        monkeypatch.setattr(fcntl, "flock", missing)


@pytest.mark.filterwarnings("ignore")
def test_who_does_not_wait_is_told_who_holds_it(tmp_path):
    path = tmp_path / ".lock"
    with Lock(path, wait=False):
        says = rf"{tmp_path}: expected .* got one that process {os.getpid()} on \S+ \(since .* delete {re.escape(str(path))}"
        with pytest.raises(LockError, match=says), Lock(path, wait=False):
            pass
    with Lock(path, wait=False):
        pass


@pytest.mark.filterwarnings("ignore")
def test_who_waits_says_for_whom(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)
    order = []

    def second():
        with Lock(tmp_path / ".lock"):
            order.append(2)

    with Lock(tmp_path / ".lock"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.5)
        order.append(1)
    thread.join()
    assert order == [1, 2]
    assert re.search(rf"waiting for process {os.getpid()} on .* delete .*\.lock", capsys.readouterr().err)
