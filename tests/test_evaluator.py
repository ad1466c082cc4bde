import copy
import math
from collections import namedtuple
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch

from avrobust import AV, FGSM, PGD, Ball, Batch, BudgetError, Published, Rows, Square, Threat, engine, evaluate
from avrobust.attacks import Transfer
from avrobust.evaluation.budget_grid import evaluate_budgets
from avrobust.evaluation.checks import InputError
from avrobust.evaluation.evaluator import Evaluator
from avrobust.evaluation.one_clip import attack_clip
from avrobust.evaluation.probe import probe
from avrobust.facts import Budget
from avrobust.models.network import AVNet
from avrobust.papers.tian2021 import budgets as tian2021
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
        parts = [batch.subset(range(i, i + 2)) for i in range(0, 10, 2)]
        return evaluate(model, parts, [counted], THREAT.only("A"), precision=precision), list(calls)

    found, together = rows(net)
    assert together == [batch.ids]
    own, apart = rows(lambda x: net(x))
    assert [len(ids) for ids in apart] == [2] * 5
    assert np.allclose(found.column("margin"), own.column("margin"), rtol=0, atol=off)
    numbers = sum(s[0].numel() for s in batch.x)
    monkeypatch.setattr("avrobust.evaluation.evaluator.JOINED", 5 * numbers)  # two batches of two, not three
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
    rows = evaluate(network(), [clips()], [Published("MIM")], tian2021.threat(visual=0.01))
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
    "dict": (lambda x: {"scores": linear(x)}, "tensor of logits .b k., got dict with scores"),
    "none": (lambda x: None, "tensor of logits .b k., got NoneType"),
    "shape": (lambda x: linear(x)[0], r"logits shaped \(1, classes\), got \(4,\)"),
    "squeezing": (lambda x: linear(x).squeeze(), r"logits shaped \(1, classes\), got \(4,\).*squeeze"),
    "a class": (AVNet, r"got the class AVNet"),
    "no model": ("resnet", "got str"),
    "two inputs": (
        lambda audio, visual: audio,
        r"one AV of signals \(audio \(1, 96\).*lambda x: net\(x.audio, x.visual\)",
    ),
    "writes picture": (
        lambda x: linear(AV(x.audio, x.visual.sub_(0.1))),
        r"the model wrote into the visual .* 'clip/0'",
    ),
    "writes sound": (lambda x: linear(AV(x.audio.mul_(2), x.visual)), r"wrote into the audio .*x.audio.clone\(\)"),
    "classes": (lambda x: linear(x)[:, :3], r"labels should lie in 0…2"),
}


@pytest.mark.parametrize(("model", "match"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_models_that_are_not_ready_are_refused(model, match):
    with pytest.raises(InputError, match=match):
        evaluate(model, [clips()], [FGSM()], THREAT)


class FeatureDefense(torch.nn.Module):
    """One that has dropout, in training mode as every new module is."""

    def __init__(self):
        super().__init__()
        self.drop = torch.nn.Dropout()

    def forward(self, f):
        return f.map(self.drop)


def test_a_layer_left_in_training_mode_is_refused_and_a_part_without_one_is_not():
    net = network()
    net.feature_defense = FeatureDefense()
    with pytest.raises(InputError, match=r"Dropout 'feature_defense.drop' is in training mode"):
        evaluate(net, [clips()], [FGSM()], THREAT)
    net.feature_defense = torch.nn.Identity()
    assert net.feature_defense.training and len(evaluate(net, [clips()], [FGSM()], THREAT))


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
        InputError, match=r"the same in each pass .* clip \d first 'clip/\d' labelled \d, then .* Neither shuffle"
    ):
        evaluate(model, Shuffled(clips(), keep_ids), [FGSM()], THREAT)


def moving(x: AV) -> AV:
    """Clips whose second frame is the first one, moved."""
    return AV(x.audio, torch.cat([x.visual[:, :1], x.visual[:, :1].roll(2, -1)], 1))


LATER_PASSES = {
    "wave": (lambda x: AV(x.audio.flip(-1), x.visual), "samples"),
    "mirrored": (lambda x: AV(x.audio, x.visual.flip(-1)), "pixels"),
    "shifted": (lambda x: AV(x.audio, x.visual.roll(1, -2)), "pixels"),
    "channels": (lambda x: AV(x.audio, x.visual.flip(2)), "pixels"),
    "frames": (lambda x: AV(x.audio, x.visual.flip(1)), "pixels"),
}


@pytest.mark.parametrize(("change", "parts"), LATER_PASSES.values(), ids=LATER_PASSES)
def test_a_pass_with_the_values_of_a_clip_in_another_order_is_refused(change, parts):
    class Changing:
        change = staticmethod(lambda x: x)

        def __iter__(self):
            batch, made = clips(), self.change
            self.change = change
            yield replace(batch, x=made(moving(batch.x)))

    with pytest.raises(InputError, match=f"then 'clip/0' labelled 0 with other {parts}. Neither shuffle"):
        evaluate(linear, Changing(), [FGSM()], THREAT)


@pytest.mark.parametrize("later", [4, 0, 8])
def test_a_pass_with_other_clips_than_the_first_is_refused(later):
    class Changing:
        passes = 0

        def __iter__(self):
            self.passes += 1
            yield from in_batches(clips(8).subset(range(6 if self.passes == 1 else later)), 2)

    with pytest.raises(InputError, match=r"then none|first none"):
        evaluate(linear, Changing(), [FGSM()], THREAT)


def test_two_attacks_of_one_name_are_refused():
    with pytest.raises(InputError, match=r"PGD-10 within audio linf 0.02, visual untouched 2 times"):
        evaluate(linear, [clips()], [PGD(step=0.3), PGD()], THREAT)


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
    some = {"model": "m", "clip": ["a", "b", "c"], "status": ["ok", "ok", "cut short"], "correct": [True, False, None]}
    rows = Rows.of(some | {"seed": 0, "attack": "none", "subset": "clean"} | Budget().columns())
    assert (rows.accuracy().value, rows.accuracy().n) == (0.5, 2)
    with pytest.raises(ValueError, match="expected rows that say their seed, attack, subset"):
        Rows.of(some).accuracy()


def answers(rows):
    return [str(cell.accuracy()) for cell in rows.cells()]


SMALL = Threat.linf(audio=0.02)
LABELS = [torch.int32, torch.int16, torch.uint8, torch.int64, torch.float32]


@pytest.mark.parametrize("form", [*LABELS, list, tuple, np.array], ids=str)
def test_labels_of_any_plain_type_are_class_numbers(form):
    batch = clips()
    label = batch.label.to(form) if isinstance(form, torch.dtype) else form(batch.label.tolist())
    given = (batch.x.audio, batch.x.visual, label)
    assert answers(evaluate(linear, given, FGSM(), SMALL)) == answers(evaluate(linear, batch, FGSM(), SMALL))


def test_yes_and_no_are_labels():
    batch = clips().subset(range(2))
    yes = torch.tensor([True, False])
    rows = evaluate(lambda x: linear(x)[:, :2], (batch.x.audio, batch.x.visual, yes), FGSM(), SMALL)
    assert rows.where(subset="clean").column("label").tolist() == [1, 0]


BAD_LABELS = {
    "shares": (torch.rand(6) / 2 + 0.25, "Number the classes from 0"),
    "one-hot": (torch.eye(6, 4), r"labels.argmax\(1\)"),
    "words": (list("abcdef"), r"classes.index\(name\)"),
    "one number": (torch.tensor(0), r"wave\[None\]"),
    "none": (None, "class numbers shaped"),
    "too few": ([0, 1], "as many audio clips and ids as labels, got 6 clips"),
    "negative": ([-1] * 6, "labels should lie in"),
}


@pytest.mark.parametrize(("label", "match"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_labels_that_are_no_class_numbers_are_refused(label, match):
    with pytest.raises(InputError, match=match):
        evaluate(linear, (clips().x.audio, clips().x.visual, label), FGSM(), SMALL)


Named = namedtuple("Named", "frames wave label")


@dataclass
class Kept:
    """A batch of somebody's own."""

    audio: torch.Tensor
    visual: torch.Tensor
    label: torch.Tensor


class OneBuffer:
    """A loader that fills the same memory with each batch."""

    def __init__(self):
        self.buffer = clips().subset(range(2))

    def __iter__(self):
        for start in (0, 2, 4):
            batch = clips().subset(range(start, start + 2))
            for mine, new in zip((*self.buffer.x, self.buffer.label), (*batch.x, batch.label), strict=True):
                mine.copy_(new)
            yield replace(self.buffer, ids=batch.ids)


@pytest.mark.parametrize("model", [linear, network()], ids=["own", "AVNet"])
@pytest.mark.parametrize(
    "form", [lambda b: b, iter, lambda b: ((*q.x, q.label, q.ids) for q in b)], ids=["it", "iter", "tuples"]
)
def test_a_loader_may_fill_the_same_memory_with_each_batch(model, form):
    attack = FGSM()
    apart = evaluate(model, [clips().subset(range(k, k + 2)) for k in (0, 2, 4)], attack, SMALL)
    assert (
        evaluate(model, form(OneBuffer()), attack, SMALL).column("margin").tolist() == apart.column("margin").tolist()
    )


def test_batches_listed_from_a_loader_of_one_buffer_are_refused():
    with pytest.raises(InputError, match="batches 0 and 1 in the same memory"):
        evaluate(linear, list(OneBuffer()), FGSM(), SMALL)


NOT_MEANT = {
    "a seed of text": ({"seed": "a"}, "a seed that is a whole number"),
    "half a seed": ({"seed": 1.5}, "a seed that is a whole number"),
    "a rate of text": ({"rate": "16000"}, "sampling rate that is a whole number in Hz, got str '16000'"),
    "half a rate": ({"rate": 0.5}, "a sampling rate"),
    "no rate": ({"rate": math.nan}, "a sampling rate"),
    "no threat": ({"threat": []}, "expected a Threat or several"),
    "a number as threat": ({"threat": 0.02}, "expected a Threat or several, got float 0.02"),
    "no attack": ({"attacks": None}, "expected an attack, got NoneType"),
    "an attack of three": ({"attacks": lambda model, x, y: x}, "takes .model, x, y, threat, seeds."),
    "arrays back": (
        {"attacks": lambda model, x, y, threat, seeds: x.map(torch.Tensor.numpy)},
        "got AV of ndarray and ndarray",
    ),
    "a precision": ({"precision": "float16"}, "'auto', 'float32' or 'bfloat16', got 'float16'"),
    "features first": ({"model": lambda x: (x.audio, linear(x))}, "which are the logits"),
    "another error": ({"model": lambda x: {}["net"]}, "should take one AV of signals .* KeyError"),
    "complex logits": ({"model": lambda x: linear(x) * 1j}, "real logits"),
    "one logit": ({"model": lambda x: linear(x)[:, :1]}, "zeros_like"),
    "class numbers": ({"model": lambda x: linear(x).argmax(1)}, "not the class numbers"),
    "minus infinity": (
        {"model": lambda x: linear(x).index_fill(1, torch.tensor(3), -math.inf)},
        "not finite .* -inf.*-1e4",
    ),
}


@pytest.mark.parametrize(("given", "match"), NOT_MEANT.values(), ids=NOT_MEANT)
def test_what_cannot_be_meant_is_refused_in_words(given, match):
    usual = {"model": linear, "batches": clips(), "attacks": FGSM(), "threat": SMALL}
    with pytest.raises(InputError, match=match):
        evaluate(**(usual | given))


@pytest.mark.parametrize("rate", [16e3, np.float32(16_000), np.int64(16_000)], ids=repr)
def test_a_rate_may_be_a_whole_number_of_any_kind(rate):
    heard = [evaluate(linear, clips(), FGSM(), SMALL, rate=r).column("nmr_db").tolist() for r in (16_000, rate)]
    np.testing.assert_array_equal(*heard)


@pytest.mark.parametrize("name", ["eval", "parameters", "logits"])
def test_an_attack_is_told_that_its_model_is_only_called(name):
    with pytest.raises(AttributeError, match=rf"asks for model\.{name}.*frozen and in evaluation mode"):
        evaluate(linear, clips(), lambda model, x, y, threat, seeds: getattr(model, name)(), SMALL)
    model = copy.copy(engine.Deferred(lambda: linear))
    assert model.made is False and not hasattr(model, "ways") and not hasattr(model, "__array__")
    with pytest.raises(AttributeError, match="of its own"):
        _ = engine.Deferred(lambda: getattr(object(), "of its own")).victim


def test_a_model_has_one_number_of_classes():
    def fewer(x):
        return linear(x)[:, : 4 if x.audio.shape[0] != 2 else 3]

    batch = Batch(clips().x, torch.zeros(6, dtype=torch.long))
    with pytest.raises(InputError, match="of 4 classes on the first batch and of 3 on that of clip '4'"):
        evaluate(fewer, [batch.subset(range(4)), batch.subset(range(4, 6))], FGSM(), SMALL)


def test_a_model_that_writes_into_adversarial_clips_is_found():
    def writes(x):
        if not torch.is_grad_enabled() and not any(torch.equal(a, clips().x.audio[: len(a)]) for a in (x.audio,)):
            x.audio.mul_(0.5)
        return linear(x)

    with pytest.raises(InputError, match="the model wrote into the audio"):
        evaluate(writes, clips(), FGSM(), SMALL)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_network_that_torchscript_froze_is_asked_as_it_is():
    net = torch.jit.freeze(torch.jit.script(torch.nn.Linear(96, 4).eval()))
    assert len(evaluate(lambda x: net(x.audio), clips(), FGSM(), SMALL)) == 12


def test_silence_has_no_budget_relative_to_itself():
    batch = clips()
    silent = Batch(AV(torch.zeros_like(batch.x.audio), batch.x.visual), batch.label)
    for threat in (Threat.l2(audio="5 dB SNR"), Threat(Ball(0.5, "linf", "signal"), Ball(0.0))):
        rows = evaluate(linear, silent, [PGD(), FGSM()], threat)
        assert (rows.where(subset="A").column("linf_audio") == 0).all()
        assert "attack did not move" in {f.name for f in rows.flags()}


def test_a_deaf_model_and_a_budget_below_rounding_raise_no_alarm():
    rows = evaluate(lambda x: linear(x.map(lambda s: s[..., :])), clips(), FGSM(), Threat.linf(audio=1e-9))
    assert rows.where(subset="A").column("used_audio").max() <= 1
    blind = evaluate(lambda x: linear(AV(x.audio, torch.full_like(x.visual, 0.5))), clips(), FGSM(), THREAT)
    for found in (rows, blind):
        assert not {f.name for f in found.flags()} & {
            "attack did not move",
            "an attack left its budget",
            "gradients vanish",
        }


@pytest.mark.parametrize("size", [1, 8, 64])
def test_a_model_is_probed_on_as_many_clips_whatever_the_batches(size):
    sizes: list[int] = []

    def nearly_deaf(x):
        sizes.append(len(x.audio))
        return linear(AV(x.audio * 1e-4, x.visual))

    rows = evaluate(nearly_deaf, in_batches(clips(70), size), [FGSM()], THREAT.only("A"))
    (told,) = rows.about["probes"].values()
    whole = probe(lambda x: linear(AV(x.audio * 1e-4, x.visual)), clips(70))
    assert told["clips"] == 64 and told["moved"] == whole["moved"] and max(sizes) == size
    assert "on 0.0 % of 64" in next(f.text for f in rows.flags() if f.name == "a modality is ignored")


def test_mates_are_seen_as_far_as_batches_have_any():
    model = lambda x: linear(x.map(lambda s: s - s.mean(0)))  # noqa: E731
    found = {size: evaluate(model, in_batches(clips(8), size), [FGSM()], THREAT) for size in (1, 4)}
    shares = {size: rows.about["probes"]["model"]["sociable"] for size, rows in found.items()}
    assert shares == {1: 0.0, 4: 1.0}


def test_only_clips_of_one_length_are_probed_together():
    lengths = [96, 80, 96, 96, 64]
    batches = [Batch(AV(b.x.audio[:, :n], b.x.visual), b.label, b.ids) for b, n in zip(in_batches(clips(5), 1), lengths, strict=True)]  # fmt: skip
    model = lambda x: linear(AV(torch.nn.functional.pad(x.audio, (0, 96 - x.audio.shape[1])), x.visual))  # noqa: E731
    assert evaluate(model, batches, [FGSM()], THREAT).about["probes"]["model"]["clips"] == 3
    alone = evaluate(model, batches[1:2] + batches[:1], [FGSM()], THREAT)
    assert "probed on one clip" in {f.name for f in alone.flags()}


def loaders():
    batch = clips()
    wave, frames, y, ids = batch.x.audio, batch.x.visual, batch.label, list(batch.ids)
    data = torch.utils.data.TensorDataset(wave, frames, y)
    keyed = [{"wav": w, "waveform": w, "Frames": v, "label": k} for w, v, k in data]
    for clip in keyed:
        del clip["wav"]
    return {
        "one batch": batch,
        "tuples": torch.utils.data.DataLoader(data, 4),
        "dicts": torch.utils.data.DataLoader(keyed, 4),
        "with ids": [(wave, frames, y, ids)],
        "pair and label": [((wave, frames), y)],
        "AV and label": (batch.x, y, ids),
        "numpy": [(wave.numpy()[::-1].copy()[::-1], frames.numpy(), y.numpy())],
        "a dict": {"audio": wave, "visual": frames, "labels": y, "id": torch.arange(6)},
        "an iterator": iter([(wave, frames, y)]),
        "an empty one among them": [batch, batch.subset([])],
        "named tuples": [Named(frames, wave, y)],
        "one dataclass": Kept(wave, frames, y),
        "labels in a column": [(wave, frames, y[:, None])],
        "ids of None": [(wave, frames, y, [None] * 6)],
    }


@pytest.mark.parametrize("form", loaders())
def test_batches_are_taken_in_the_forms_that_people_have(form):
    rows = evaluate(linear, loaders()[form], PGD(steps=2, random_start=False), SMALL)
    assert rows.column("margin").tolist() == pytest.approx(
        evaluate(linear, [clips()], [PGD(steps=2, random_start=False)], SMALL).column("margin").tolist(), abs=1e-5
    )
    assert len(set(rows.where(subset="clean").column("clip"))) == 6


NO_BATCHES = {
    "a number": (3, "expected batches of clips, got int"),
    "two tensors": ([(clips().x.audio, clips().x.visual)], "expected a batch of clips, got tuple of Tensor, Tensor"),
    "names": ([["a", "b"]], "expected a batch of clips|AV"),
    "other keys": ([{"a": 1, "b": 2}], "one key for audio .* got .'a', 'b'."),
    "two sounds": ([{"wave": 1, "sound": 2, "frames": 3, "y": 4}], "one key for audio .* got .'wave', 'sound'."),
    "lists of clips": ([(list(clips().x.audio), clips().x.visual, [0] * 6)], "torch.stack"),
    "none": ([clips().subset([])], "at least one batch"),
    "twice": ([clips(), clips()], "'clip/0' stands twice"),
    "a path": ("clips/", "expected batches of clips, got str"),
    "picture first": ([(clips().x.visual, clips().x.audio, [0] * 6)], "audio comes first"),
    "no sound": ([(torch.zeros(6, 0), clips().x.visual, [0] * 6)], r"silence: torch.zeros\(b, 1\)"),
}


@pytest.mark.parametrize(("given", "match"), NO_BATCHES.values(), ids=NO_BATCHES)
def test_what_is_no_batch_is_refused(given, match):
    with pytest.raises(InputError, match=match):
        evaluate(linear, given, FGSM(), SMALL)


@pytest.mark.parametrize("attack", [FGSM, "FGSM", [None], [[FGSM()]]], ids=["class", "text", "none", "list"])
def test_what_is_no_attack_is_refused(attack):
    with pytest.raises(InputError, match="expected an attack, got"):
        evaluate(linear, clips(), attack, SMALL)


def test_an_attack_that_returns_no_signals_is_refused():
    with pytest.raises(InputError, match=r"should return AV\(audio, visual\) of tensors, got tuple"):
        evaluate(linear, clips(), lambda model, x, y, threat, seeds: tuple(x), SMALL)
    with pytest.raises(InputError, match="expected a Threat"):
        evaluate(linear, clips(), FGSM(), [0.1])


class Answer:
    def __init__(self, logits):
        self.logits = logits


FORMS = {
    "tuple": lambda z: (z, "attentions"),
    "list": lambda z: [z],
    "dict": lambda z: {"loss": None, "logits": z},
    "object": Answer,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_logits_are_taken_out_of_what_models_return(form):
    attacks = [FGSM(), PGD(steps=2)]
    rows = evaluate(lambda x: form(linear(x)), clips(), attacks, SMALL)
    assert rows.column("margin").tolist() == evaluate(linear, clips(), attacks, SMALL).column("margin").tolist()


CHANGES = {
    "mode": lambda net: net.train(),
    "statistics": lambda net: net[0].running_mean.add_(1),
    "weights": lambda net: net[1].bias.data.copy_(net[1].bias + 1),
}
ATTACKED = {
    "table": lambda model, batch, attack, threat: evaluate(model, batch, [attack, FGSM()], threat),
    "budgets": lambda model, batch, attack, threat: evaluate_budgets(Evaluator(model, batch), attack, [threat]),
    "clip": lambda model, batch, attack, threat: attack_clip(model, batch.x, attack, threat, classes="abcd"),
}


@pytest.mark.parametrize("attacked", ATTACKED.values(), ids=ATTACKED)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("weight", [0.1, float("nan")])
def test_an_attack_that_changes_the_model_is_refused(change, attacked, weight):
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(96), torch.nn.Linear(96, 4)).eval()
    net.register_buffer("unused", torch.tensor([weight]))  # nan is no change

    def recovers(model, x, y, threat, seeds):
        with torch.no_grad():
            change(net)
        return x

    model, x = lambda x: net(x.audio), clips(1).x
    with pytest.raises(InputError, match="recovers changed the model that it attacks"):
        attacked(model, Batch(x, model(x).argmax(1)), recovers, Threat.linf(audio=0.1))


def test_what_attacks_and_models_write_into_stays_the_harness_s():
    batch = clips()
    kept = batch.x.map(torch.clone)

    def cheat(model, x, y, threat, seeds):
        x.audio.numpy()[:] = kept.audio.flip(0).numpy()  # past torch's own counters of changes
        return x

    with pytest.raises(InputError, match=r"cheat, or the model under it, wrote into the audio .* 'clip/0'"):
        evaluate(linear, [batch], [cheat], SMALL)

    def sly(model, x, y, threat, seeds):
        return AV(x.audio.detach().data.copy_(kept.audio.flip(0)), x.visual)

    with pytest.raises(InputError, match="wrote into the audio"):
        evaluate(linear, [batch], [sly], SMALL)
    assert all(map(torch.equal, batch.x, kept))


def test_logits_that_are_not_finite_under_attack_are_wrong_and_said():
    def overflows(x):
        z, known = linear(x), {tuple(wave.tolist()) for wave in clips().x.audio}
        changed = torch.tensor([tuple(wave.tolist()) not in known for wave in x.audio])
        return torch.where(changed[:, None], z * math.nan, z)

    def shaken(model, x, y, threat, seeds):
        return threat.map(lambda ball, s: ball.project(torch.full_like(s, 0.001), s) + s, x)

    batch = clips()
    with torch.no_grad():
        own = linear(batch.x).argmax(1)
    for y in (own, torch.zeros_like(own)):  # argmax of nan is class 0
        rows = evaluate(overflows, replace(batch, label=y), shaken, SMALL).where(attack="shaken")
        assert not rows.column("correct").any()
        assert set(rows.column("pred")) == {-1}
        [flag] = [f for f in rows.flags() if f.name == "logits not finite"]
        assert flag.level == "alarm" and "6 of 6 clips, first on 'clip/0'" in flag.text


class Held:
    """A network in an attribute, as pipelines hold them."""

    def __init__(self, net):
        self.net = net

    def __call__(self, x):
        return self.net(x)

    def answer(self, x, scale=1.0):
        return self.net(x) * scale


class Switch(torch.nn.Module):
    """Randomness in a layer of somebody's own, asked for by its mode."""

    def forward(self, z):
        return self.hop(z)

    def hop(self, z):
        return z + torch.randn_like(z) if self.training else z


class Simple(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.head, self.layer = torch.nn.Linear(96, 4), layer

    def forward(self, x):
        return self.layer(self.head(x.audio))


WAYS = {
    "bare": lambda net: net,
    "lambda": lambda net: lambda x: net(x),
    "bound": lambda net: net.forward,
    "partial": lambda net: partial(Held(net).answer, scale=2.0),
    "object": Held,
    "default": lambda net: lambda x, net=net: net(x),
    "list": lambda net: lambda x, nets=(net,): nets[0](x),
    "wrapped": lambda net: torch.no_grad()(lambda x: net(x)),
    "nested": lambda net: lambda x: (lambda z: net(z))(x),
}


@pytest.mark.parametrize(
    "layer", [torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(4), Switch()], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_training_mode_is_found_wherever_a_callable_keeps_it(way, layer):
    net = Simple(layer).train()
    with pytest.raises(InputError, match=r"in training mode.*Call model.eval\(\)"):
        evaluate(way(net), clips(), FGSM(), SMALL)
    net.eval()
    if way is not WAYS["wrapped"]:
        evaluate(way(net), clips(), FGSM(), SMALL)


def test_a_layer_that_is_the_same_in_either_mode_may_be_in_any():
    head = torch.nn.Linear(96, 4)
    assert head.training
    evaluate(lambda x: head(x.audio), clips(), FGSM(), SMALL)


def test_the_model_that_an_attack_goes_by_is_not_in_training_mode_either():
    net = Simple(torch.nn.Dropout(0.5)).train()
    with pytest.raises(InputError, match=r"the attack PGD-2 from other.*in training mode"):
        evaluate(linear, clips(), Transfer("other", PGD(steps=2), net), SMALL)


def test_rows_say_what_raises_doubt(tmp_path):
    def restless(x):
        return linear(x) + torch.randn(len(x.audio), 4)

    rows = evaluate(restless, clips(40), PGD(steps=2), SMALL)
    assert {"random outputs", "few clips"} <= {f.name for f in rows.flags()}
    assert "alarm: model gives other logits for the same clip" in rows.table()
    rows.save(tmp_path / "rows.parquet")
    assert Rows.load(tmp_path / "rows.parquet").flags() == rows.flags()
    both = Rows.concat([rows, evaluate(linear, clips(40), PGD(steps=2), SMALL, name="other")])
    assert {f.model for f in both.flags() if f.name == "random outputs"} == {"model"}
    saturated = evaluate(lambda x: 1e5 * linear(x), clips(40), [FGSM(), PGD(steps=2)], SMALL)
    assert "gradients vanish" in {f.name for f in saturated.flags()}


def test_full_scale_may_be_passed_by_rounding():
    batch = clips()
    loud = torch.full_like(batch.x.audio, 1 + 2**-23)
    rows = evaluate(linear, Batch(AV(loud, batch.x.visual), batch.label, batch.ids), FGSM(), THREAT)
    assert rows.where(subset="A").column("used_audio").max() <= 1 + 1e-5
    with pytest.raises(InputError, match=r"got \[1.00001, 1.00001\]"):
        evaluate(linear, Batch(AV(loud + 1e-5, batch.x.visual), batch.label, batch.ids), FGSM(), THREAT)


def test_unnamed_clips_of_many_batches_have_numbers_of_their_own():
    batch = clips(6)
    apart = [Batch(batch.x.map(lambda s, k=k: s[k : k + 2]), batch.label[k : k + 2]) for k in (0, 2, 4)]
    rows = evaluate(linear, apart, PGD(steps=2), SMALL)
    whole = evaluate(linear, Batch(batch.x, batch.label), PGD(steps=2), SMALL)
    assert rows.where(subset="clean").column("clip").tolist() == list("012345")
    assert rows.column("margin").tolist() == pytest.approx(whole.column("margin").tolist(), abs=1e-6)


def test_a_feature_defense_that_writes_into_features_changes_none_that_are_kept():
    class Halved(torch.nn.Module):
        def forward(self, f):
            return f.map(lambda s: s * 0.5)

    class HalvedInPlace(torch.nn.Module):
        def forward(self, f):
            return f.map(lambda s: s.mul_(0.5))

    nets = {kind: network() for kind in (Halved, HalvedInPlace)}
    for kind, net in nets.items():
        net.feature_defense = kind()
    apart, inside = (evaluate(net, clips(), Square(queries=10), THREAT).column("margin") for net in nets.values())
    assert np.allclose(apart, inside, rtol=0, atol=1e-5)


def test_a_column_that_rows_lack_is_refused_in_words():
    with pytest.raises(ValueError, match=r"rows have the columns model, seed, attack, .* got 'atack'"):
        Rows.concat([]).where(atack="FGSM")


def test_a_file_that_holds_no_rows_is_named(tmp_path):
    (tmp_path / "rows.parquet").write_text("no rows")
    with pytest.raises(ValueError, match=r"rows.parquet: expected rows in a Parquet file"):
        Rows.load(tmp_path / "rows.parquet")
