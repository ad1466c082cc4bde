"""Where tasks of a study are done: in this process, or in several of this machine.  `on_ray` has the third."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from avrobust.data.workers import Lost, Processes, tell
from avrobust.study.record import Notes
from avrobust.study.tasks import Task
from avrobust.study.worker import Worker

Result = Future[Notes | Lost]


class Here:
    """Does each task at once, in this process, which shows its progress itself."""

    slots = 1

    def __init__(self, run: Callable[[Task], Notes]) -> None:
        self._run = run

    def submit(self, task: Task) -> Result:
        done: Result = Future()
        done.set_result(self._run(task))
        return done

    def status(self) -> str:
        return ""

    def close(self) -> None:
        """Nothing is left to end."""


class Heard:
    """What running tasks tell of their progress."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def hear(self, task: Task, said: str) -> None:
        """Keep the last words of a task."""
        self._said[task.name] = said

    def until_done(self, task: Task, future: Result) -> Result:
        """Forget what a task said when it is over."""
        future.add_done_callback(lambda _: self._said.pop(task.name, None))
        return future

    def status(self) -> str:
        """All last words."""
        return "; ".join([*self._said.values()])


class Pool(Heard):
    """`workers` processes of this machine."""

    def __init__(self, worker: Worker, workers: int) -> None:
        super().__init__()
        self.slots = workers
        self._processes = Processes(partial(_work, worker), workers, told=self.hear)

    def submit(self, task: Task) -> Result:
        return self.until_done(task, self._processes.submit(task))

    def close(self) -> None:
        """End all processes at once: what is finished is on disk."""
        self._processes.close(grace_s=0.0)


def _work(worker: Worker, task: Task) -> Notes:
    return worker(task, tell)
