"""A study as a graph of tasks: train a model, then measure it; and the one loop that hands them out.

A training waits for the model that it starts from; a measurement for its own training and for those of the models that
its attacks transfer from.  All cells of one model are one task: they share its network and its caches.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from avrobust.attacks import Transfer
from avrobust.data.workers import Lost
from avrobust.progress import track_progress
from avrobust.study.jobs import Stage
from avrobust.study.plan import Study
from avrobust.study.record import Notes

LOOK_S = 1.0  # between two looks at what running tasks tell


@dataclass(frozen=True)
class Task:
    """A model and a seed to train or to measure, once the tasks named in `after` are over."""

    stage: Stage
    model: str
    seed: int
    after: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """What it is, as progress shows it."""
        return f"{self.stage} {self.model} (seed {self.seed})"


@runtime_checkable
class Executor(Protocol):
    """Where tasks are done: `slots` of them at a time; a task whose process dies more than once is `Lost`."""

    slots: int

    def submit(self, task: Task) -> Future[Notes | Lost]: ...

    def status(self) -> str:
        """What running tasks tell, for the line of progress."""


def plan(study: Study) -> list[Task]:
    """The tasks of a study: trainings come first, because others wait for them.

    Raises `ValueError` if attacks transfer from a model that the study does not have.

    >>> from avrobust.study.selftest import study
    >>> [task.name for task in plan(study)][:2]
    ['training AV (seed 0)', 'training Rounded (seed 0)']
    """
    trainings, measurements = [], []
    names = {config.name for config in study.models}
    for seed in study.seeds:
        for config in study.models:
            training = Task("training", config.name, seed, _trainings(filter(None, [config.start]), seed))
            attacks = [cell.attack for cell in study.cells(config.name, seed)]
            foreign = {attack.source for attack in attacks if isinstance(attack, Transfer)}
            if missing := sorted(foreign - names):
                raise ValueError(
                    f"attacks on {config.name} transfer from {missing[0]}, expected a model of the study, got none of "
                    f"that name; there are {', '.join(sorted(names))}. Name one of them, or add it."
                )
            trainings.append(training)
            measurements.append(Task("measuring", config.name, seed, _trainings({config.name, *foreign}, seed)))
    return trainings + measurements


def _trainings(models: Iterable[str], seed: int) -> frozenset[str]:
    return frozenset(Task("training", model, seed).name for model in models)


def drive(
    tasks: list[Task], executor: Executor, finish: Callable[[Task, Notes | Lost], bool], *, progress: bool = True
) -> None:
    """Hand out each task when those before it are over; `finish` gets its result and says whether it succeeded.

    A model whose training failed is not measured.
    """
    todo, running, over = list(tasks), dict[Future[Notes | Lost], Task](), set[str]()
    with track_progress("tasks", len(tasks), visible=progress) as advance:
        while todo or running:
            for task in [task for task in todo if task.after <= over][: executor.slots - len(running)]:
                todo.remove(task)
                running[executor.submit(task)] = task
            done, _ = wait(running, LOOK_S, FIRST_COMPLETED)
            for future in done:
                task = running.pop(future)
                if not finish(task, future.result()) and task.stage == "training":
                    own = [
                        other
                        for other in todo
                        if other.stage == "measuring" and (other.model, other.seed) == (task.model, task.seed)
                    ]
                    todo = [other for other in todo if other not in own]
                    advance(len(own))
                over.add(task.name)
                advance()
            # Until a task tells more, as while its process starts, its name says what runs.
            advance(0, note=executor.status() or "; ".join(task.name for task in running.values()))
