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
