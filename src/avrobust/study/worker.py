"""What a worker gets: a study on its clips, as bytes that another process, on this or another machine, can use.

Run folder and prepared clips lie in folders that every worker sees under the same path: only the study is sent, and what a
task tells for run.json comes back.
"""

import os
import pickle
import socket
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cloudpickle

import avrobust
from avrobust.config import digest
from avrobust.data.manifest import Manifest
from avrobust.data.store import Store
from avrobust.devices import device, limited_threads
from avrobust.locks import Lock
from avrobust.progress import Tell, progress_told
from avrobust.sources import sources
from avrobust.study.jobs import Job
from avrobust.study.plan import Study
from avrobust.study.record import DRIVER, Notes
from avrobust.study.tasks import Task


class WorkerError(ValueError):
    """A worker that cannot do its part: says which one, and what it lacks."""


@dataclass(frozen=True)
class Bench:
    """A study, its prepared clips, and the folder of its run."""

    study: Study
    out: Path
    manifest: Manifest
    store: Store
    device: str | None = None
    progress: bool = True
    tracker: str | None = None

    @property
    def resolved(self) -> "Bench":
        """The same for a process in another working directory."""
        return replace(self, out=self.out.resolve(), store=replace(self.store, path=self.store.path.resolve()))

    def run(self, task: Task) -> Notes:
        """Do a task here."""
        config = next(config for config in self.study.models if config.name == task.model)
        where = device(self.device)
        job = Job(
            self.study, config, task.seed, self.out, self.manifest, self.store, where, self.progress, self.tracker
        )
        return job.run(task.stage)


@dataclass(frozen=True)
class Parcel:
    """A study, or a bench with it, as bytes.

    >>> from avrobust.study.selftest import study
    >>> Parcel.of(study).open() == study
    True
    """

    held: bytes
    code: str  # a digest of the study, of the user's modules behind it, and of this package's version
    path: tuple[str, ...]  # folders of Python's modules

    @classmethod
    def of(cls, value: Study | Bench) -> "Parcel":
        """Raises `WorkerError` for a study with what no other process can have, such as an open file."""
        try:
            try:
                held = pickle.dumps(value)  # by name: the name is part of what identifies an attack
            except (pickle.PicklingError, AttributeError, TypeError):
                held = cloudpickle.dumps(value)  # functions that were made inside functions
        except Exception as error:
            raise WorkerError(
                f"expected a study that can be sent to other processes, got one that cannot: {error}. Make its networks, "
                "losses and attacks of functions and classes in a module, or use --workers 1."
            ) from error
        return cls(held, _code(value), tuple(str(Path(folder).resolve()) for folder in sys.path))

    def open(self) -> Study | Bench:
        """What was sent.  Raises `WorkerError` where the study's modules are missing, or are not those of the sender."""
        sys.path += [folder for folder in self.path if folder not in sys.path]
        try:
            value: Study | Bench = pickle.loads(self.held)
            found = _code(value)
        except Exception as error:
            raise WorkerError(
                f"expected the modules of the study on {this_process()}, got {type(error).__name__}: {error}. Install "
                "them there, or put them into a folder that it sees under the same path."
            ) from error
        if found != self.code:
            raise WorkerError(
                f"expected the study's own code and avrobust {avrobust.__version__} on {this_process()} as where it was "
                "started, got other ones. Install the same versions, and put functions and classes of a script into a "
                "module."
            )
        return value


@dataclass(frozen=True)
class Worker:
    """Does tasks of a study with `threads` threads, in any process that sees the folder of its run."""

    parcel: Parcel
    threads: int
    holder: str  # who drives the run, as its folder says

    def __call__(self, task: Task, tell: Tell) -> Notes:
        bench = _opened(self.parcel)
        refuse_other_folders(bench.out, self.holder, bench.store.path)
        with limited_threads(self.threads), progress_told(tell):
            return bench.run(task)


@cache
def _opened(parcel: Parcel) -> Bench:
    bench = parcel.open()
    assert isinstance(bench, Bench)
    return bench


def refuse_other_folders(out: Path | str, holder: str, data: Path | str) -> None:
    """Raise a `WorkerError` where this process does not see the folder of the run that `holder` drives, or of clips."""
    if Lock(Path(out) / DRIVER).holder != holder:
        raise WorkerError(
            f"expected the folder of the run {out} on {this_process()}, got none or another there. Put it on a disk that "
            "every node sees under this path (--out)."
        )
    if not Path(data).is_dir():
        raise WorkerError(
            f"expected the folder of prepared clips {data} on {this_process()}, got none there. Put it on a disk that every "
            "node sees under this path (--cache)."
        )


def _code(value: Study | Bench) -> str:
    study = value if isinstance(value, Study) else value.study
    return digest(avrobust.__version__, study, sources(study))


def this_process() -> str:
    """This process and its host."""
    return f"{socket.gethostname()} (process {os.getpid()})"
