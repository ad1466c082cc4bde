"""The record of a run, written: what was asked, by which code, on which machine.  `report.record` has its types."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import avrobust
from avrobust.config import digest
from avrobust.files import occupied, write_json
from avrobust.locks import Lock
from avrobust.models.zoo import NetSpec, count_parameters
from avrobust.objectives import display_name
from avrobust.report import record as run_record
from avrobust.report.worlds import DECIDES
from avrobust.study.plan import ModelConfig
from avrobust.training import Trained
from avrobust.training.recipe import fast_bfloat16

DRIVER = ".driver.lock"  # held by the process that drives a run


class RunExistsError(ValueError):
    """The output folder holds another run."""


def code() -> dict[str, Any]:
    """Version, commit and whether the checkout has changes; commit and dirty are None for an installed package."""
    here = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--short=12", "HEAD")
    changes = git("status", "--porcelain", "--untracked-files=no") if commit else None
    return {"version": avrobust.__version__, "commit": commit, "dirty": None if changes is None else bool(changes)}


def world(device: torch.device) -> dict[str, Any]:
    """The machine, as far as it shapes numbers and times."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "cpu": _cpu(),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # ATEN_CPU_CAPABILITY changes it
        "features": [name for name in FEATURES if getattr(torch.cpu, f"_is_{name}_supported", bool)()],
        "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "precision": "bfloat16" if fast_bfloat16(device) else "float32",  # what training comes to by itself
        "tf32": _tf32() if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _tf32() -> bool:
    """Whether a GPU may round the factors of float32 products to 10 bits: torch does so in convolutions by default."""
    return bool(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)


# Of a CPU, what makes sums in another order or of fewer digits.
FEATURES = ("avx2", "avx512", "avx512_bf16", "vnni", "amx_tile", "amx_fp16")


def world_name(world: Mapping[str, Any]) -> str:
    """A short name for all that numbers depend on in a world: equal names, equal numbers."""
    return digest([world.get(name) for name in DECIDES])[:8]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def begun(out: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The record of the run that was begun in `out`, empty if none was; nothing is written.

    Raises `RunExistsError` for a run that asked for something else, or a folder with other files.
    """
    path, locks = out / "run.json", Lock(out / DRIVER).files
    if not path.exists():
        if occupied(out, locks):
            raise RunExistsError(
                f"{out}: expected an empty folder or a run of this study, got a folder with other files. Give another --out."
            )
        return {}
    try:
        about: dict[str, Any] = run_record.read(path)[1]
    except ValueError as error:
        raise RunExistsError(f"{error}. Put back the file that was there, or give another --out.") from None
    there, wanted = about.get("asked"), json.loads(json.dumps(asked))
    if there is not None and (differing := sorted(k for k in {*there, *wanted} if there.get(k) != wanted.get(k))):
        raise RunExistsError(
            f"{out}: expected an empty folder or this very study, got a run that asked for something else ({', '.join(differing)}). Give another --out, or delete the folder."
        )
    return about


class Notes:
    """What a job tells for run.json, on whichever machine it runs."""

    def __init__(self) -> None:
        self.about: dict[str, Any] = {}

    def update(self, **entries: Any) -> None:
        """Set some entries; dicts are merged into what is there."""
        for key, value in entries.items():
            old = self.about.get(key)
            self.about[key] = old | value if isinstance(old, dict) and isinstance(value, dict) else value

    def spend(self, stage: str, seconds: float) -> None:
        """Add to the seconds of a stage; a resumed run adds to what was spent before."""
        spent = self.about.get("seconds", {}).get(stage, 0.0)
        self.update(seconds={stage: round(spent + seconds, 1)})

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds of the block to a stage."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.spend(stage, time.monotonic() - began)


class RunFile(Notes):
    """`run.json`, rewritten as a whole at every change, by the one process that drives the run.

    `report.record` has its types and says which versions can be read.
    """

    def __init__(self, out: Path, asked: Mapping[str, Any]) -> None:
        """Begin a run in `out`, or go on with the one that is there; raises `RunExistsError` if it asked for something else."""
        super().__init__()
        self.path = out / "run.json"
        self.about = begun(out, asked)
        self.update(asked=asked)

    def update(self, **entries: Any) -> None:
        """Set some entries, and write them."""
        super().update(**json.loads(json.dumps(entries)))
        write_json(self.path, {"version": run_record.VERSION, **self.about})

    def add(self, notes: Notes, model: str, seed: int) -> None:
        """Take over what a job of this model tells; of its earlier failures those remain that it tells again."""
        told = dict(notes.about)
        for stage, seconds in told.pop("seconds", {}).items():
            self.spend(stage, seconds)
        earlier = {name: failure for name, failure in self.about.get("failures", {}).items() if failure}
        others = {n: failure for n, failure in earlier.items() if (failure["model"], failure["seed"]) != (model, seed)}
        if (failures := others | told.pop("failures", {})) or earlier:
            self.about["failures"] = failures
        if worlds := told.get("worlds"):
            told["world"] = [*worlds.values()][-1]
        self.update(**told)


@contextmanager
def driven(out: Path, asked: Mapping[str, Any]) -> Iterator[RunFile]:
    """The record of a run while this process alone drives it.

    Raises `LockError` where another process does, and `RunExistsError` for another run or a folder with other files, which
    stays as it was.
    """
    begun(out, asked)  # before a lock is left in a folder that holds something else
    out.mkdir(parents=True, exist_ok=True)
    with Lock(out / DRIVER, wait=False):
        yield RunFile(out, asked)


def about_config(config: ModelConfig) -> dict[str, object]:
    """A model that is to be trained, for run.json."""
    return {
        "kind": config.spec.modality, "fusion": config.spec.fusion if isinstance(config.spec, NetSpec) else None, "network": config.spec.name, "recipe": config.trained_by.name,
        "loss": display_name(config.loss), "feature_defense": config.feature_defense and type(config.feature_defense).__name__,
        "start": config.start, "role": config.role, "localises": config.spec.localises,
        "visual_weights": config.spec.visual_weights, "adaptation": config.adaptation and config.adaptation.name,
    }  # fmt: skip


def about_model(config: ModelConfig, trained: Trained) -> dict[str, object]:
    """A trained model, for run.json."""
    best = trained.curve[trained.best_epoch - 1] if trained.curve else None
    return about_config(config) | {
        "parameters": count_parameters(trained.net),
        "seconds": round(trained.seconds, 1), "epochs": len(trained.curve), "best_epoch": trained.best_epoch,
        "val": best and best.val_accuracy,
        "curve": [asdict(e) for e in trained.curve],
    }  # fmt: skip
