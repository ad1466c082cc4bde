"""The world that tests run in: kind of CPU, threads, precision.  A number has to be right in each.

`make worlds` runs the tests of `NUMERIC` in forced ones.  Environment variables choose the kernels, before torch is
imported: ATEN_CPU_CAPABILITY (torch's own), ONEDNN_MAX_CPU_ISA (convolutions), MKL_CBWR (matrix products).  The options
--threads and --precision choose the rest.  The first lines of a run say which world it was.
"""

import functools
import os

import pytest
import torch

from avrobust import engine
from avrobust.study import record
from avrobust.training import recipe

# The files of tests that compare numbers of networks: those that another order of sums could turn red.
NUMERIC = {
    "adaptive", "adversarial", "attacks", "benchmarks", "attribution", "evaluator", "flags", "frontends", "golden", "hf", "localisation",
    "memory", "models", "pcl", "budget_grid", "published_checkpoints", "channels", "quantized", "search", "similarity", "sparse",
    "robustness", "threat",
}  # fmt: skip
KERNELS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR")


def pytest_addoption(parser: pytest.Parser) -> None:
    # One thread: the networks are small, and processes that share cores slow each other down many times over.
    parser.addoption("--threads", type=int, default=1, help="of torch, per process")
    parser.addoption("--precision", choices=["float32", "bfloat16"], help='what "auto" means, in attacks and training')


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "numeric: compares numbers of networks; runs in other worlds too")
    torch.set_num_threads(config.getoption("--threads"))
    if precision := config.getoption("--precision"):
        _force(precision)


def pytest_report_header(config: pytest.Config) -> str:
    about = record.world(torch.device("cpu"))
    forced = [f"{name}={os.environ[name]}" for name in KERNELS if name in os.environ]
    return (
        f"world: {about['cpu']}, {about['instructions']} kernels ({' '.join(forced) or 'none forced'}), "
        f"{' '.join(about['features'])}; {about['threads']} threads; precision {config.getoption('--precision') or 'auto'}"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem.removeprefix("test_") in NUMERIC:
            item.add_marker("numeric")


def _force(precision: str) -> None:
    """Make `precision` what "auto" means; who states a precision gets that one."""
    surrogate = engine.surrogate

    @functools.wraps(surrogate)
    def forced(model, example, asked="auto"):
        return surrogate(model, example, precision if asked == "auto" else asked)

    engine.surrogate = forced
    for module in (recipe, record):
        module.fast_bfloat16 = lambda device: precision == "bfloat16"
