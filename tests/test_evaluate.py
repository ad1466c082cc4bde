import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from avrobust import AV, FGSM, PGD, Batch, BudgetError, Published, Rows, Threat, evaluate
from avrobust.evaluation.inputs import InputError
from avrobust.models.network import AVNet
from nets import clips, in_batches, linear, network, reordered

THREAT = Threat.linf(audio=0.02, visual="4/255")


def changed(**x):
    batch = clips()
    return Batch(AV(**(dict(batch.x.items()) | x)), batch.label, batch.ids)


def test_one_threat_is_tried_on_sound_on_picture_and_on_both():
    rows = evaluate(linear, [clips()], [FGSM(), PGD(steps=3)], THREAT)
    assert [c.column("subset")[0] for c in rows.cells()] == ["clean", "A", "V", "AV", "A", "V", "AV"]
    assert len(rows) == 7 * 6
    clean = rows.where(subset="clean")
    assert (clean.column("margin") == clean.column("margin_clean")).all()
    both = rows.where(subset="AV", attack="PGD-3")
    assert both.column("used_audio").max() <= 1 + 1e-5
    assert both.column("linf_visual").max() == pytest.approx(4 / 255, rel=1e-4)
    assert np.isnan(rows.where(subset="A").column("used_visual")).all()
    assert np.isinf(rows.where(subset="V").column("snr_db")).all()


# Of a margin: what float32 may be off, and what signs of small gradients that bfloat16 turns round may cost.
@pytest.mark.parametrize(("precision", "off"), [("float32", 1e-3), ("bfloat16", 0.05)])
def test_clips_of_many_batches_are_attacked_together_unless_the_model_is_somebody_s_own(monkeypatch, precision, off):
    batch, net, calls = clips(10), network(), []

    def counted(model, x, y, threat, seeds):
        calls.append(seeds.ids)
        return FGSM()(model, x, y, threat, seeds)

    def rows(model):
        calls.clear()
        parts = [batch.take(range(i, i + 2)) for i in range(0, 10, 2)]
        return evaluate(model, parts, [counted], THREAT.only("A"), precision=precision), list(calls)

    found, together = rows(net)
    assert together == [batch.ids]
    own, apart = rows(lambda x: net(x))
    assert [len(ids) for ids in apart] == [2] * 5
    assert np.allclose(found.column("margin"), own.column("margin"), rtol=0, atol=off)
    numbers = sum(s[0].numel() for s in batch.x)
    monkeypatch.setattr("avrobust.evaluation.run.TOGETHER", 5 * numbers)  # two batches of two, not three
    some, pools = rows(net)
    assert [len(ids) for ids in pools] == [4, 4, 2]
    assert list(some.data["clip"]) == list(found.data["clip"])


def test_batches_do_not_change_results():
    batch, net = clips(6), network()
    halves = [Batch(batch.x.map(lambda s, p=p: s[p]), batch.label[p], batch.ids[p]) for p in (slice(0, 4), slice(4, 6))]
    whole = evaluate(net, [batch], [PGD(steps=4)], THREAT, precision="float32")
    split = evaluate(net, halves, [PGD(steps=4)], THREAT, precision="float32")
    assert whole.column("clip").tolist() == split.column("clip").tolist()
    assert np.allclose(whole.column("margin"), split.column("margin"), atol=1e-3)


def test_reported_predictions_are_the_model_s_own():
    net, batch = network(), clips()
    seen = {}

    def attack(model, x, y, threat, seeds):
        seen["adv"] = PGD(steps=3)(model, x, y, threat, seeds)
        return seen["adv"]

    rows = evaluate(net, [batch], [attack], THREAT.only("A"))
    with torch.no_grad():
        logits = net(seen["adv"])
    assert rows.where(attack="attack").column("pred").tolist() == logits.argmax(1).tolist()


def test_an_attack_that_leaves_its_budget_is_refused_and_the_published_one_is_measured():
    def mine(model, x, y, threat, seeds):
        return AV(audio=(x.audio + 0.03).clamp(-1, 1), visual=x.visual)

    with pytest.raises(BudgetError, match="mine left its audio budget on clip 'clip/0'"):
        evaluate(linear, [clips()], [mine], THREAT)
    rows = evaluate(network(), [clips()], [Published("MIM")], Threat.tian2021(visual=0.01))
    cell = rows.where(attack="MIM-10 published")
    assert cell.column("used_visual").max() > 5
    assert set(cell.column("mode")) == {"published"}


BAD_CLIPS = {
    "loud": ({"audio": clips().x.audio * 2}, r"audio should lie in \[-1, 1\]"),
    "bytes": ({"visual": clips().x.visual * 255}, r"visual should lie in \[0, 1\], got \[0, 25"),
    "normalised": ({"visual": clips().x.visual * 4 - 2}, "before normalisation"),
    "nan": ({"audio": clips().x.audio * math.nan}, "clip 'clip/0' is not finite"),
    "stereo": ({"audio": torch.zeros(6, 2, 96)}, r"audio should be shaped \(b n\), got \(6, 2, 96\)"),
    "one frame": ({"visual": torch.zeros(6, 3, 8, 8)}, "time axis"),
    "integers": ({"visual": torch.zeros(6, 1, 3, 8, 8, dtype=torch.uint8)}, "Divide 8-bit frames by 255"),
    "short": ({"audio": torch.zeros(5, 96)}, "as many audio clips"),
}


@pytest.mark.parametrize(("x", "match"), BAD_CLIPS.values(), ids=BAD_CLIPS)
def test_clips_that_are_no_signals_are_refused(x, match):
    with pytest.raises(InputError, match=match):
        evaluate(linear, [changed(**x)], [FGSM()], THREAT)


BAD_MODELS = {
    "training": (network().train(), r"training mode.*model.eval\(\)"),
    "probabilities": (lambda x: linear(x).softmax(1), "Return logits"),
    "nan": (lambda x: linear(x) * math.nan, "not finite on clip 'clip/0'"),
    "tuple": (lambda x: (linear(x),), "tensor of logits, got tuple"),
    "shape": (lambda x: linear(x)[0], r"logits shaped \(6, classes\)"),
    "classes": (lambda x: linear(x)[:, :3], r"labels should lie in 0…2"),
}


@pytest.mark.parametrize(("model", "match"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_models_that_are_not_ready_are_refused(model, match):
    with pytest.raises(InputError, match=match):
        evaluate(model, [clips()], [FGSM()], THREAT)


class Guard(torch.nn.Module):
    """One that has dropout, in training mode as every new module is."""

    def __init__(self):
        super().__init__()
        self.drop = torch.nn.Dropout()

    def forward(self, f):
        return f.map(self.drop)


def test_a_layer_left_in_training_mode_is_refused_and_a_part_without_one_is_not():
    net = network()
    net.guard = Guard()
    with pytest.raises(InputError, match=r"Dropout 'guard.drop' is in training mode"):
        evaluate(net, [clips()], [FGSM()], THREAT)
    net.guard = torch.nn.Identity()
    assert net.guard.training and len(evaluate(net, [clips()], [FGSM()], THREAT))


class Shuffled:
    """Clips in another order at every pass, as a loader for training gives them."""

    def __init__(self, batch, keep_ids=True, size=None):
        self.batch, self.keep_ids, self.size, self.passes = batch, keep_ids, size or len(batch), 0

    def __iter__(self):
        self.passes += 1
        order = torch.randperm(len(self.batch), generator=torch.Generator().manual_seed(self.passes))[: self.size]
        new = reordered(self.batch, order)
        yield new if self.keep_ids else replace(new, ids=self.batch.ids[: self.size])


@pytest.mark.parametrize("model", [network(), linear], ids=["AVNet", "callable"])
@pytest.mark.parametrize("keep_ids", [True, False])
def test_batches_that_differ_between_passes_are_refused(model, keep_ids):
    with pytest.raises(
        InputError, match=r"the same in each pass .* clip \d first 'clip/\d' of class \d .* Neither shuffle"
    ):
        evaluate(model, Shuffled(clips(), keep_ids), [FGSM()], THREAT)


@pytest.mark.parametrize("later", [4, 0, 8])
def test_a_pass_with_other_clips_than_the_first_is_refused(later):
    class Changing:
        passes = 0

        def __iter__(self):
            self.passes += 1
            yield from in_batches(clips(8).take(range(6 if self.passes == 1 else later)), 2)

    with pytest.raises(InputError, match=r"then none|first none"):
        evaluate(linear, Changing(), [FGSM()], THREAT)


def test_two_attacks_of_one_name_are_refused():
    with pytest.raises(InputError, match=r"PGD-10 within audio linf 0.02, visual untouched 2 times"):
        evaluate(linear, [clips()], [PGD(step=0.01), PGD()], THREAT)


def test_a_network_that_computes_something_else_is_asked_as_it_is():
    class Contrary(AVNet):
        def represent(self, x):
            return super().represent(x).map(torch.neg)

    plain, batch = network(), clips(40)
    contrary, hooked = network(), network()
    contrary.__class__ = Contrary
    hooked.register_forward_hook(lambda net, args, logits: -logits)
    for net in (contrary, hooked):
        with torch.no_grad():
            own = replace(batch, label=net(batch.x).argmax(1))
            assert (plain(batch.x).argmax(1) != own.label).any()
        rows = evaluate(net, [own], [FGSM()], Threat.linf(audio=1e-6))
        assert rows.column("correct").all()


def test_the_same_id_twice_is_refused():
    batch = clips(2)
    with pytest.raises(InputError, match="'a' stands twice"):
        evaluate(linear, [Batch(batch.x, batch.label, ("a", "a"))], [FGSM()], THREAT)


def test_no_clips_is_an_error():
    with pytest.raises(ValueError, match="at least one batch"):
        evaluate(linear, [], [FGSM()], THREAT)


def test_rows_round_trip_with_missing_values(tmp_path):
    rows = Rows.of(
        {
            "model": "m",
            "clip": ["a", "b"],
            "margin": [1.5, math.nan],
            "status": ["ok", "no audio stream"],
            "correct": [True, None],
        }
    )
    rows.save(tmp_path / "rows.parquet")
    again = Rows.load(tmp_path / "rows.parquet")
    assert again.data.equals(rows.data) or str(again.data.to_pylist()) == str(rows.data.to_pylist())
    assert again.column("correct").tolist() == [True, None]
    empty = Rows.concat([])
    empty.save(tmp_path / "empty.parquet")
    assert len(Rows.load(tmp_path / "empty.parquet")) == 0


def test_what_could_not_be_read_lowers_the_count_and_not_the_accuracy():
    rows = Rows.of(
        {"model": "m", "clip": ["a", "b", "c"], "status": ["ok", "ok", "cut short"], "correct": [True, False, None]}
    )
    assert (rows.accuracy().k, rows.accuracy().n) == (1, 2)
