"""Certificates against exact answers: binomial tails, a linear model, all copies of a tiny clip; and broken ones."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats

from avrobust import AV, PGD, Batch, Threat, certify, evaluate
from avrobust.attacks import ANYTHING
from avrobust.certificates import Ablation, Elements, Gaussian, Randomised, Smoothed, lower, upper
from avrobust.certificates.base import draws_of
from avrobust.evaluation.certified import certified
from avrobust.evaluation.conditions import by_mode, tabulate
from avrobust.seeds import Seeds
from avrobust.training.recipe import cross_entropy
from avrobust.types import InputError
from nets import clips, in_batches, network

SEEDS = Seeds(0, ("a",))
COLUMNS = ("pred", "correct", "votes", "reach")


@pytest.mark.parametrize("draws", [1, 20, 100])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_bounds_are_exact_inverses_of_binomial_tails(draws, alpha):
    for count in range(draws + 1):
        low, high = lower(count, draws, alpha), upper(count, draws, alpha)
        assert 0 <= low <= count / draws <= high <= 1
        assert not count or stats.binom.sf(count - 1, draws, low) == pytest.approx(alpha)
        assert count == draws or stats.binom.cdf(count, draws, high) == pytest.approx(alpha)
    for p in (0.1, 0.5, 0.9):  # the bound lies above the truth in a share alpha of all repetitions at most
        wrong = [count for count in range(draws + 1) if lower(count, draws, alpha) > p]
        assert stats.binom.pmf(wrong, draws, p).sum() <= alpha


def test_a_linear_model_is_certified_to_its_boundary():
    """Of a half-space the smoothed model is the half-space itself, and the theorem of smoothing is an equality."""
    a, v, margin = np.array([0.3, -0.4]), np.array([1.2, 0.5, -0.1]), 0.07
    certificate = Gaussian(audio=0.05, visual=0.2)
    spread = math.hypot(0.05 * np.linalg.norm(a), 0.2 * np.linalg.norm(v))
    p = float(stats.norm.cdf(margin / spread))
    reach = certificate.reach(p, 1 - p)
    # the nearest point of the boundary, where distance is that of the certificate
    step = margin / spread**2
    there = certificate.distance(audio=step * 0.05**2 * np.linalg.norm(a), visual=step * 0.2**2 * np.linalg.norm(v))
    assert reach == pytest.approx(there)
    alone = certificate.alone(
        reach
    )  # audio alone has to go further than the boundary's nearest point, if it goes at all
    assert certificate.distance(audio=alone.audio) == pytest.approx(reach)
    assert alone.audio <= margin / np.linalg.norm(a) and alone.visual <= margin / np.linalg.norm(v)


def test_copies_do_not_depend_on_how_many_are_made_at_once():
    clip = clips(1).x
    for certificate in (Gaussian(audio=0.1, visual=0.2), Ablation(segments=8, kept_audio=2, grid=4, kept_visual=4)):
        by = draws_of(SEEDS, 0, "estimate")
        parts = [certificate.copies(clip, count, by) for count in (1, 4, 2)]
        whole = certificate.copies(clip, 7, draws_of(SEEDS, 0, "estimate"))
        assert all(torch.equal(torch.cat(part), s) for part, s in zip(zip(*parts, strict=True), whole, strict=True))
        other = certificate.copies(clip, 7, draws_of(SEEDS, 0, "select"))
        assert not any(torch.equal(s, o) for s, o in zip(whole, other, strict=True))
    still = Gaussian(audio=0.1).copies(clip, 3, draws_of(SEEDS, 0)).visual
    assert torch.equal(still, clip.visual.repeat(3, 1, 1, 1, 1))
    noise = Gaussian(audio=0.1).copies(clip, 4000, draws_of(SEEDS, 0)).audio - clip.audio
    assert float(noise.std()) == pytest.approx(0.1, rel=0.01) and abs(float(noise.mean())) < 1e-3


TINY = Ablation(segments=4, kept_audio=2, grid=2, kept_visual=1)


def test_ablation_against_all_copies_of_a_tiny_clip():
    """Every choice of kept elements, every choice of changed ones, and the worst model: certified exactly where it holds."""
    copies = [*itertools.product(itertools.combinations(range(4), 2), itertools.combinations(range(4), 1))]
    for r_audio, r_visual in itertools.product(range(5), range(5)):
        for audio in itertools.combinations(range(4), r_audio):
            hit = [bool({*a} & {*audio} or {*v} & {*range(r_visual)}) for a, v in copies]
            assert sum(hit) / len(copies) == pytest.approx(TINY.distance(r_audio, r_visual))
        changed = sum(hit)
        for votes in range(len(copies) + 1):  # of the class; all others are of one other class
            # the worst model: as many of the copies that are hit as possible were of the class, and none is any more
            left, others = votes - min(votes, changed), len(copies) - votes + min(votes, changed)
            p = votes / len(copies)
            gap = TINY.reach(p, 1 - p) - TINY.distance(r_audio, r_visual)
            if abs(gap) > 1e-9:
                assert (gap > 0) == (left > others)


def test_all_copies_are_alike_and_only_hide():
    x = AV(torch.arange(1.0, 9.0)[None] / 10, torch.full((1, 2, 3, 4, 4), 0.7))
    made = TINY.copies(x, 6000, draws_of(SEEDS, 0))
    audio = made.audio.view(6000, 4, 2)
    shown = (audio != 0).all(2)
    assert torch.equal(shown, (audio != 0).any(2)) and bool((shown.sum(1) == 2).all())
    _, often = shown.int().unique(dim=0, return_counts=True)
    assert len(often) == 6 and int((often - 1000).abs().max()) < 150  # five standard deviations
    assert bool((torch.where(made.audio != 0, made.audio - x.audio, 0.0) == 0).all())
    patches = (made.visual == 0.7).view(6000, 2, 3, 2, 2, 2, 2)  # (copies, t, 3, row, y, column, x)
    assert bool((patches.any(1).any(1).any(2).any(-1).flatten(1).sum(1) == 1).all())
    assert bool((patches.flatten(1).sum(1) == 2 * 3 * 4).all())


def test_changed_elements_are_counted():
    x = clips(2).x
    other = x.map(torch.clone)
    other.audio[0, [0, 1, 95]] += 0.1
    other.visual[0, 1, 2, 0, 0] += 0.1
    other.visual[1, :, :, 4:, 4:] += 0.1
    sizes = Ablation(segments=8, kept_audio=2, grid=4, kept_visual=4).sizes(x, other)
    assert sizes == AV([2, 0], [1, 4])
    with pytest.raises(ValueError, match="at least 200 samples"):
        Ablation(segments=200).places(x)


@pytest.mark.parametrize(
    "audio, visual, threat", [(1, 2, ANYTHING), (2, 0, ANYTHING.only("A")), (0, 1, ANYTHING.only("V"))]
)
def test_an_attack_on_elements_changes_these_only(audio, visual, threat):
    certificate = Ablation(segments=8, kept_audio=4, grid=4, kept_visual=8, draws=50)
    rows = certify(line, near(5), certificate, Elements(certificate, audio, visual, PGD(steps=3)), [threat])
    attacked = rows.where(mode="smoothed").data.slice(5)
    assert attacked["distance"].to_pylist() == [certificate.distance(audio, visual)] * 5
    batch = near(5)
    found = Elements(certificate, audio, visual, PGD(steps=3))(line, batch.x, batch.label, threat, Seeds(0, batch.ids))
    assert certificate.sizes(batch.x, found) == AV([audio] * 5, [visual] * 5)
    assert bool((line(found)[:, 0] < line(batch.x)[:, 0]).all())


def test_a_vote_that_is_not_sure_is_not_correct():
    def split(x):  # half of the copies of the first clip, all of the second one
        return torch.stack([x.audio.mean(1), torch.full((len(x.audio),), 0.5) * x.visual.mean((1, 2, 3, 4))], 1)

    x = AV(torch.zeros(2, 4), torch.zeros(2, 1, 3, 2, 2))
    x.audio[1] = 0.9
    rows = certify(split, Batch(x, torch.tensor([0, 0])), Gaussian(audio=0.1)).where(mode="smoothed")
    assert rows.column("pred").tolist() == [-1, 0] and rows.column("correct").tolist() == [False, True]
    assert rows.column("reach")[0] <= 0 < rows.column("reach")[1] == pytest.approx(stats.norm.ppf(0.001**0.001))


def test_votes_that_are_not_finite_and_attacks_that_do_not_move_are_said():
    def fragile(x):  # breaks on noisy copies of the clips that it is surest of
        z = line(x)
        return torch.where((x.audio.std(1, keepdim=True) > 1e-4) & (z[:, :1] > 0.2), torch.nan, z)

    def still(model, x, y, threat, seeds):
        return x

    rows = certify(fragile, near(), Gaussian(audio=0.01, draws=100), still, Threat.l2(audio=0.1))
    votes = rows.where(mode="smoothed")
    assert set(votes.column("finite")) == {True, False}
    alarms = {(f.name, f.model) for f in rows.flags() if f.level == "alarm" and f.model not in ("", "model")}
    certificate = "Gaussian, audio 0.01"
    assert alarms == {
        ("logits not finite", f"model, {certificate}"),
        ("logits not finite", f"model, still on {certificate}"),
        ("attack did not move", f"model, still on {certificate}"),
    }


def test_rows_do_not_depend_on_batches():
    net, batch = network(), clips(6)
    with torch.no_grad():
        net.classifier.bias -= net(batch.x).mean(0)  # else all is of one class
    certificates = [Gaussian(audio=0.5, visual=0.5, draws=60, select=10), Ablation(draws=60, select=10)]
    attack = [Smoothed(PGD(steps=2), c, copies=3, votes=20) for c in certificates]
    threat = Threat.l2(audio=0.5, visual=0.5)
    whole, parts = (
        evaluate(net, given, [*certificates, *attack], [threat]) for given in ([batch], in_batches(batch, 2))
    )
    for name in COLUMNS:
        assert whole.data[name].to_pylist() == parts.data[name].to_pylist(), name
    votes = whole.where(mode="smoothed").column("votes")
    assert len({*votes[:12].tolist()}) > 6
    again = evaluate(net, [batch], certificates, [threat], seed=1).where(mode="smoothed")
    assert again.column("votes").tolist() != votes[:12].tolist()


def line(x):
    """Two classes, split by a plane through both streams."""
    z = x.audio.mean(1) + x.visual.mean((1, 2, 3, 4)) - 0.5
    return torch.stack([z, -z], 1)


def near(n=12):
    """Clips on one side of that plane, some of them near."""
    at = torch.linspace(0.02, 0.3, n)
    x = AV(torch.zeros(n, 16) + at[:, None], torch.full((n, 1, 3, 4, 4), 0.5))
    return Batch(x, torch.zeros(n, dtype=torch.long), tuple(f"clip/{i}" for i in range(n)))


@dataclass(frozen=True)
class Sure(Gaussian):
    """Takes the share of votes for the probability."""

    def bounds(self, counts, chosen):
        share = float(counts[chosen] / counts.sum())
        return share, 1 - share


@dataclass(frozen=True)
class Quieter(Gaussian):
    """Less noise than it says."""

    def copies(self, clip, count, draws):
        return Gaussian(self.audio / 8, self.visual / 8).copies(clip, count, draws)


@pytest.mark.parametrize("kind, alarms", [(Gaussian, set()), (Sure, {"a certificate claims more than its votes"}), (Quieter, {"a certificate is broken"})])  # fmt: skip
def test_broken_certificates_are_found(kind, alarms):
    certificate = kind(audio=0.5, visual=0.5, draws=200, select=20)
    threats = [Threat.l2(audio=size, visual=size) for size in (0.1, 0.3, 0.6)]
    rows = certify(line, near(), certificate, PGD(steps=5), threats)
    found = {f.name for f in rows.flags() if f.level == "alarm"} - {"few clips"}
    assert {name for name in found if "certificate" in name} == alarms
    if alarms:
        (flag,) = [f for f in rows.flags() if f.name in alarms]
        assert "'clip/" in flag.text and flag.model == f"model, {certificate.name}"
    (one,) = certified(by_mode(tabulate(rows.data))[1]["smoothed"], by_mode(tabulate(rows.data))[0])
    if not alarms:  # the lower bound lies below the upper one, at every size
        assert all(a.certified.value <= a.correct.value for a in one.attacks) and len(one.attacks) == 3
        assert one.accuracy(0.0).value >= one.accuracy(0.5).value > one.accuracy(9.0).value == 0
        assert one.certificate == certificate


def test_the_runner_up_can_certify_more_of_many_classes():
    rest, runner_up = (Gaussian(audio=1.0, draws=1000, others=others) for others in ("rest", "runner-up"))
    counts = np.array([450, 200, 200, 150])
    assert rest.reach(*rest.bounds(counts, 0)) <= 0 < runner_up.reach(*runner_up.bounds(counts, 0))
    sure = np.array([999, 1, 0, 0])
    low, high = runner_up.bounds(sure, 0)
    assert 0 < low < 1 and high <= 1 - low


def test_training_randomises_each_clip_and_validates_on_such_clips():
    net, batch = network(), clips(4)
    loss = Randomised(cross_entropy, Gaussian(audio=0.2))
    made = loss.training_batch(net, batch, Seeds(3, batch.ids))
    one = loss.training_batch(net, batch.subset([2]), Seeds(3, batch.ids[2:3]))
    assert torch.equal(made.x.audio[2], one.x.audio[0]) and torch.equal(made.x.visual, batch.x.visual)
    assert torch.equal(loss(net, batch, Seeds(3, batch.ids)), cross_entropy(net, made, Seeds(3, batch.ids)))


def test_what_cannot_be_certified_is_refused():
    from avrobust.evaluation.tasks import MultiLabel

    batch = Batch(clips(2).x, torch.zeros(2, 4))
    with pytest.raises(InputError, match="one class per clip"):
        evaluate(network(), batch, Gaussian(audio=0.1), ANYTHING, task=MultiLabel())
    with pytest.raises(InputError, match="expected a certificate"):
        certify(network(), clips(2), PGD())
    for wrong in ({}, {"audio": -1.0}, {"audio": 0.1, "alpha": 0}, {"audio": 0.1, "draws": 0}):
        with pytest.raises(ValueError, match=r"should be|expected noise"):
            Gaussian(**wrong)
    for wrong in ({"kept_audio": 0}, {"kept_visual": 65}, {"kept_audio": None, "kept_visual": None}):
        with pytest.raises(ValueError, match=r"between 1 and|expected a modality"):
            Ablation(**wrong)
    with pytest.raises(ValueError, match="at most the 4 segments and 64 patches of the ablation, got 5 and 1"):
        Elements(Ablation(segments=4, kept_audio=1), audio=5)


def test_the_report_draws_the_lower_bound_beside_the_upper_one():
    import altair

    from avrobust.report.load import read
    from avrobust.report.sections import certified as section

    certificate = Gaussian(audio=0.5, visual=0.5, draws=100, select=10)
    rows = certify(line, near(), certificate, PGD(steps=3), Threat.l2(audio=0.3, visual=0.3), name="<b>$a</b>")
    shown = section.data(read(rows))
    (figure,) = shown["figures"]
    altair.Chart.from_dict(figure.whole() | {"config": {}}, validate=True)
    assert figure.svg().startswith("<svg")
    values = [r["accuracy, %"] for r in figure.rows if r["bound"] == "certified"]
    assert values == sorted(values, reverse=True) and values[0] > values[-1] == 0
    marks = {r["bound"]: r for r in figure.rows if r["bound"] != "certified"}
    assert set(marks) == {"Audio attacked", "Visual attacked", "Both attacked"}
    assert marks["Both attacked"]["distance"] == pytest.approx(math.hypot(0.6, 0.6), abs=1e-3)
    overview, beside = shown["tables"]
    assert (
        len(overview.rows) == 1
        and len(beside.rows) == 3
        and shown["result"].endswith("0 of 3 attacks break a certificate")
    )
    assert ": smoothed accuracy " in shown["result"] and " at distance 0.6; " in shown["result"]
    assert section.data(read(evaluate(line, near(), [], ANYTHING))) is None


def test_json_has_what_is_certified():
    from avrobust.evaluation.results import results

    (told,) = results(certify(line, near(4), Gaussian(audio=0.5, draws=50, select=5)))["certified"]
    assert told["certificate"]["audio"] == 0.5 and told["clips"] == tuple(f"clip/{i}" for i in range(4))
    assert len(told["reach"][0]) == told["accuracy"]["n"] == 4 and told["attacks"] == []
