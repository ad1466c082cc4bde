"""Tasks other than one class per clip: labels as they come, metrics against scikit-learn and by hand, refusals, pages."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score

import avrobust as avr
from avrobust import AV, PGD, Rows, Square, Threat, evaluate, report
from avrobust.attacks import APGD, AVAutoAttack
from avrobust.attacks.quantized import Quantized
from avrobust.evaluation import ranking
from avrobust.evaluation.measures import LabelRanking
from avrobust.evaluation.ranking import area_under_curve, average_precision, ranked
from avrobust.evaluation.stats import resampled
from avrobust.evaluation.tags import recall_by_tag
from avrobust.evaluation.tasks import Binary, Classification, Embedding, MultiLabel, Regression, Retrieval
from avrobust.objectives import BinaryCrossEntropy, margin
from avrobust.types import InputError, Output
from nets import clips, linear, network

BATCH = clips(32)
THREAT, FIVE = Threat.linf(audio=0.05), [PGD(steps=5)]
SOUND = BATCH.x.audio[:, :96] - BATCH.x.audio[:, :96].mean(0)
WEIGHTS = torch.linalg.qr(torch.randn(96, 3, generator=torch.Generator().manual_seed(0)))[0] * 4


def logits(x: AV[torch.Tensor]) -> torch.Tensor:
    """Three answers, which have both signs on the clips at hand."""
    return (x.audio[:, :96] - BATCH.x.audio[:, :96].mean(0)) @ WEIGHTS + 0.1 * x.visual.mean((1, 2, 3, 4))[:, None]


CLEAN = logits(BATCH.x)
# Right on most, wrong on some clips; no clip has none, and one has no label.
TRUE = ((CLEAN + 0.05 * torch.randn(CLEAN.shape, generator=torch.Generator().manual_seed(1))) > 0.1).float()


def rows_of(model, label, task, attacks=FIVE, threat=THREAT, **told) -> Rows:
    clips = (BATCH.x.audio, BATCH.x.visual, label, BATCH.ids)
    return evaluate(model, [clips], attacks, [threat], task=task, **told)


def scores(rows: Rows, subset: str) -> np.ndarray:
    return np.stack(rows.where(subset=subset).column("scores").tolist())


# Metrics


def test_metrics_of_ranked_clips_are_those_of_scikit_learn_however_often_clips_count(monkeypatch):
    """Labels and draws are computed in groups; some labels are on few clips, and one on none."""
    monkeypatch.setattr(ranking, "DRAWS", 2)
    monkeypatch.setattr(ranking, "STRETCHES", 20)
    rng, often = np.random.default_rng(0), np.linspace(0.05, 0.9, 20)
    score = rng.integers(0, 8, (40, 20)) / 3  # with ties
    positive = rng.random((40, 20)) < often
    positive[0], positive[1], positive[:, 7] = True, False, False
    times = rng.integers(0, 4, (40, 5)).astype(float)
    times[:2] += 1
    labels = [ranked(s, p) for s, p in zip(score.T, positive.T, strict=True)]
    found = average_precision(labels, times)
    assert np.isnan(found[7]).all() and not np.isnan(np.delete(found, 7, 0)).any()
    for k in set(range(20)) - {7}:
        y, z = positive[:, k], score[:, k]
        assert np.allclose(found[k], [average_precision_score(y, z, sample_weight=t) for t in times.T], rtol=1e-6)
        areas = area_under_curve(labels[k], times)
        assert np.allclose(areas, [roc_auc_score(y, z, sample_weight=t) for t in times.T])


def test_a_bootstrap_interval_holds_the_truth():
    """Of a mean it is that of the normal distribution; of several models it also covers the choice of models."""
    values = np.random.default_rng(1).normal(5, 2, (2, 500))
    one = resampled([lambda t: values[0] @ t / t.sum(0)], 500, share=False)
    half = 1.96 * values[0].std() / 500**0.5
    assert (one.low, one.high) == pytest.approx((one.value - half, one.value + half), abs=0.02)
    apart = resampled([lambda t, v=v: v @ t / t.sum(0) for v in (values[0], values[1] + 3)], 500, share=False)
    assert apart.seeds == 2 and apart.high - apart.low > 2
    assert resampled([lambda t: values[0] @ t / t.sum(0)], 500, share=False) == one


def test_the_interval_of_a_low_average_precision_holds_the_truth():
    """Of scores that say nothing it is the share of positive clips; draws with repeated clips lie above it."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(30):
        score, positive = rng.normal(size=400), rng.random(400) < 0.1
        clips = ranked(score, positive)
        found = resampled([lambda times, clips=clips: average_precision([clips], times)[0]], 400)
        held += found.low <= 0.1 <= found.high and found.low <= found.value <= found.high
    assert held >= 26


def test_many_labels_are_measured_as_by_hand():
    rows = rows_of(logits, TRUE, MultiLabel())
    clean, attacked = rows.numbers
    assert clean["mAP"].value == pytest.approx(average_precision_score(TRUE, CLEAN, average="macro"))
    now = scores(rows, "A")
    assert attacked["mAP"].value == pytest.approx(average_precision_score(TRUE, now, average="macro"))
    assert attacked["mAP"].low <= attacked["mAP"].value <= attacked["mAP"].high < clean["mAP"].value
    right, still = ((CLEAN > 0) == (TRUE > 0)).numpy(), (now > 0) == (TRUE > 0).numpy()
    lost = right & ~still
    assert attacked["attack success per label"].value == pytest.approx(lost.sum() / right.sum())
    assert attacked["attack success per label"].n == right.sum()
    assert attacked["attack success per clip"].value == pytest.approx(lost.any(1).sum() / right.any(1).sum())
    assert (rows.where(subset="A").column("correct") == ~lost.any(1)).all()
    assert rows.data["label"].null_count == len(rows) and rows.data["pred"].null_count == len(rows)
    assert "mAP" in rows.table() and "robust accuracy" not in rows.table() and "guessing" not in rows.table()


def test_a_label_on_no_clip_is_left_out_and_counted():
    rows = rows_of(logits, torch.cat([TRUE[:, :2], torch.zeros(32, 1)], 1), MultiLabel())
    assert rows.numbers[0]["mAP"].value == pytest.approx(
        average_precision_score(TRUE[:, :2], CLEAN[:, :2], average="macro")
    )
    assert "mAP is over 2 of 3 labels: the others are on no clip." in rows.table()
    none = rows_of(logits, torch.zeros(32, 3), MultiLabel())
    assert np.isnan(none.numbers[0]["mAP"].value) and "mAP is over 0 of 3 labels" in none.table()


def test_one_label_may_be_attacked_alone():
    one = rows_of(logits, TRUE, MultiLabel(label=1))
    lost = one.numbers[1]["attack success per label"]
    assert lost.n == int(((CLEAN[:, 1] > 0) == (TRUE[:, 1] > 0)).sum())
    assert lost == one.numbers[1]["attack success per clip"]
    with pytest.raises(InputError, match=r"one of 3, 0…2, got 3"):
        rows_of(logits, TRUE, MultiLabel(label=3))


def test_one_logit_is_measured_as_by_hand():
    y = TRUE[:, 0]
    for shaped in (lambda x: logits(x)[:, 0], lambda x: logits(x)[:, :1]):
        rows = rows_of(shaped, y.long().tolist(), Binary(threshold=0.1))
        for subset, numbers in zip(("clean", "A"), rows.numbers, strict=True):
            z = scores(rows, subset)[:, 0]
            assert numbers["AUC"].value == pytest.approx(roc_auc_score(y, z))
            called, yes = z > 0.1, y.numpy() > 0
            assert numbers["true positive rate"].value == pytest.approx((called & yes).sum() / yes.sum())
            assert numbers["false positive rate"].value == pytest.approx((called & ~yes).sum() / (~yes).sum())
            part = rows.where(subset=subset)
            assert (part.column("correct") == (called == yes)).all() and part.column("label").tolist() == y.tolist()
    one_class = rows_of(logits_0, torch.ones(32), Binary())
    assert np.isnan(one_class.numbers[0]["AUC"].value) and np.isnan(one_class.numbers[0]["false positive rate"].value)
    assert "AUC needs clips of both classes, and all 32 are of class 1." in one_class.table()


def logits_0(x):
    return logits(x)[:, 0]


def test_predicted_numbers_are_measured_as_by_hand():
    target = CLEAN[:, :2] + 0.2
    rows = rows_of(lambda x: logits(x)[:, :2], target, Regression(0.3))
    clean, attacked = rows.numbers
    assert clean["mean absolute error"].value == pytest.approx(0.2, abs=1e-6) and not clean["mean absolute error"].share
    off = np.abs(scores(rows, "A") - target.numpy())
    assert attacked["mean absolute error"].value == pytest.approx(off.mean(1).mean())
    assert attacked["within tolerance"].value == (off.max(1) <= 0.3).mean()
    assert attacked["attack success"].value == 1 - attacked["within tolerance"].value
    assert re.search(r"none +— +0\.2 of 32 \[0\.2, 0\.2\] +100\.0 % of 32", rows.table())


def test_embeddings_are_moved_away_and_towards_others():
    away = rows_of(logits, range(32), Embedding(0.5))
    moved = away.numbers[1]["distance moved"]
    assert away.numbers[0]["distance moved"].value == 0 < moved.value
    assert moved.value == pytest.approx(scores(away, "A").mean())
    assert away.numbers[1]["attack success"].value == (scores(away, "A") > 0.5).mean() > 0
    target = CLEAN.roll(1, 0)
    near = rows_of(logits, target, Embedding(0.5, targeted=True), [PGD(steps=20)])
    before, after = (n["distance to target"].value for n in near.numbers)
    assert before == pytest.approx(float((CLEAN - target).norm(dim=1).mean())) and after < before


def test_retrieval_ranks_each_clip_with_its_own_signals_attacked_and_all_others_clean():
    """Alone in its batch a clip has the same ranks; a model of one answer for all clips finds none."""
    visual = BATCH.x.visual.clone()
    visual[:, 0, 0, 0, :6] = 0.5 + 0.4 * F.normalize(BATCH.x.audio[:, :6], dim=1)

    def model(s):
        return AV(audio=s.audio[:, :6], visual=s.visual[:, 0, 0, 0, :6] - 0.5)

    def found(model, size):
        each = [slice(i, i + size) for i in range(0, 32, size)]
        batches = [(BATCH.x.audio[on], visual[on], range(size), BATCH.ids[on]) for on in each]
        return evaluate(model, batches, FIVE, [Threat.linf(audio=0.6)], task=Retrieval((1, 3)))

    rows = found(model, 32)
    clean, attacked = rows.numbers
    assert clean["A→V recall@1"].value == clean["V→A recall@1"].value == 1 and np.isnan(clean["attack success"].value)
    assert attacked["attack success"].value > 0.3
    ranks = scores(rows, "A")
    adversarial = np.stack(rows.where(subset="A").column("scores").tolist())
    assert attacked["A→V recall@3"].value == (adversarial[:, 0] <= 3).mean() >= attacked["A→V recall@1"].value
    assert (rows.where(subset="A").column("correct") == (ranks == 1).all(1)).all()
    assert np.array_equal(scores(found(model, 1), "A"), ranks)
    assert found(lambda s: model(s).map(lambda f: 0 * f), 32).numbers[0]["A→V recall@1"].value == 0


def test_two_streams_show_their_embeddings_without_returning_them():
    rows = rows_of(network(), range(32), Retrieval((1,)), threat=Threat.linf(audio=0.05, visual=0.05))
    clean, attacked = (scores(rows, subset) for subset in ("clean", "AV"))
    assert attacked.mean() > clean.mean() + 1 and not np.isnan(rows.numbers[1]["A→V recall@1"].value)


# Attacks


def test_attacks_without_an_objective_raise_that_of_the_task_to_the_end():
    own = PGD(steps=5, objective=BinaryCrossEntropy(label=0))
    rows = rows_of(
        logits, TRUE, MultiLabel(), [PGD(steps=5), APGD(steps=5), Square(queries=5), Quantized(PGD(steps=5)), own]
    )
    names = list(dict.fromkeys(rows.where(subset="A").column("attack")))
    assert names == ["PGD-5 (BCE)", "APGD-5 (BCE)", "Square-5 (BCE)", "PGD-5 (BCE), quantized", "PGD-5 (BCE, label 0)"]
    assert set(rows.where(subset="A").column("objective")) == {"BCE", "BCE, label 0"}
    stopped = rows_of(logits, TRUE, MultiLabel(), [APGD(steps=5, stop=False)])
    assert np.array_equal(scores(stopped, "A"), scores(rows.where(attack="APGD-5 (BCE)"), "A"))
    assert rows_of(linear, BATCH.label, Classification()).data["attack"].unique().to_pylist() == ["none", "PGD-5"]


def test_the_worst_case_over_searches_is_that_of_the_task():
    """Never weaker than each of its parts, on audio and video too; no clip leaves early."""
    strongest, both = AVAutoAttack(steps=4, queries=5), Threat.linf(audio=0.05, visual=0.05)
    rows = evaluate(logits, [(BATCH.x.audio, BATCH.x.visual, TRUE, BATCH.ids)], [strongest, PGD(steps=4)], both, task=MultiLabel())  # fmt: skip
    assert set(rows.where(attack="AVAutoAttack (BCE)").column("objective")) == {"BCE"}
    numbers = dict(
        zip([(c.column("attack")[0], c.column("subset")[0]) for c in rows.cells()], rows.numbers, strict=True)
    )
    worst = {s: numbers["AVAutoAttack (BCE)", s]["mAP"].value for s in ("A", "V", "AV")}
    assert worst["AV"] <= worst["A"] + 0.02 and worst["A"] <= numbers["PGD-4 (BCE)", "A"]["mAP"].value + 0.02
    assert worst["A"] < numbers["none", "clean"]["mAP"].value
    assert "guessing" not in rows.table()


def test_the_same_with_two_streams_and_both_modalities():
    net, both = network(), Threat.linf(audio=0.05, visual="8/255")
    with torch.no_grad():
        y = (net(BATCH.x) > net(BATCH.x).mean(0)).float()
        net.classifier.bias -= net(BATCH.x).mean(0)
    rows = rows_of(net, y, MultiLabel(), threat=both)
    assert rows.numbers[1]["mAP"].value < rows.numbers[0]["mAP"].value == 1
    joint = rows.where(subset="AV")
    assert 0 < np.nanmean(joint.column("slope_audio")) < 1
    assert joint.column("right_audio_half").mean() >= joint.column("correct").mean()
    assert not [f for f in rows.flags() if f.name == "gradients vanish"]


# Labels


@pytest.mark.parametrize(
    ("task", "given", "meant"),
    [
        (MultiLabel(), [[True, False], [False, False]], [[1.0, 0], [0, 0]]),
        (MultiLabel(), np.array([[1, 0], [0, 1]], np.uint8), [[1.0, 0], [0, 1]]),
        (MultiLabel(of=4), [[3, 0], [], [1]], [[1.0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]),
        (MultiLabel(of=3), [[1, 0, 1]], [[1.0, 0, 1]]),
        (Binary(), [True, False], [[1.0], [0]]),
        (Binary(), torch.tensor([[1], [0]]), [[1.0], [0]]),
        (Regression(1.0), [1, 2], [[1.0], [2.0]]),
        (Embedding(1.0), ["a", "b"], [0.0, 0.0]),
    ],
    ids=str,
)
def test_labels_are_read_in_any_plain_form(task, given, meant):
    assert task.read(given).tolist() == meant


@pytest.mark.parametrize(
    ("task", "model", "label", "says"),
    [
        (MultiLabel(), logits, TRUE * 2, r"0 or 1, got 2 on clip 'clip/\d+'.*leave out clips"),
        (MultiLabel(), logits, TRUE.where(TRUE > 0, torch.nan), r"0 or 1, got nan on clip"),
        (MultiLabel(), logits, TRUE[:, :2], r"one logit for each of the 2 labels, got 3"),
        (MultiLabel(), logits, TRUE[:, 0], r"shaped \(b k\), got \(32,\).*Binary"),
        (MultiLabel(), logits, [[0]] * 31 + [[0, 1]], r"lists of 1 to 2 numbers.*MultiLabel\(of=527\)"),
        (MultiLabel(of=3), logits, [[0]] * 31 + [[3]], r"from 0 to 2, got 3 on clip number 31"),
        (MultiLabel(of=3), logits, [["dog"]] * 32, r"from 0 to 2, got 'dog'"),
        (MultiLabel(of=2), logits, [[0, 1]] * 32, r"may be both"),
        (MultiLabel(), lambda x: logits(x).sigmoid(), TRUE, r"probabilities .*sigmoid saturates"),
        (Binary(), logits, TRUE[:, 0], r"one logit for each of the 1 labels, got 3"),
        (Binary(), lambda x: logits(x)[:, :2], TRUE[:, 0], r"one logit, got two"),
        (Binary(), logits_0, TRUE, r"shaped \(b\), got \(32, 3\).*MultiLabel"),
        (Binary(), logits_0, ["fake"] * 32, r"0 or 1 for each clip.*got list"),
        (Regression(0.1), logits, CLEAN[:, :2], r"shaped as the model's answers, \(32, 3\), got \(32, 2\)"),
        (Regression(0.1), logits, CLEAN * torch.inf, r"finite, got .* on clip"),
        (Embedding(0.1, targeted=True), logits, CLEAN[:, :2], r"\(32, 3\), got \(32, 2\)"),
        (Embedding(0.1), logits, 3, r"one label for each clip"),
        (Retrieval(), logits, range(32), r"two embeddings shaped \(1, d\), got none"),
        (Retrieval(), lambda x: AV(logits(x), logits(x)[:, :2]), range(32), r"got \(1, 3\) and \(1, 2\)"),
        (Classification(), logits, TRUE, r"class numbers.*task=avr.tasks.MultiLabel"),
        (MultiLabel, logits, TRUE, r"got the class MultiLabel. Make one: MultiLabel\(\)"),
        ("multi-label", logits, TRUE, r"expected a task, got str"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_words(task, model, label, says):
    with pytest.raises(InputError, match=f"(?s){says}"):
        rows_of(model, label, task)


@pytest.mark.parametrize("wrong", [lambda: Regression(0.0), lambda: Embedding(-1.0), lambda: Retrieval(()), lambda: Retrieval((0,))], ids=range(4))  # fmt: skip
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="should be"):
        wrong()


# Rows


def test_rows_say_what_they_measure_and_come_back_from_a_file(tmp_path):
    rows = rows_of(logits, TRUE, MultiLabel(threshold=0.2))
    rows.save(tmp_path / "rows.parquet")
    again = Rows.load(tmp_path / "rows.parquet")
    assert again.table() == rows.table() and np.array_equal(scores(again, "A"), scores(rows, "A"))
    assert again.measures("model") == LabelRanking(threshold=0.2)
    strange = Rows(rows.data, {"measures": {"model": {"class": "theirs.metrics:Own"}}})
    with pytest.raises(ValueError, match=r"rows of model that say what they measure.*theirs.metrics"):
        strange.table()


def test_logits_that_are_not_finite_are_never_right():
    def broken(x):
        z = logits(x)
        changed = ~(x.audio[:, None] == BATCH.x.audio).all(2).any(1)
        return torch.where(changed[:, None] & (torch.arange(3) < 2), torch.nan, z)

    def shaken(model, x, y, threat, seeds):
        loud = x.audio.mean(1, keepdim=True) > 0
        return AV(torch.where(loud, (x.audio + 0.05).clamp(max=1), x.audio), x.visual)

    rows = rows_of(broken, TRUE, MultiLabel(), [shaken])
    part, yes = rows.where(subset="A"), TRUE.numpy() > 0
    odd = ~part.column("finite")
    assert 5 < odd.sum() < 27 and not part.column("correct")[odd].any()
    # One finite answer of three makes no prediction.
    wrong = np.where(odd[:, None], np.where(yes, -99, 99), np.nan_to_num(scores(rows, "A")))
    right = (CLEAN.numpy() > 0) == yes
    lost = right & ((wrong > 0) != yes)
    assert rows.numbers[1]["attack success per label"].value == lost.sum() / right.sum()
    assert rows.numbers[1]["mAP"].value == pytest.approx(average_precision_score(yes, wrong, average="macro"))
    found = recall_by_tag(part, {}, ("a", "b", "c"))["untagged"]
    assert found.value == ((wrong > 0) & yes).sum() / yes.sum()

    one = rows_of(lambda x: broken(x)[:, 0], TRUE[:, 0], Binary(), [shaken]).numbers[1]
    assert one["AUC"].value == pytest.approx(roc_auc_score(yes[:, 0], wrong[:, 0]))
    called = {"true positive rate": yes[:, 0], "false positive rate": ~yes[:, 0]}
    assert {name: one[name].value for name in called} == {n: (wrong[on, 0] > 0).mean() for n, on in called.items()}


def test_a_clip_of_no_label_and_two_models_of_other_tasks():
    rows = Rows.concat(
        [rows_of(logits, TRUE, MultiLabel(), name="tags"), rows_of(linear, BATCH.label, Classification(), name="class")]
    )
    assert (TRUE.sum(1) == 0).any()
    assert re.search(r"model +attack +budget +mAP .*robust accuracy", rows.table())
    assert rows.measures("tags") != rows.measures("class")


def test_the_objective_of_a_pair_of_answers():
    """What was wrong on the clean clip is no success."""
    y = torch.tensor([[1.0, 0.0]])
    clean, now = Output(torch.tensor([[-1.0, -1.0]])), Output(torch.tensor([[-2.0, -0.5]]))
    assert BinaryCrossEntropy().success(Output(now.logits, clean=clean), y).tolist() == [-0.5]
    assert MultiLabel().correct(now.logits, clean.logits, y).tolist() == [True]
    assert avr.tasks.MultiLabel is MultiLabel and margin is Classification().objective


# Pages


def test_a_page_of_another_task_says_its_metrics_and_nothing_of_classes(tmp_path):
    rows = rows_of(logits, TRUE, MultiLabel(), threat=Threat.linf(audio=0.05, visual=0.01), name="tags <b>")
    page = rows.report(tmp_path / "page.html").read_text()
    assert "tags &lt;b&gt;" in page and "<b>tags" not in page
    body = re.sub(r"(?s)<(style|script).*?</(style|script)>|<[^>]*>", " ", page)
    number = rows.numbers[1]["mAP"]
    assert f"{100 * number.value:.1f}" in body and f"of 32 [{100 * number.low:.1f}, {100 * number.high:.1f}]" in body
    assert (
        "mAP of tags" in body
        and "that lose most average precision" in body
        and "Clean metric and attack success" in body
    )
    assert not re.search(r"classif|robust accuracy|guessing|chance|nan", body)
    said = report.summary(rows)
    assert "mAP" in said and "attack success per label" in said and "accuracy" not in said


def test_a_page_of_two_tasks_shows_both(tmp_path):
    both = [
        rows_of(logits_0, TRUE[:, 0], Binary(), name="fake"),
        rows_of(linear, BATCH.label, Classification(), name="class"),
    ]
    page = Rows.concat(both).report(tmp_path / "page.html").read_text()
    assert "Robust accuracy by attack" in page and "Metrics of the task" in page and "true positive rate" in page
