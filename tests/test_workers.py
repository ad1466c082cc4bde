"""Worker processes: results in order, a lost task costs itself only, errors and Ctrl-C come through."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avrobust.data.workers import Lost, Processes, in_processes, tell


def work(task: tuple[str, object]) -> object:
    what, value = task
    if what == "exit":
        os._exit(9)
    if what == "sleep":
        time.sleep(float(value))
    if what == "raise":
        raise value
    if what == "exit once" and not value.exists():
        value.touch()
        os._exit(9)
    return os.getpid() if what == "pid" else value


def test_results_come_in_order_and_a_lost_task_costs_only_itself(tmp_path):
    tasks = [
        ("give", 0),
        ("exit", 1),
        ("sleep", 0.3),
        ("sleep", 3600),
        ("exit once", tmp_path / "was here"),
        ("give", 5),
    ]
    came = list(in_processes(work, tasks, 2, limit_s=lambda task: 1.5 if task[1] == 3600 else 60.0))
    assert [task for task, _ in came] == tasks
    killed, slow = Lost("killed its process"), Lost("took longer than 1.5 s")
    assert [result for _, result in came] == [0, killed, 0.3, slow, tmp_path / "was here", 5]


def test_few_tasks_start_few_processes_and_none_is_left():
    pids = {pid for _, pid in in_processes(work, [("pid", n) for n in range(3)], 1)}
    (pid,) = pids - {os.getpid()}
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_error_is_raised_here_with_the_traceback_of_the_process():
    with pytest.raises(ValueError, match="two words") as caught:
        list(in_processes(work, [("raise", ValueError("two words"))], 1))
    assert "in work" in caught.value.__notes__[0]


def talk(value):
    tell(value + 1)
    tell(value + 2)
    return value


def test_what_a_task_tells_arrives_while_it_runs():
    heard = []
    pool = Processes(talk, 1, told=lambda task, value: heard.append((task, value)))
    assert pool.submit(1).result() == 1
    assert heard == [(1, 2), (1, 3)]
    pool.close(0.0)


@pytest.mark.parametrize("seconds", [0.1, 3600])
def test_leaving_early_ends_what_runs_after_a_while(monkeypatch, seconds):
    monkeypatch.setattr("avrobust.data.workers.GRACE_S", 1.0)
    results = in_processes(work, [("give", 1), *[("sleep", seconds)] * 4], 1)
    assert next(results) == (("give", 1), 1)
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 10


def test_a_script_without_a_guard_is_told_so(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text("from avrobust.data.workers import in_processes\nprint(list(in_processes(str, [1], 1)))\n")
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "or with workers=1." in run.stderr.splitlines()[-1]


INTERRUPTED = """
import os, signal, sys, time
from pathlib import Path
from avrobust.data.workers import Processes

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    pool = Processes(Path.touch, 1)
    done = pool.submit(Path(sys.argv[1]))
    time.sleep(0.1)  # it is being started
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.killpg(0, signal.SIGINT)
    done.result(60)
    pool.close(5.0)
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Ctrl-C reaches the whole group on POSIX only")
def test_a_process_that_starts_leaves_ctrl_c_to_its_parent(tmp_path):
    script, done = tmp_path / "script.py", tmp_path / "done"
    script.write_text(INTERRUPTED)
    words = [sys.executable, script, done]
    run = subprocess.run(words, capture_output=True, text=True, timeout=60, start_new_session=True)
    assert (run.returncode, run.stderr, done.exists()) == (0, "", True)
