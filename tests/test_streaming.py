"""Test sets of any size: clips are read when they are needed, little is kept of them, and results stay what they are."""

import weakref

import numpy as np
import pytest
import torch

from avrobust import AV, FGSM, PGD, Batch, Seeds, Threat, engine, evaluate
from avrobust.attacks import ANYTHING, Elsewhere, Mute, Noise, Swap
from avrobust.corruptions import Corruption
from avrobust.evaluation import evaluator
from avrobust.evaluation.budget_grid import BudgetGrid, evaluate_budgets
from avrobust.evaluation.channels import Lossless, Sent
from avrobust.evaluation.evaluator import Evaluator
from avrobust.media import ClipSpec
from avrobust.media.decode import Clip
from avrobust.training import StoredBatches, View
from nets import in_batches, linear, network

THREAT = Threat.linf(audio=0.02, visual="4/255")


class Clips:
    """Twelve clips that are made when they are read, and a list of those that were."""

    spec, classes = ClipSpec(seconds=1.0, rate=96, fps=2.0, size=8), ("a", "b", "c", "d")

    def __init__(self):
        self.read = []

    def ids(self, split):
        return tuple(f"clip/{i}" for i in range(12))

    def label(self, id):
        return int(id.partition("/")[2]) % 4

    def __getitem__(self, id):
        self.read.append(id)
        g = np.random.default_rng(int(id.partition("/")[2]))
        wave, frames = g.uniform(-0.8, 0.8, 96).astype(np.float32), g.integers(0, 256, (2, 8, 8, 3), np.uint8)
        return Clip(wave, frames, (0.0, 0.0, 1.0, 1.0), ())


def stored(size=4):
    return StoredBatches(Clips(), "test", View(samples=96, frames=2, size=8), size)


def test_stored_batches_are_read_anew_and_any_of_their_clips_alone():
    batches = stored()
    assert batches.ids == Clips().ids("test") and batches.labels == tuple(i % 4 for i in range(12))
    assert batches.store.read == []
    whole, again = Batch.join(batches), Batch.join(batches)
    assert len(batches.store.read) == 24
    some = batches.pick([7, 2])
    assert batches.store.read[24:] == ["clip/7", "clip/2"] == list(some.ids)
    for a, b, c in zip(whole.x, again.x, some.x, strict=True):
        assert torch.equal(a, b) and torch.equal(a[[7, 2]], c)
    assert some.label.tolist() == [3, 2]


@pytest.mark.parametrize("make", [network, lambda: linear], ids=["network", "callable"])
def test_no_more_than_a_few_batches_are_in_memory(monkeypatch, make):
    alive, most = weakref.WeakSet(), []

    def watched(batch):
        own = Batch(batch.x.map(torch.clone), batch.label, batch.ids)
        alive.add(own.x.audio)
        most.append(len(alive))
        return own

    monkeypatch.setattr("avrobust.evaluation.batches.own_copy", watched)
    monkeypatch.setattr(evaluator, "JOINED", 0)
    monkeypatch.setattr(evaluator, "KEPT", 0)
    evaluate(make(), stored(2), [FGSM(), Sent(Lossless())], THREAT)
    assert len(most) >= 6 * (2 + 2 * 3) and max(most) <= 3


@pytest.mark.parametrize("kept", [0, 1500])  # no batch, and the first of three
def test_results_do_not_depend_on_what_is_kept(monkeypatch, kept):
    net, attacks = network(), [FGSM(), PGD(steps=2, stop=True)]
    monkeypatch.setattr(evaluator, "JOINED", 0)
    everything = evaluate(net, stored(), attacks, THREAT)
    monkeypatch.setattr(evaluator, "KEPT", kept)
    rows = evaluate(net, stored(), attacks, THREAT)
    for name in rows.data.column_names:  # bit by bit; nan is nan here
        np.testing.assert_array_equal(rows.column(name), everything.column(name), err_msg=name)


def test_a_plane_of_budgets_is_searched_group_by_group(monkeypatch):
    threats = [*BudgetGrid(THREAT, levels=2).cells, *BudgetGrid(THREAT, floor_db=6, step_db=3).ladder]
    monkeypatch.setattr(evaluator, "JOINED", 0)  # several batches, the last of them in a group of its own
    whole = evaluate_budgets(Evaluator(network(), stored(5)), PGD(steps=3), threats)
    monkeypatch.setattr(evaluator, "HELD", 10 * (96 + 2 * 3 * 8 * 8))
    groups = evaluate_budgets(Evaluator(network(), stored(5)), PGD(steps=3), threats)
    assert (groups.attacks, groups.checked, groups.missed) == (whole.attacks, whole.checked, whole.missed)
    for column in ("clip", "threat", "correct", "how"):
        assert groups.rows[column].equals(whole.rows[column])


def test_controls_corruptions_and_channels_build_no_surrogate(monkeypatch):
    def none(*_):
        raise AssertionError("a surrogate was built")

    monkeypatch.setattr(engine, "surrogate", none)
    batches = stored()
    controls = [Mute(), Noise(), Swap(batches), Elsewhere(batches), Corruption("gaussian"), Sent(Lossless())]
    assert len(evaluate(network(), batches, controls, ANYTHING)) == 12 * (1 + 3 * len(controls))
    with pytest.raises(AssertionError, match="a surrogate was built"):
        evaluate(network(), batches, FGSM(), THREAT)


@pytest.mark.parametrize("control", [Swap, Elsewhere])
def test_a_swap_reads_the_partners_only(control):
    batches = stored()
    listed = control(in_batches(Batch.join(batches), 5))
    batches.store.read.clear()
    x = AV(torch.zeros(3, 96), torch.zeros(3, 2, 3, 8, 8))
    seeds = Seeds(0, ("clip/0", "clip/5", "elsewhere"))
    swapped = control(batches)(linear, x, torch.tensor([0, 1, 2]), ANYTHING, seeds)
    assert len(batches.store.read) == 3
    for a, b in zip(swapped, listed(linear, x, torch.tensor([0, 1, 2]), ANYTHING, seeds), strict=True):
        assert torch.equal(a, b)
