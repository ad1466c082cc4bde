"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["world"]
collect_ignore = ["dist_contents.py", "installed.py"]  # programs of dist.sh, for the package as it is installed


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real media, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("AVROBUST_MEDIA", Path(__file__).parents[2] / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"real media are not on this machine: no folder {folder}; set AVROBUST_MEDIA")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny study's videos and prepared clips are."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The run of the tiny study, finished."""
    from avrobust.study.runner import run
    from tiny_study import study

    out = tmp_path_factory.mktemp("runs") / "tiny"
    run(study, out, data=cache, progress=False)
    return out


@pytest.fixture(scope="session")
def videos(cache: Path, done: Path) -> Path:
    """The tiny study's videos, as <class>/<video>.mp4."""
    return next(cache.glob("orchestra-*"))


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no model has made, with its page."""
    from fake_run import fake_run
    from report_page import write

    folder = fake_run(tmp_path_factory.mktemp("runs") / "quick")
    write(folder)
    return folder


@pytest.fixture(scope="session")
def html(run_dir: Path) -> str:
    """The page of `run_dir`."""
    return (run_dir / "report.html").read_text()


@pytest.fixture(scope="session")
def parsed(html: str):
    """The page of `run_dir` as a `report_page.Page`."""
    from report_page import Page

    return Page(html)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no model has made, of fusions, defenses and a model that points too."""
    from fake_run import fake_run

    return fake_run(tmp_path_factory.mktemp("whole") / "r", clips=200, attacked=150, gallery=0, samples=0, whole=True)
