"""Tasks of a study on a Ray cluster: Ray places them, and does them again where a node dies.

Nodes share the folders of the run and of prepared clips; Ray carries the study to them and back what tasks tell.
"""

import os
import pickle
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from avrobust.data.workers import Lost
from avrobust.extras import needs
from avrobust.study.executors import Heard, Result
from avrobust.study.record import Notes
from avrobust.study.tasks import Task
from avrobust.study.worker import Parcel, Worker, WorkerError

RETRIES = 3  # of a task whose node or process died; a training goes on from its last state
ANSWER_S = 10.0  # for a cluster to accept a connection
CHECK_S = 180.0  # for every node to start a process and import the study
# Read when Ray is imported: no reports to its authors, and few attempts at an address that does not answer.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "5",
    "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "5",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a task without a GPU sees none
}


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected while the block runs.

    "ray" is the cluster that `RAY_ADDRESS` or this machine names, or a new one of this machine alone;
    "ray://host:10001" is one elsewhere.  Raises `WorkerError` within two minutes where there is none.
    """
    where = urlsplit(address)
    if (where.scheme != "ray" and address != "ray") or (where.scheme and not where.hostname):
        raise WorkerError(f"expected --on ray or --on ray://host:10001, got {address}. Leave it out for this machine.")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with needs("ray"):
        import ray
    if ray.is_initialized():  # by the program that runs this study
        yield ray
        return
    try:
        if where.hostname:
            socket.create_connection((where.hostname, where.port or 10001), ANSWER_S).close()
        ray.init(
            address if where.hostname else None, include_dashboard=None if where.hostname else False,
            log_to_driver=False, logging_level="ERROR",
        )  # fmt: skip
    except Exception as error:
        raise WorkerError(
            f"expected a Ray cluster at {where.netloc or os.environ.get('RAY_ADDRESS', 'this machine')}, got no answer: "
            f"{error}. Start one there (ray start --head), check host and port, or leave out --on."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def check_nodes(ray: Any, parcel: Parcel, out: Path, holder: str, data: Path) -> None:
    """Raise a `WorkerError` that names a node on which the study cannot run, before any work is done."""

    def lacking(held: bytes, path: list[str], out: str, holder: str, data: str) -> str:
        # Sent as code, not by name: the node may lack the package.
        import pickle
        import socket
        import sys

        sys.path += [folder for folder in path if folder not in sys.path]
        try:
            from avrobust.study import worker
        except Exception as error:
            return (
                f"expected the package avrobust on the node {socket.gethostname()} with {sys.executable}, got "
                f"{type(error).__name__}: {error}. Install it there in the same version, with its dependencies."
            )
        try:
            worker.refuse_other_folders(out, holder, data)
            pickle.loads(held).open()
        except worker.WorkerError as error:
            return str(error)
        return ""

    held, path = pickle.dumps(parcel), list(parcel.path)
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            only = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=only)(lacking)
            asked[task.remote(held, path, str(out), holder, str(data))] = node
    done, silent = ray.wait([*asked], num_returns=len(asked), timeout=CHECK_S)
    for ref in done:
        try:
            problem = ray.get(ref)
        except ray.exceptions.RayError as error:
            problem = f"expected the node {asked[ref]['NodeManagerHostname']} to answer, got: {error}. Start it again."
        if problem:
            raise WorkerError(problem)
    if silent:
        names = ", ".join(asked[ref]["NodeManagerHostname"] for ref in silent)
        raise WorkerError(f"expected an answer of the nodes {names} within {CHECK_S:g} s, got none. Start them again.")


class OnRay(Heard):
    """A Ray cluster, each task with its needs: threads, GPUs, bytes of memory."""

    def __init__(self, ray: Any, worker: Worker, slots: int | None, gpus: float | None, memory: int | None) -> None:
        super().__init__()
        self.ray, self.slots = ray, slots or sys.maxsize  # Ray itself waits for free nodes
        if gpus is None:
            gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0
        needs = {"num_cpus": worker.threads, "num_gpus": gpus, "max_retries": RETRIES}
        if memory is not None:
            needs["memory"] = memory
        self._work = ray.remote(**needs)(_work)
        self._worker = ray.put(worker)
        self._inbox = ray.remote(num_cpus=0, max_restarts=-1)(_inbox()).remote()
        self._running: dict[str, Any] = {}

    def submit(self, task: Task) -> Result:
        ref = self._running[task.name] = self._work.remote(self._worker, task, self._inbox)
        result: Result = Future()
        ref.future().add_done_callback(lambda done: self._finish(task, done, result))
        return self.until_done(task, result)

    def _finish(self, task: Task, done: Future[Notes], result: Result) -> None:
        self._running.pop(task.name, None)
        error = done.exception()
        if error is None:
            result.set_result(done.result())
        elif cause := getattr(error, "cause", None):  # raised by the task itself
            result.set_exception(cause)
        else:
            result.set_result(Lost(f"killed its process, or lost its node ({type(error).__name__})"))

    def status(self) -> str:
        """What tasks told the actor that collects it; nothing new while that is started anew."""
        with suppress(Exception):
            for name, words in self.ray.get(self._inbox.take.remote(), timeout=1.0):
                if name in self._running:
                    self._said[name] = words
        return super().status()

    def close(self) -> None:
        """End all tasks at once: what is finished is on disk."""
        for ref in [*self._running.values()]:
            with suppress(Exception):
                self.ray.cancel(ref, force=True)


def _work(worker: Worker, task: Task, inbox: Any) -> Notes:
    return worker(task, lambda words: inbox.put.remote(task.name, words))


def _inbox() -> Callable[[], Any]:
    """A class that is sent as code: its process imports nothing."""

    class Inbox:
        def __init__(self) -> None:
            self.words: dict[str, str] = {}

        def put(self, task: str, words: str) -> None:
            self.words[task] = words

        def take(self) -> list[tuple[str, str]]:
            new, self.words = [*self.words.items()], {}
            return new

    return Inbox
