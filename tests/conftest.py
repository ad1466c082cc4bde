"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real media, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("AVROBUST_MEDIA", Path(__file__).parents[2] / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"real media are not on this machine: no folder {folder}; set AVROBUST_MEDIA")
    return folder
