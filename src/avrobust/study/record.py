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
from avrobust.files import write_json
from avrobust.locks import Lock
from avrobust.models.zoo import count_parameters
from avrobust.objectives import display_name
from avrobust.report import record as run_record
from avrobust.report.worlds import DECIDES
from avrobust.study.plan import ModelConfig
from avrobust.training import Trained
from avrobust.training.recipe import fast_bfloat16


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
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


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


class RunFile:
    """`run.json`, rewritten as a whole at every change, by any process that works on the run.

    `report.record` has its types and says which versions can be read.
    """

    def __init__(self, out: Path, asked: Mapping[str, Any]) -> None:
        """Begin a run in `out`, or go on with the one that is there; raises `RunExistsError` if it asked for something else."""
        self.path = out / "run.json"
        self.began_s = time.time()
        out.mkdir(parents=True, exist_ok=True)
        held = out / ".run.lock"
        self._lock = Lock(held)
        with self._lock:
            there = self.about.get("asked")
            if there is None and any(path != held for path in out.iterdir()):
                held.unlink()  # somebody else's folder stays as it was
                raise RunExistsError(
                    f"{out}: expected an empty folder or a run of this study, got a folder with other files. Give another --out."
                )
            wanted = json.loads(json.dumps(asked))
            if there is not None and (
                differing := sorted(k for k in {*there, *wanted} if there.get(k) != wanted.get(k))
            ):
                raise RunExistsError(
                    f"{out}: expected an empty folder or this very study, got a run that asked for something else ({', '.join(differing)}). Give another --out, or delete the folder."
                )
            self.update(asked=wanted)

    @property
    def about(self) -> dict[str, Any]:
        """The record as it is now, as plain data."""
        try:
            return run_record.read(self.path)[1] if self.path.exists() else {}
        except ValueError as error:
            raise RunExistsError(f"{error}. Put back the file that was there, or give another --out.") from None

    def update(self, **entries: Any) -> None:
        """Set some entries; dicts are merged into what is there."""
        with self._lock:
            about = self.about
            for key, value in entries.items():
                old = about.get(key)
                about[key] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
            self._write(about)

    def begin(self, key: str, parts: Mapping[str, Any]) -> None:
        """Set the parts that an entry lacks, in this order."""
        with self._lock:
            about = self.about
            about[key] = dict(parts) | about.get(key, {})
            self._write(about)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds of a stage; a resumed run adds to what was spent before."""
        began = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                spent = self.about.get("seconds", {}).get(stage, 0.0)
                self.update(seconds={stage: round(spent + time.monotonic() - began, 1)})

    def _write(self, about: Mapping[str, Any]) -> None:
        write_json(self.path, {"version": run_record.VERSION, **about})


def about_config(config: ModelConfig) -> dict[str, object]:
    """A model that is to be trained, for run.json."""
    return {
        "kind": config.spec.modality, "fusion": config.spec.fusion, "network": config.spec.name, "recipe": config.recipe.name,
        "loss": display_name(config.loss), "feature_defense": config.feature_defense and type(config.feature_defense).__name__,
        "start": config.start, "role": config.role, "localises": config.spec.localises,
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
