"""Studies on Ray: a real cluster of which a node is killed, and all that can go wrong with a stand-in for Ray."""

import subprocess
import sys
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

import avrobust.study
from avrobust import Rows
from avrobust.data.workers import Lost
from avrobust.extras import MissingExtraError
from avrobust.locks import Lock
from avrobust.study import on_ray
from avrobust.study.machines import Machines
from avrobust.study.record import DRIVER, Notes
from avrobust.study.tasks import Task
from avrobust.study.worker import Parcel, Worker, WorkerError
from tiny_study import study

TASKS = [Task("training", name, 0) for name in ("fine", "raises", "dies")]


def rows_of(out: Path) -> str:
    return repr({f.parent.name: Rows.load(f).data.to_pylist() for f in sorted(out.glob("cells/[!.]*/rows.parquet"))})


@pytest.mark.slow
def test_a_cluster_gives_the_rows_of_one_process_also_when_a_node_is_killed(tmp_path, done, cache):
    pytest.importorskip("ray", reason="needs Ray: pip install 'avrobust[ray]'")
    script = Path(__file__).with_name("ray_study.py")
    words = [sys.executable, str(script), str(tmp_path / "run"), str(cache)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr
    assert "killed a node after" in ran.stdout
    same = rows_of(tmp_path / "run") == rows_of(done)
    assert same


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ray://127.0.0.1:9", r"expected a Ray cluster at 127\.0\.0\.1:9, got no answer: .*refused.*ray start --head"),
        ("ray://", r"expected --on ray or --on ray://host:10001, got ray://\. Leave it out"),
        ("slurm", r"expected --on ray or --on ray://host:10001, got slurm\."),
    ],
)
def test_an_address_that_does_not_answer_is_said(address, says):
    pytest.importorskip("ray", reason="needs Ray: pip install 'avrobust[ray]'")
    with pytest.raises(WorkerError, match=says), on_ray.connected(address):
        pass


def test_ray_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    says = r'expected the package ray, .* pip install "avrobust\[ray\]"'
    with pytest.raises(MissingExtraError, match=says), on_ray.connected("ray"):
        pass


def test_needs_that_make_no_sense_are_refused():
    for needs in ({"workers": 0}, {"cpus": 0}, {"gpus": -1}, {"memory_gb": -2.0}, {"device": "abacus"}):
        with pytest.raises(ValueError, match=r"expected .* got '?(0|-1|-2\.0|abacus)'?"):
            Machines(**needs)


class Ref:
    """What Ray would return: a value, or an error."""

    def __init__(self, work, args):
        self._done = Future()
        try:
            self._done.set_result(work(*args))
        except Exception as error:
            self._done.set_exception(error)

    def future(self):
        return self._done


@contextmanager
def without_the_package():
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(avrobust.study, "worker")
        patch.setitem(sys.modules, "avrobust.study.worker", None)
        yield


class StandIn:
    """As much of Ray as a study uses, on no other machine."""

    util = SimpleNamespace(
        scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: (node, soft))
    )
    exceptions = SimpleNamespace(RayError=OSError)

    node = nullcontext  # where tasks are done

    def __init__(self):
        self.asked = []

    def nodes(self):
        return [{"NodeID": n, "Alive": n < 2, "NodeManagerHostname": f"node{n}"} for n in range(3)]

    def cluster_resources(self):
        return {"GPU": 2.0}

    def put(self, value):
        return value

    def remote(self, **needs):
        self.asked.append(needs)

        def wrapped(work):
            if isinstance(work, type):
                made = work()
                return SimpleNamespace(
                    remote=lambda: SimpleNamespace(
                        put=SimpleNamespace(remote=made.put), take=SimpleNamespace(remote=made.take)
                    )
                )

            def remote(*args):
                with self.node():
                    return Ref(work, args)

            return SimpleNamespace(remote=remote)

        return wrapped

    def wait(self, refs, num_returns, timeout):
        return refs, []

    def get(self, ref, timeout=None):
        return ref.future().result() if isinstance(ref, Ref) else ref

    def cancel(self, ref, force):
        pass


def test_every_node_is_asked_for_the_package_the_study_and_the_folders(tmp_path):
    ray, parcel, (out, data) = StandIn(), Parcel.of(study), (tmp_path / "run", tmp_path / "data")
    out.mkdir()
    with Lock(out / DRIVER) as lock:
        with pytest.raises(WorkerError, match=r"expected the folder of prepared clips \S+data on \S+ .* \(--cache\)"):
            on_ray.check_nodes(ray, parcel, out, lock.holder, data)
        data.mkdir()
        on_ray.check_nodes(ray, parcel, out, lock.holder, data)
        assert [needs["scheduling_strategy"] for needs in ray.asked[-2:]] == [(0, False), (1, False)]
        with pytest.raises(WorkerError, match=r"expected the folder of the run \S+run on \S+ .* \(--out\)"):
            on_ray.check_nodes(ray, parcel, out, "process 1 on another host", data)
        ray.node = without_the_package
        with pytest.raises(WorkerError, match=r"expected the package avrobust on the node \S+ with .*Install it there"):
            on_ray.check_nodes(ray, parcel, out, lock.holder, data)


def test_a_task_has_its_needs_its_errors_come_through_and_a_lost_one_is_lost(monkeypatch):
    def doing(worker, task, inbox):
        inbox.put.remote(task.name, "45%")
        if task.model == "fine":
            return Notes()
        error = ConnectionError("worker died")
        if task.model == "raises":
            error.cause = OSError("no space left")  # as Ray keeps what a task raised
        raise error

    ray = StandIn()
    monkeypatch.setattr(on_ray, "_work", doing)
    executor = on_ray.OnRay(ray, Worker(Parcel.of(study), 3, "nobody"), None, None, 2**30)
    assert ray.asked[0] == {"num_cpus": 3, "num_gpus": 1, "max_retries": on_ray.RETRIES, "memory": 2**30}
    fine, raises, dies = map(executor.submit, TASKS)
    assert isinstance(fine.result(), Notes)
    with pytest.raises(OSError, match="no space left"):
        raises.result()
    assert dies.result() == Lost("killed its process, or lost its node (ConnectionError)")
    executor._running["training fine (seed 0)"] = None
    assert executor.status() == "45%"
    executor.close()
