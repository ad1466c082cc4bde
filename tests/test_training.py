"""Views, recipes, checkpoints and the loop: aligned, seeded, resumable, and clear about what cannot be used."""

import csv
import io
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_bytes
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from avrobust import progress
from avrobust.cli import main
from avrobust.config import from_plain, to_plain
from avrobust.data.shards import content
from avrobust.media.decode import Clip
from avrobust.media.spec import ClipSpec
from avrobust.models import AVNet, Loss, NetSpec
from avrobust.papers.tian2021 import recipes
from avrobust.seeds import Seeds
from avrobust.training import (
    Augment,
    CheckpointError,
    Recipe,
    Trained,
    TrainingError,
    View,
    batches,
    checkpoint,
    cross_entropy,
    load,
    save,
    state,
    train,
    weights_sha256,
)
from avrobust.training.recipe import set_rates
from avrobust.training.views import cut, prefetched, subset
from avrobust.types import AV, Batch

SPEC = ClipSpec(seconds=1.0, rate=8000, fps=4.0, size=40)
VIEW = View(samples=4096, frames=2, size=32)
SMALL = NetSpec(classes=3, width=16)
RECIPE = replace(Recipe(), epochs=4, batch=4, precision="float32")


class Toys:
    """Clips of three classes that a small network can learn: a tone and a colour each."""

    spec = SPEC
    classes = ("low", "middle", "high")

    def __init__(self, train: int = 13, val: int = 9) -> None:
        self._ids = {
            "train": tuple(f"t{i}" for i in range(train)),
            "val": tuple(f"v{i}" for i in range(val)),
        }

    def ids(self, split: str) -> tuple[str, ...]:
        return self._ids[split]

    def label(self, id: str) -> int:
        return int(id[1:]) % 3

    def __getitem__(self, id: str) -> Clip:
        k, g = self.label(id), np.random.default_rng(int(id[1:]) + 1000 * (id[0] == "v"))
        time = np.arange(SPEC.samples) / SPEC.rate
        wave = 0.4 * np.sin(2 * np.pi * 300 * (k + 1) * time) + 0.05 * g.standard_normal(SPEC.samples)
        frames = g.integers(0, 120, (SPEC.frames, SPEC.size, SPEC.size, 3))
        frames[..., k] += 100
        return Clip(wave.astype(np.float32), frames.astype(np.uint8), (0.0, 0.0, 1.0, 1.0), ())


def run(out: Path, recipe: Recipe = RECIPE, seed: int = 0, **options: object) -> Trained:
    return train(SMALL.build(seed), Toys(), recipe, view=VIEW, out=out, seed=seed, **{"progress": False} | options)


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in net.state_dict().items()}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


# --- views


def ramp(samples: int = SPEC.samples) -> Clip:
    """A clip that says where it was cut: sample i is i / samples, frame j is full of j, corners differ."""
    frames = np.zeros((SPEC.frames, SPEC.size, SPEC.size, 3), np.uint8)
    frames[..., 0] = np.arange(SPEC.frames)[:, None, None]
    frames[..., 1] = np.arange(SPEC.size)[:, None]
    frames[..., 2] = np.arange(SPEC.size)
    wave = np.arange(samples, dtype=np.float32) / samples
    return Clip(wave, frames, (0.0, 0.0, 1.0, 1.0), ())


def test_the_evaluation_view_is_the_centre() -> None:
    x = cut(ramp(), SPEC, View(samples=4000, frames=2, size=32))
    np.testing.assert_allclose(x.audio * SPEC.samples, np.arange(2000, 6000), atol=1e-2)
    assert x.visual.shape == (2, 32, 32, 3)
    # The sound runs from 0.25 to 0.75 s; its two halves have their middles at 0.375 and 0.625 s, in frames 1 and 2.
    assert x.visual[:, 0, 0, 0].tolist() == [1, 2]
    assert x.visual[0, [0, -1], 0, 1].tolist() == [4, 35]
    assert x.visual[0, 0, [0, -1], 2].tolist() == [4, 35]


@pytest.mark.parametrize("frames", [1, 2, 3, 8])
def test_training_views_keep_sound_and_picture_aligned(frames: int) -> None:
    starts, corners, mirrored, volumes = set(), set(), set(), []
    for seed in range(60):
        x = cut(ramp(), SPEC, View(samples=2000, frames=frames, size=32), np.random.default_rng(seed))
        step = float(x.audio[1] - x.audio[0]) * SPEC.samples  # the volume: samples rise by 1
        start = round(float(x.audio[0]) / step * SPEC.samples)
        middles = (start + (np.arange(frames) + 0.5) / frames * 2000) / SPEC.rate
        assert x.visual[:, 0, 0, 0].tolist() == [int(s * SPEC.fps) for s in middles]
        assert x.audio.dtype == np.float32
        assert np.abs(x.audio).max() <= 1
        starts.add(start)
        corners.add((int(x.visual[0, 0, 0, 1]), int(min(x.visual[0, 0, [0, -1], 2]))))
        mirrored.add(bool(x.visual[0, 0, 0, 2] > x.visual[0, 0, -1, 2]))
        volumes.append(step)
    assert len(starts) > 40
    assert len(corners) > 30
    assert mirrored == {True, False}
    assert min(volumes) > 0.49
    assert max(volumes) < 1.51
    assert max(volumes) - min(volumes) > 0.7


def test_a_view_belongs_to_seed_epoch_and_clip() -> None:
    """Neither the batch, nor the shard, nor the start changes what a clip gives."""

    def by_id(augment: Augment, **options: int | tuple[int, int]) -> dict[str, Tensor]:
        found = batches(Toys(), "train", VIEW, **{"batch_size": 4} | options, augment=augment)
        return {id: torch.cat([b.x.audio[i], b.x.visual[i].flatten()]) for b in found for i, id in enumerate(b.ids)}

    first = by_id(Augment(0, 0))
    assert len(first) == 12  # of 13: the last batch would not be whole
    for other in (
        by_id(Augment(0, 0), batch_size=3),
        by_id(Augment(0, 0), shard=(1, 2)),
        by_id(Augment(0, 0), start=2),
    ):
        assert other.keys() & first.keys()
        assert all(torch.equal(first[id], other[id]) for id in other.keys() & first.keys())
    assert list(by_id(Augment(0, 0), start=2)) == list(first)[8:]
    assert sorted([*by_id(Augment(0, 0), shard=(0, 2)), *by_id(Augment(0, 0), shard=(1, 2))]) == sorted(first)
    for augment in (Augment(0, 1), Augment(1, 0)):
        other = by_id(augment)
        assert list(other) != list(first)
        assert not any(torch.equal(first[id], other[id]) for id in other.keys() & first.keys())


def test_batches_of_a_whole_split() -> None:
    found = list(batches(Toys(), "val", VIEW, 4))
    assert [len(b) for b in found] == [4, 4, 1]
    assert [id for b in found for id in b.ids] == list(Toys().ids("val"))
    b = found[0]
    assert b.x.audio.shape == (4, 4096)
    assert b.x.visual.shape == (4, 2, 3, 32, 32)
    assert b.x.audio.dtype == b.x.visual.dtype == torch.float32
    assert b.label.tolist() == [0, 1, 2, 0]
    assert 0 <= b.x.visual.min() < b.x.visual.max() <= 1
    expected = cut(Toys()["v1"], SPEC, VIEW)
    assert torch.equal(b.x.visual[1], torch.tensor(expected.visual.transpose(0, 3, 1, 2) / np.float32(255)))
    assert [len(b) for b in batches(Toys(train=3), "train", VIEW, 8, augment=Augment(0, 0))] == [3]


def test_limits_are_nested_and_ordered() -> None:
    ids = [f"c{i}" for i in range(50)]
    few, more = subset(ids, 10), subset(ids, 20)
    assert len(few) == 10
    assert set(few) < set(more)
    assert list(few) == sorted(few, key=ids.index)
    assert few != tuple(ids[:10])
    assert [b.ids for b in batches(Toys(), "val", VIEW, 9, limit=4)] == [subset(Toys().ids("val"), 4)]


def test_views_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"clip 'v0': expected at least 9000 samples of audio, got 8000\. Prepare"):
        next(batches(Toys(), "val", View(samples=9000, size=32), 4))
    with pytest.raises(ValueError, match=r"clip 'v0': expected frames of at least 64 pixels, got 40 x 40\. Prepare"):
        next(batches(Toys(), "val", View(samples=4096, size=64), 4))
    with pytest.raises(ValueError, match=r"expected clips in the split 'val', got none"):
        next(batches(Toys(val=0), "val", VIEW, 4))
    with pytest.raises(ValueError, match="at least 1 frames, got 0"):
        View(frames=0)


# --- recipes


def test_a_shorter_training_slows_down_as_early_as_it_should(tmp_path, monkeypatch) -> None:
    published = recipes.PUBLISHED
    short, once = published.for_epochs(20), recipes.PUBLISHED_30.for_epochs(1)
    assert (short.epochs, short.drops) == (20, (6, 12, 18))
    assert published.for_epochs(100) == published
    assert once.factor(0, 10) == once.factor(9, 10) == 1.0

    asked = Mock(side_effect=KeyboardInterrupt)  # no training
    for name in ("prepared", "rehearsed"):
        monkeypatch.setattr(f"avrobust.cli.train.{name}", Mock(return_value=Mock(classes=("a", "b"))))
    monkeypatch.setattr("avrobust.cli.train.train", asked)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").touch()
    words = ["train", "--data", str(tmp_path), "--out", str(tmp_path / "o"), "--recipe", "published", "--epochs", "20"]
    assert main(words) == 130
    assert asked.call_args.args[2] == short


def test_onecycle_is_torchs() -> None:
    recipe = Recipe(epochs=5, warmup=0.15)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=5 * 20, pct_start=0.15, cycle_momentum=False
    )
    for step in range(100):
        assert recipe.factor(step, 20) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6, abs=1e-9)
        optimizer.step()
        if step < 99:
            schedule.step()


def test_the_published_recipe_in_numbers() -> None:
    recipe, net = recipes.PUBLISHED, SMALL.build(seed=0)
    optimizer = recipe.build_optimizer(net)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(net.parameters()))
    rates = {}
    for epoch in (0, 29, 30, 60, 90, 99):
        set_rates(optimizer, recipe.factor(epoch * 8, 8))
        rates[epoch] = [group["lr"] for group in optimizer.param_groups]
    assert rates[0] == rates[29] == pytest.approx([1e-3, 1e-4, 1e-3])
    assert rates[30] == pytest.approx([1e-4, 1e-5, 1e-4])
    assert rates[60] == pytest.approx([1e-5, 1e-6, 1e-5])
    assert rates[90] == rates[99] == pytest.approx([1e-6, 1e-7, 1e-6])
    assert all(group["momentum"] == 0.9 and group["weight_decay"] == 1e-4 for group in optimizer.param_groups)


# --- checkpoints


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save(SMALL.build(seed=1), path, {"seed": 1, "val": float("nan"), "classes": ["a", "ü"], "none": None})
    return path


def test_a_checkpoint_rebuilds_its_network(saved: Path) -> None:
    net, meta = load(saved)
    assert not net.training
    assert_same(weights(net), weights(SMALL.build(seed=1)))
    assert weights_sha256(net) == weights_sha256(SMALL.build(seed=1).to(memory_format=torch.channels_last))
    assert weights_sha256(net) != weights_sha256(SMALL.build(seed=2))
    assert np.isnan(meta.pop("val"))
    assert meta == {"seed": 1, "classes": ["a", "ü"], "none": None, "spec": to_plain(net.spec), "feature_defense": None}
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]  # no draft is left


def test_weights_go_into_a_network_that_is_given(saved: Path) -> None:
    net = SMALL.build(seed=2)
    assert load(saved, net)[0] is net
    assert_same(weights(net), weights(SMALL.build(seed=1)))


def torch_file(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


def plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": [0.0] * 30}))


def legacy_torch_file(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)


def half(path: Path) -> None:
    whole = io.BytesIO(path.read_bytes()).getvalue()
    path.write_bytes(whole[: len(whole) // 2])


def few_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5])


def in_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (torch_file, "got a pickle, which can run anything"),
        (legacy_torch_file, "got a pickle, which can run anything"),
        (plain_pickle, "got a pickle, which can run anything"),
        (half, "got one cut short or damaged"),
        (in_header, "got one cut short or damaged"),
        (few_bytes, "got one cut short or damaged"),
        (lambda path: path.write_bytes(b""), "got one cut short or damaged"),
        (lambda path: path.write_text("not a checkpoint at all, but a text\n" * 9), "got something else"),
        (lambda path: path.unlink(), "got no such file"),
        (lambda path: (path.unlink(), path.mkdir()), "got a folder"),
    ],
)
def test_files_that_are_no_checkpoint(saved: Path, spoil: Callable[[Path], object], says: str) -> None:
    spoil(saved)
    with pytest.raises(CheckpointError, match=says) as error:
        load(saved)
    assert str(error.value).startswith(str(saved))


def test_the_checkpoint_of_another_network(saved: Path) -> None:
    net = NetSpec(classes=4, width=16).build(seed=0)
    before = weights(net)
    with pytest.raises(CheckpointError, match=r"'classifier.weight' is \(3, 256\) instead of \(4, 256\)"):
        load(saved, net)
    assert_same(before, weights(net))
    with pytest.raises(CheckpointError, match=r"'visual.backbone.* is not in the network; .* and \d+ more\. Build"):
        load(saved, NetSpec(classes=3, width=16, modality="A").build(seed=0))
    with pytest.raises(CheckpointError, match=r"'fusion.from_visual.weight' is missing"):
        load(saved, NetSpec(classes=3, width=16, fusion="gated-concat").build(seed=0))
    foreign = saved.with_name("foreign.safetensors")
    save_file({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(CheckpointError, match=r"got weights alone\. Build the network and pass it"):
        load(foreign)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("avrobust.training.checkpoint.save_file", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*\. Make room"):
        save(SMALL.build(seed=5), saved, {})
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]
    assert load(saved)[1]["seed"] == 1


def test_two_processes_may_write_one_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a training is started twice: each writes its own whole file, and the last one stays."""
    process = [1]

    def meanwhile(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        save_file(tensors, path, metadata)
        if process == [1]:
            process[0] = 2
            save(SMALL.build(seed=5), saved, {"seed": 2})
            process[0] = 1

    monkeypatch.setattr(os, "getpid", lambda: process[0])
    monkeypatch.setattr("avrobust.training.checkpoint.save_file", meanwhile)
    save(SMALL.build(seed=6), saved, {"seed": 3})
    assert load(saved)[1]["seed"] == 3
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


# --- the loop


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(tmp_path_factory.mktemp("straight") / "AV")


def test_training_learns_and_leaves_what_it_says(straight: Trained) -> None:
    assert [epoch.epoch for epoch in straight.curve] == [1, 2, 3, 4]
    best = straight.curve[straight.best_epoch - 1]
    assert best.val_accuracy == max(epoch.val_accuracy for epoch in straight.curve) > 0.6
    assert straight.curve[-1].train_loss < straight.curve[0].train_loss
    assert straight.seconds == pytest.approx(sum(epoch.seconds for epoch in straight.curve))
    assert sorted(p.name for p in straight.path.parent.iterdir()) == ["curve.csv", "net.safetensors"]
    with (straight.path.parent / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_accuracy"]) for row in rows] == [epoch.val_accuracy for epoch in straight.curve]
    net, meta = load(straight.path)
    assert_same(weights(net), weights(straight.net))
    assert not straight.net.training
    assert (meta["seed"], meta["best_epoch"], meta["val_accuracy"]) == (
        0,
        straight.best_epoch,
        best.val_accuracy,
    )
    assert from_plain(meta["recipe"], Recipe) == RECIPE
    assert from_plain(meta["loss"]) is cross_entropy


def test_an_encoder_with_rate_0_is_frozen(tmp_path: Path) -> None:
    """Its BatchNorm statistics too, which need no gradient to move."""
    trained = run(tmp_path / "AV", replace(RECIPE, epochs=1, lr=AV(audio=2e-3, visual=0.0)))
    before, after = weights(SMALL.build(0)), weights(trained.net)
    assert moved(before, after) == {"audio", "classifier"}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("kept", [{"lr": AV(0.0, 0.0)}, {"head_first": 1}], ids=lambda kept: next(iter(kept)))
def test_what_one_training_kept_as_it_is_learns_in_the_next(tmp_path: Path, kept: dict[str, object]) -> None:
    """After a head, all weights; also where the first training was interrupted."""
    net, options = SMALL.build(0), {"view": VIEW, "seed": 0, "progress": False}
    head, whole = replace(RECIPE, epochs=1, **kept), replace(RECIPE, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        train(net, Toys(), head, out=tmp_path / "interrupted", loss=killed_at(2), **options)
    before = weights(train(net, Toys(), head, out=tmp_path / "head", **options).net)
    train(net, Toys(), whole, out=tmp_path / "whole", **options)
    assert moved(before, weights(net)) == {"audio", "visual", "classifier"}
    again = weights(load(tmp_path / "head" / "net.safetensors")[0])
    assert moved(before, again) == set()


def test_the_kept_weights_are_those_of_the_best_epoch(straight: Trained) -> None:
    right = total = 0
    for batch in batches(Toys(), "val", VIEW, 9):
        with torch.no_grad():
            right += int((straight.net(batch.x).argmax(1) == batch.label).sum())
        total += len(batch)
    assert right / total == straight.curve[straight.best_epoch - 1].val_accuracy


def test_logits_that_are_not_finite_are_never_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their argmax would be class 0."""
    decide = AVNet.decide
    monkeypatch.setattr(AVNet, "decide", lambda net, f: decide(net, f) * (1.0 if net.training else torch.nan))
    assert run(tmp_path / "AV", replace(RECIPE, epochs=1)).curve[0].val_accuracy == 0


def test_the_same_seed_gives_the_same_weights_and_another_others(straight: Trained, tmp_path: Path) -> None:
    torch.manual_seed(12345)
    assert_same(weights(run(tmp_path / "again").net), weights(straight.net))
    assert weights_sha256(run(tmp_path / "other", seed=1).net) != weights_sha256(straight.net)


@dataclass(frozen=True)
class Counted:
    """A loss that counts its calls, and may be interrupted as by Ctrl-C; neither is part of its settings."""

    loss: Loss = cross_entropy
    calls: dict[str, int] = field(default_factory=lambda: {"done": 0, "killed": -1}, init=False, compare=False)

    def __call__(self, net: AVNet, batch: Batch, seeds: Seeds) -> Tensor:
        value = self.loss(net, batch, seeds)
        if self.calls["done"] == self.calls["killed"]:
            raise KeyboardInterrupt
        self.calls["done"] += 1
        return value


def killed_at(step: int, loss: Loss = cross_entropy) -> Counted:
    """The loss, and Ctrl-C in that step."""
    counted = Counted(loss)
    counted.calls["killed"] = step
    return counted


@pytest.mark.parametrize("save_every_s", [0.0, 1e9])
@pytest.mark.parametrize("kills", [(6,), (7,), (1, 1, 4)], ids=str)
def test_a_killed_training_ends_as_if_nothing_had_happened(
    straight: Trained, tmp_path: Path, kills: tuple[int, ...], save_every_s: float
) -> None:
    """Three steps an epoch: killed between epochs, within one, and again and again; saved often, and never."""
    for step in kills:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, loss=killed_at(step), save_every_s=save_every_s)
    assert (tmp_path / "state.safetensors").exists() == (save_every_s == 0)
    (tmp_path / ".state.safetensors.1.part").write_text("killed while writing")
    resumed = run(tmp_path, loss=(counted := Counted()))
    assert counted.calls["done"] == (12 - sum(kills) if save_every_s == 0 else 12)
    assert_same(weights(resumed.net), weights(straight.net))
    untimed = [[replace(epoch, seconds=0.0) for epoch in t.curve] for t in (resumed, straight)]
    assert untimed[0] == untimed[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.csv", "net.safetensors"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_resuming_with_each_optimiser(tmp_path: Path, optimizer: str) -> None:
    recipe = replace(RECIPE, optimizer=optimizer, epochs=2, schedule="steps", drops=(1,))
    whole = run(tmp_path / "whole", recipe)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", recipe, loss=killed_at(4), save_every_s=0.0)
    assert_same(weights(run(tmp_path / "killed", recipe, loss=Counted()).net), weights(whole.net))


def test_a_loss_draws_the_same_after_a_kill_and_reaches_the_features(tmp_path: Path) -> None:
    def noisy(net: AVNet, batch: Batch, seeds: Seeds) -> Tensor:
        f = net.embed(batch.x)
        x = batch.x.map(lambda s: s + 0.01 * seeds.normal(s, "noise"))
        dropped = F.dropout(net.fuse(f), 0.5)  # from torch's global state
        return F.cross_entropy(net(x), batch.label) + F.cross_entropy(net.classify(dropped), batch.label)

    recipe = replace(RECIPE, epochs=2)
    whole = run(tmp_path / "whole", recipe, loss=noisy)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", recipe, loss=killed_at(4, noisy), save_every_s=0.0)
    assert_same(weights(run(tmp_path / "killed", recipe, loss=Counted(noisy)).net), weights(whole.net))


def test_a_finished_training_is_loaded_and_another_refused(straight: Trained) -> None:
    out = straight.path.parent

    def another(net: AVNet, batch: Batch, seeds: Seeds) -> Tensor:
        raise AssertionError("nothing is left to train")

    written = straight.path.stat().st_mtime_ns
    again = run(out)
    assert straight.path.stat().st_mtime_ns == written
    assert_same(weights(again.net), weights(straight.net))
    assert (again.curve, again.best_epoch, again.seconds) == (
        straight.curve,
        straight.best_epoch,
        straight.seconds,
    )
    with pytest.raises(TrainingError, match=r"loss.made by None there.*code.test_training None there"):
        run(out, loss=another)
    with pytest.raises(TrainingError, match=r"recipe.epochs 4 there, 5 asked\. Give another folder"):
        run(out, replace(RECIPE, epochs=5))
    with pytest.raises(TrainingError, match=r"seed 0 there, 1 asked"):
        train(SMALL.build(0), Toys(), RECIPE, view=VIEW, out=out, seed=1, progress=False)
    with pytest.raises(TrainingError, match=r"clips.train 13 there, 14 asked"):
        train(SMALL.build(0), Toys(train=14), RECIPE, view=VIEW, out=out, seed=0, progress=False)
    with pytest.raises(TrainingError, match=r"start [0-9a-f]+ there, "):
        train(SMALL.build(9), Toys(), RECIPE, view=VIEW, out=out, seed=0, progress=False)


@dataclass(frozen=True)
class Weighted:
    """A loss with a setting by name."""

    shares: dict[str, float] = field(default_factory=dict)

    def __call__(self, net: AVNet, batch: Batch, seeds: Seeds) -> Tensor:
        return self.shares.get("all", 1.0) * cross_entropy(net, batch, seeds)


def test_a_training_of_some_weights_only_is_another_training(straight: Trained) -> None:
    net = SMALL.build(0)
    net.visual.requires_grad_(False)
    with pytest.raises(TrainingError, match=r"start [0-9a-f]+ there, [0-9a-f]+, of which \d+ learn nothing"):
        train(net, Toys(), RECIPE, view=VIEW, out=straight.path.parent, seed=0, progress=False)


def test_of_equally_accurate_epochs_one_with_a_loss_is_best() -> None:
    curve = tuple(
        state.Epoch(i + 1, 1.0, loss, 0.5, 0.1, 1.0) for i, loss in enumerate((np.nan, np.inf, 2.0, 1.0, 1.0))
    )
    assert [state.Position(curve=curve[:n]).best_epoch.epoch for n in range(1, 6)] == [1, 1, 3, 4, 4]


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_labels_may_be_numbers_of_numpy(straight: Trained, kind: type) -> None:
    class Counted(Toys):
        def label(self, id: str) -> int:
            return kind(super().label(id))

    again = train(SMALL.build(0), Counted(), RECIPE, view=VIEW, out=straight.path.parent, seed=0, progress=False)
    assert again.curve == straight.curve
    batch = next(iter(batches(Counted(), "val", VIEW, 4)))
    assert cross_entropy(again.net, batch, Seeds(0, batch.ids)).isfinite()


def test_a_training_with_a_setting_more_is_another_training(tmp_path: Path) -> None:
    run(tmp_path, replace(RECIPE, epochs=1), loss=Weighted({"all": 0.5}))
    with pytest.raises(TrainingError, match=r"loss.shares.all 0.5 there, None asked"):
        run(tmp_path, replace(RECIPE, epochs=1), loss=Weighted())


def test_clips_that_changed_under_their_names_are_another_training(straight: Trained) -> None:
    class Louder(Toys):
        def __getitem__(self, id: str) -> Clip:
            clip = super().__getitem__(id)
            return replace(clip, wave=clip.wave * np.float32(1.5)) if id == "v0" else clip

    class Known(Toys):
        def digest(self, id: str) -> str:
            return content(Toys()[id])

    def again(store: Toys) -> Trained:
        out = straight.path.parent
        return train(SMALL.build(0), store, RECIPE, view=VIEW, out=out, seed=0, progress=False)

    with pytest.raises(TrainingError, match=r"data [0-9a-f]+ there, [0-9a-f]+ asked"):
        again(Louder())
    assert_same(weights(again(Known()).net), weights(straight.net))


def test_a_begun_training_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, loss=killed_at(2), save_every_s=0.0)
    with pytest.raises(TrainingError, match=r"state.safetensors: .*recipe.batch 4 there, 5 asked"):
        run(tmp_path, replace(RECIPE, batch=5))
    assert (tmp_path / "state.safetensors").exists()


def test_a_damaged_state_is_refused_in_words_or_taken_up(tmp_path: Path) -> None:
    """A state file cut short, with other names, shapes and texts; nothing but `CheckpointError` comes of it."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, loss=killed_at(5), save_every_s=0.0)
    path, draws = tmp_path / "state.safetensors", np.random.default_rng(0)
    whole, (tensors, meta) = path.read_bytes(), checkpoint.read(path)
    net = SMALL.build(seed=0)
    optimizer = RECIPE.build_optimizer(net)
    assert state.load(path, net, optimizer, 3).step == 5
    begun, (slot, *_) = meta["position"], [name for name in tensors if name.startswith("optimizer.")]
    (best, *_) = [name for name in tensors if name.startswith("best.")]
    texts = [{}, begun | {"step": "5"}, begun | {"step": -1}, begun | {"step": 10**9}, begun | {"curve": []}, None]
    edits = [
        *({"position": text} for text in texts),
        {"position": begun | {"curve": [{"epoch": 1}]}},
        {"position": begun | {"curve": begun["curve"] * 2}},
    ]
    files = [save_bytes(tensors, {"avrobust": json.dumps(meta | edit)}) for edit in edits]
    for name, t in (
        (slot, torch.zeros(7)),
        (slot, torch.zeros(tensors[slot].shape, dtype=torch.long)),
        ("optimizer.x.step", torch.zeros(())),
        ("optimizer.9999.step", torch.zeros(())),
        ("optimizer.0.another", torch.zeros(())),
        (best, torch.zeros(7)),
        ("best.another", torch.zeros(7)),
    ):
        files.append(save_bytes(tensors | {name: t}, {"avrobust": json.dumps(meta)}))
    files += [whole[: int(n)] for n in draws.integers(0, len(whole), 8)]
    for data in files:
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"state.safetensors: expected .*\. \w+ .*"):
            state.load(path, net, optimizer, 3)
    for _ in range(20):  # bytes of the header changed at random
        spoilt = bytearray(whole)
        for i in draws.integers(8, 3000, 4):
            spoilt[i] = draws.integers(256)
        path.write_bytes(spoilt)
        with suppress(CheckpointError):
            assert state.load(path, net, optimizer, 3).step >= 0


def test_batches_made_ahead_are_the_same_and_errors_come_through() -> None:
    store, augment = Toys(), Augment(0, 0)
    plain, ahead = (list(f(batches(store, "train", VIEW, 4, augment=augment))) for f in (iter, prefetched))
    assert [batch.ids for batch in ahead] == [batch.ids for batch in plain]
    assert all(torch.equal(a.x.audio, b.x.audio) for a, b in zip(ahead, plain, strict=True))
    with pytest.raises(ValueError, match="expected clips in the split 'val'"):
        list(prefetched(batches(Toys(val=0), "val", VIEW, 4)))


def test_what_a_feature_defense_learns_is_trained() -> None:
    net = SMALL.build(seed=0)
    net.feature_defense = nn.Linear(2, 2)
    trained = {id(p) for group in RECIPE.build_optimizer(net).param_groups for p in group["params"]}
    assert trained == {id(p) for p in net.parameters()}


class ManyToys(Toys):
    """As `Toys`, but a clip is of its own class and of the first one."""

    def label(self, id: str) -> tuple[float, ...]:
        return tuple(float(k in (0, int(id[1:]) % 3)) for k in range(3))

    def __getitem__(self, id: str) -> Clip:
        return Toys()[id]


def test_multi_label_clips_make_batches_and_no_training(tmp_path):
    (batch,) = batches(ManyToys(3, 3), "val", VIEW, 3)
    assert batch.label.dtype == torch.float32
    assert batch.label.tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    with pytest.raises(TrainingError, match="expected clips of one class each, got multi-label clips"):
        train(SMALL.build(0), ManyToys(), RECIPE, view=VIEW, out=tmp_path, seed=0, progress=False)


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    def nothing(net: AVNet, batch: Batch, seeds: Seeds) -> Tensor:
        return net(batch.x).sum() * torch.nan

    with pytest.raises(TrainingError, match=r"expected a finite loss, got nan in step 0 \(epoch 1\).*clips \(t"):
        run(tmp_path, loss=nothing)
    with pytest.raises(TrainingError, match=r"expected clips in the split 'val', got none"):
        train(SMALL.build(0), Toys(val=0), RECIPE, view=VIEW, out=tmp_path, seed=0, progress=False)
    with pytest.raises(TrainingError, match=r"for the 3 classes of the data, got one for 11"):
        train(
            NetSpec(classes=11, width=16).build(0),
            Toys(),
            RECIPE,
            view=VIEW,
            out=tmp_path,
            seed=0,
            progress=False,
        )
    with pytest.raises(TrainingError, match=r"expected a tracker that is installed .*got 'slate'"):
        run(tmp_path, tracker="slate")


def test_every_modality_trains_in_either_precision(tmp_path: Path) -> None:
    for precision in ("float32", "bfloat16"):
        for modality in ("A", "V"):
            recipe = replace(RECIPE, epochs=1, precision=precision)
            net, out = replace(SMALL, modality=modality).build(0), tmp_path / f"{modality}-{precision}"
            done = train(net, Toys(), recipe, view=VIEW, out=out, seed=0, progress=False)
            assert {p.dtype for p in done.net.parameters()} == {torch.float32}
            assert load(done.path)[1]["dtype"] == f"torch.{precision}"


def test_progress_shows_loss_and_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)  # a line for every step
    run(tmp_path / "AV", replace(RECIPE, epochs=2), progress=True)
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"training AV: 100%, .* left, epoch 2/2, loss \d\.\d{3}, val \d+\.\d%$", last)


def test_curves_go_to_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = run(tmp_path, replace(RECIPE, epochs=2), tracker="tensorboard")
    events = EventAccumulator(str(tmp_path / "curves"))
    events.Reload()
    logged = [event.value for event in events.Scalars("val_loss")]
    assert logged == pytest.approx([epoch.val_loss for epoch in done.curve])


SCRIPT = """
import os, sys
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, {tests!r})
from test_training import RECIPE, cross_entropy, run, weights_sha256

seen = []
def watching(net, batch, seeds):
    seen.append(f"{{float(net.audio.layers[0].weight.double().sum())!r}} {{len(batch)}}")
    return cross_entropy(net, batch, seeds)

done = run(Path({out!r}), replace(RECIPE, epochs=2), loss=watching)
Path({out!r}, "seen" + os.environ["RANK"]).write_text(chr(10).join([*seen, weights_sha256(done.net)]))
"""


def test_two_processes_share_the_work_and_the_weights(tmp_path: Path) -> None:
    """torchrun with gloo: half of each batch each, the same weights at every step, one checkpoint that both load."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), out=str(tmp_path)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    env = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    first, second = ((tmp_path / f"seen{rank}").read_text().splitlines() for rank in (0, 1))
    assert first == second
    *steps, sha256 = first
    assert len(set(steps)) == 6 and all(line.endswith(" 2") for line in steps)
    net, meta = load(tmp_path / "net.safetensors")
    assert weights_sha256(net) == sha256 and len(meta["curve"]) == 2
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
