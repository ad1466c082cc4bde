"""Progress without a terminal: a line with the time at most every 30 s, also where nothing advances."""

import contextlib
import io
import re
import subprocess
import sys
import time

import pytest

from avrobust import progress
from avrobust.progress import Work, part, progress_told, steps, track_progress


@pytest.fixture(autouse=True)
def nothing_written_before(monkeypatch):
    monkeypatch.setattr(progress, "_last_line", -progress.EVERY_S)


def test_lines_say_what_runs_how_far_it_is_and_how_long_it_will_take():
    now, out = [1000.0], io.StringIO()

    def written() -> list[str]:
        lines = [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", "", line) for line in out.getvalue().splitlines()]
        out.truncate(out.seek(0))
        return lines

    lines = Work("preparing pets", 480, 80, clock=lambda: now[0], write_to=out)
    lines.show = lines.write_if_due
    lines.write_if_due()
    assert written() == ["preparing pets: 80 of 480 (17%), running for 0 s"]
    now[0] += 29
    lines.advance(39)
    assert not written()
    now[0] += 11
    lines.advance(1, note="clip 120")  # 40 clips in 40 s, 360 are left
    assert written() == ["preparing pets: 120 of 480 (25%), 6 min 0 s left, clip 120"]
    other = Work("attacking AV", 9.5, count=False, clock=lambda: now[0], write_to=out)
    other.show = other.write_if_due
    other.advance()  # one rhythm for all work of a process
    assert not written()
    now[0] += 31
    lines.write_if_due()  # as the watching thread does
    assert written() == ["preparing pets: 120 of 480 (25%), 10 min 39 s left, clip 120"]
    now[0] -= 3600  # a clock that is set back does not silence it
    lines.write_if_due()
    assert len(written()) == 1


def test_a_line_names_all_nested_work(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    with track_progress("jobs", 2) as advance_jobs:
        with track_progress("training", 10) as advance:
            advance(5)
            advance_jobs(0)  # as its watching thread does meanwhile
        advance_jobs()
    lines = [re.sub(r", running for 0 s|, 0 s left", "", line[21:]) for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "jobs: 0 of 2 (0%)",
        "jobs: 0 of 2 (0%); training: 0 of 10 (0%)",
        "jobs: 0 of 2 (0%); training: 5 of 10 (50%)",
        "jobs: 1 of 2 (50%)",
    ]


def searched():
    """An attack of five steps with two restarts on two batches, of which the second ends early, and one that fails."""
    for batch in (1, 2):
        with part(0.5, f"batch {batch} of 2"):
            for _ in steps(2, "restart"):
                for step in steps(5):
                    if (batch, step) == (2, 3):
                        break
    with contextlib.suppress(ZeroDivisionError), part(0.1):
        for _ in steps(5):
            raise ZeroDivisionError


def test_the_steps_of_a_search_advance_what_it_is_part_of(monkeypatch):
    """Also where it is told to another process: a search says neither what it is part of, nor how it is shown."""
    told = []
    monkeypatch.setattr(progress.time, "monotonic", iter(range(1000)).__next__)
    with progress_told(told.append), track_progress("attacking", 20, count=False) as advance:
        with part(10, "PGD-5x2 AV"):
            searched()
        advance(10, note="done")
    assert told[0] == "attacking: 0%, PGD-5x2 AV" and told[-1] == "attacking: 100%, done"
    assert "attacking: 10%, PGD-5x2 AV, batch 1 of 2, restart 1 of 2, step 5 of 5" in told
    assert "attacking: 38%, PGD-5x2 AV, batch 2 of 2, restart 2 of 2, step 1 of 5" in told
    shares = [int(re.search(r"(\d+)%", line)[1]) for line in told]
    assert shares == sorted(shares) and "attacking: 50%" in told
    assert not progress._works


def test_steps_outside_of_any_part_show_nothing(capsys):
    """As those of attacks in a training loop, which knows its own progress."""
    assert [*steps(3)] == [0, 1, 2]
    with track_progress("training", 10) as advance:
        list(steps(3))
        advance(1)
        assert progress._works[-1].done == 1


def test_parts_that_look_alike_are_told_apart():
    """As of the one batch of the one search of a cell: ending the inner one does not end the outer ones."""
    with track_progress("attacking", 20, count=False), part(10), part(1):
        for _ in range(3):
            with part(1):
                pass
            assert progress._works[-1].done == 10 and len(progress._works[-1].parts) == 2


def test_a_terminal_shows_nested_bars_in_one_display(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with track_progress("jobs", 2) as advance_jobs:
        for name in ("training", "attacking"):
            with track_progress(name, 10, count=False) as advance:
                advance(10, note="loss 0.5")
            advance_jobs()
    shown = capsys.readouterr().err
    assert "jobs" in shown
    assert "2 of 2 (100%)" in shown
    assert not progress._bars


def test_work_that_does_not_advance_is_seen_to_run(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY_S", 0.5)
    with track_progress("attacking AV", 3, count=False):
        time.sleep(2.5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all("attacking AV: 0%, running for" in line for line in lines)


@pytest.mark.parametrize(("total", "visible"), [(3, False), (0, True)])
def test_silence_where_it_is_asked_for_and_where_there_is_nothing_to_do(capsys, total, visible):
    with track_progress("preparing", total, visible=visible) as advance:
        advance()
        advance(2, note="all")
    assert capsys.readouterr() == ("", "")


def test_stdout_is_left_to_results():
    code = (
        "from avrobust.progress import track_progress\nwith track_progress('preparing', 2) as advance:\n    advance(2)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == ""
    assert re.fullmatch(r"[\d-]{10} [\d:]{8}  preparing: 0 of 2 \(0%\), running for 0 s\n", run.stderr)
