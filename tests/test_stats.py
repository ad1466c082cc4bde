"""Our numbers against the paper's printed tables, scipy, published examples and simulation."""

import numpy as np
import pytest
import scipy.stats

from avrobust.evaluation import comparison, stats
from avrobust.evaluation.comparison import paired
from avrobust.evaluation.stats import proportion
from avrobust.papers.tian2021 import printed as paper

DEFENSES = [(data, key, row) for data, rows in paper.TABLE_3.items() for key, row in rows.items()]
ATTACKS = [(data, attack, row) for data, rows in paper.TABLE_1.items() for attack, row in rows.items()]
MISPRINTED_RI = {("Kinetics-Sounds", ("AV", "MinSim", "")): 8.90}
MISPRINTED_AVG = {("MIT-MUSIC", "PGD"): 5.13}


# The paper's arithmetic


@pytest.mark.parametrize(("data", "attack", "row"), ATTACKS, ids=lambda v: v if isinstance(v, str) else "")
def test_table_1_averages_the_attacked_columns(data, attack, row):
    expected = MISPRINTED_AVG.get((data, attack), row.avg)
    assert stats.avg_attacked(row.a, row.v, row.av) == pytest.approx(expected, abs=0.011)


def test_the_misprints_are_misprints():
    assert paper.TABLE_1["MIT-MUSIC"]["PGD"].avg == 5.09
    assert paper.TABLE_3["Kinetics-Sounds"]["AV", "MinSim", ""].ri == 8.99


@pytest.mark.parametrize("row", paper.TABLE_2.values(), ids=paper.TABLE_2)
def test_table_2_averages_all_columns(row):
    assert stats.avg_all(row.clean, row.a, row.v, row.av) == pytest.approx(row.avg, abs=0.011)
    assert stats.avg_attacked(row.a, row.v, row.av) < row.avg - 5  # the other meaning would be far off


@pytest.mark.parametrize(("data", "key", "row"), DEFENSES, ids=lambda v: v if isinstance(v, str) else "")
def test_table_3_relative_improvement(data, key, row):
    base = paper.TABLE_3[data]["AV", *paper.PLAIN]
    avg, base_avg = (stats.avg_attacked(r.a, r.v, r.av) for r in (row, base))
    ri = stats.relative_improvement(row.clean, avg, base.clean, base_avg)
    assert ri == pytest.approx(MISPRINTED_RI.get((data, key), row.ri), abs=0.021)
    assert avg == pytest.approx(row.avg, abs=0.016)


# One proportion


@pytest.mark.parametrize("k, n", [(0, 1), (0, 104), (1, 2), (52, 104), (95, 104), (402, 402), (1550, 3104)])
def test_wilson_is_scipys(k, n):
    ci = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
    p = proportion(k, n)
    assert (p.low, p.high) == pytest.approx((ci.low, ci.high), abs=1e-12)
    assert p.low <= p.value <= p.high


def test_no_clips_is_a_dash_not_zero():
    assert np.isnan(proportion(0, 0).value)
    assert str(proportion(0, 0)) == "—"
    assert str(stats.estimate(np.zeros((1, 0), bool))) == "—"


def test_more_right_than_asked_is_refused():
    with pytest.raises(ValueError, match="0 <= k <= n"):
        proportion(3, 2)


@pytest.mark.parametrize("k", [0, 1, 40, 99, 100])
def test_estimate_of_one_seed_is_wilson(k):
    e = stats.estimate(np.arange(100)[None] < k)
    p = proportion(k, 100)
    assert (e.value, e.low, e.high) == pytest.approx((p.value, p.low, p.high), abs=1e-12)


def test_seeds_that_agree_do_not_narrow_the_interval():
    one = np.random.default_rng(0).random((1, 200)) < 0.7
    a, b = stats.estimate(one), stats.estimate(np.repeat(one, 5, axis=0))
    assert (b.low, b.high) == pytest.approx((a.low, a.high))
    assert b.seeds == 5


def test_seeds_that_disagree_widen_the_interval():
    rng = np.random.default_rng(0)
    alike = rng.random((4, 300)) < 0.5
    apart = rng.random((4, 300)) < np.array([[0.2], [0.4], [0.6], [0.8]])
    wide, narrow = stats.estimate(apart), stats.estimate(alike)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_estimate_holds_the_truth_95_times_in_100():
    """Avg of three answers to the same clip, which depend on each other."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(1000):
        ease = rng.random((150, 1))
        values = (rng.random((150, 3)) < ease**2).mean(1)
        e = stats.estimate(values[None])
        hits += e.low <= 1 / 3 <= e.high
    assert 925 <= hits <= 975


def test_a_share_of_labels_holds_the_truth_95_times_in_100():
    """Clips of one label and of twelve, all of a clip's right or wrong together."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(1000):
        of = np.arange(12)[:, None] < rng.choice([1, 12], 60)
        share = stats.among(of & (rng.random(60) < 0.4), of)
        hits += share.low <= 0.4 <= share.high
    assert 925 <= hits <= 985


# Bootstrap


def test_bootstrap_agrees_with_the_formula_and_repeats():
    correct = np.random.default_rng(3).random((1, 300, 3)) < [0.6, 0.4, 0.3]
    e = stats.bootstrap(correct, stats.avg_attacked, seed=7)
    f = stats.estimate(correct.mean(2))
    assert e.value == pytest.approx(f.value)
    assert (e.low, e.high) == pytest.approx((f.low, f.high), abs=0.01)
    assert e == stats.bootstrap(correct, stats.avg_attacked, seed=7)
    assert e != stats.bootstrap(correct, stats.avg_attacked, seed=8)


def test_draws_without_a_number_leave_the_interval_to_the_others():
    correct = np.ones((1, 20, 2), bool)
    correct[0, 0, 1] = False  # some draws have no error to divide by
    found = stats.bootstrap(correct, lambda a, b: (1 - b) / np.where(b < 1, 1 - b, np.nan))
    assert (found.low, found.value, found.high) == pytest.approx((1, 1, 1))


def test_bootstrap_keeps_the_columns_of_a_clip_together():
    """A defence that answers as its base does has RI 0 with certainty: pairing must survive the draw."""
    base = np.random.default_rng(0).random((1, 100, 4)) < 0.5

    def ri(*p):
        first, second = p[:4], p[4:]
        return stats.relative_improvement(
            first[0], stats.avg_attacked(*first[1:]), second[0], stats.avg_attacked(*second[1:])
        )

    same = stats.bootstrap(np.concatenate([base, base], axis=2), ri)
    assert (same.value, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-12)
    other = np.random.default_rng(1).random((1, 100, 4)) < 0.5
    unlike = stats.bootstrap(np.concatenate([base, other], axis=2), ri)
    assert unlike.high - unlike.low > 0.1


def test_bootstrap_matches_scipys():
    correct = np.random.default_rng(5).random((1, 120, 1)) < 0.4
    ours = stats.bootstrap(correct, lambda p: p, draws=20000)
    theirs = scipy.stats.bootstrap(
        (correct[0, :, 0],), np.mean, method="percentile", n_resamples=20000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


# Differences


def answers(better, worse, both, neither):
    first = [True] * better + [False] * worse + [True] * both + [False] * neither
    second = [False] * better + [True] * worse + [True] * both + [False] * neither
    return np.array(first), np.array(second)


@pytest.mark.parametrize("better, worse", [(0, 0), (1, 0), (10, 3), (3, 10), (30, 30), (121, 59)])
def test_mcnemar_is_the_exact_binomial_test(better, worse):
    r = comparison.mcnemar(*answers(better, worse, 50, 40))
    assert r.p == pytest.approx(scipy.stats.binomtest(better, better + worse).pvalue if better + worse else 1.0)
    assert (r.better, r.worse, r.n) == (better, worse, 90 + better + worse)
    assert r.difference == pytest.approx((better - worse) / r.n)
    assert r.low <= r.difference <= r.high


@pytest.mark.parametrize("n", [3, 40, 400])
def test_the_test_of_a_mean_agrees_with_its_interval(n):
    """Many small gains and a few large losses: what counts is their mean, not how many there are of each."""
    gap = np.resize([1 / 3, 1 / 3, 0, 1 / 3, -1, 0, 1 / 3, 0], n)[None]
    found = comparison.paired(np.maximum(gap, 0), np.maximum(-gap, 0))
    assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
    turned = comparison.paired(np.maximum(-gap, 0), np.maximum(gap, 0))
    assert turned.p == pytest.approx(found.p) and turned.difference == pytest.approx(-found.difference)


def test_clips_without_a_difference_are_no_proof_that_few_would_do():
    assert comparison.clips_needed(np.zeros((1, 80))) > 100


def test_mcnemar_turned_round():
    first, second = answers(12, 4, 30, 30)
    r, s = comparison.mcnemar(first, second), comparison.mcnemar(second, first)
    assert (r.difference, r.low, r.high, r.p) == pytest.approx((-s.difference, -s.high, -s.low, s.p))


@pytest.mark.parametrize("seeds", [1, 3])
def test_paired_interval_holds_the_truth_95_times_in_100(seeds):
    rng, hits, alarms = np.random.default_rng(2), 0, 0
    for _ in range(600):
        ease = rng.random(120)
        first, second = rng.random((2, seeds, 120)) < [[ease], [ease * 0.8]]
        r = comparison.paired(first, second)
        hits += r.low <= 0.1 <= r.high
        third = rng.random((seeds, 120)) < ease
        alarms += comparison.paired(first, third).p < 0.05
    assert hits >= 555
    assert alarms <= 45


def test_holm_against_scipy_style_reference():
    ps = [0.01, 0.02, 0.03, 0.005, 0.9]
    expected = [0.04, 0.06, 0.06, 0.025, 0.9]
    assert comparison.holm(ps) == pytest.approx(expected)
    assert comparison.holm([]) == []


@pytest.mark.parametrize("m", [1, 6, 40])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("margin", [0.0, 0.03])
def test_an_interval_leaves_nothing_out_exactly_where_p_decides(m, seeds, margin):
    """Whatever the answers: what is said beside an interval and beside a p value of one family is the same."""
    rng, decided = np.random.default_rng(m), 0
    for _ in range(300):
        n, low = int(rng.integers(5, 200)), rng.random()
        a, b = rng.random((2, seeds, n)) < np.array([low, min(1.0, low + rng.random() / 2)])[:, None, None]
        found = paired(b, a).as_one_of(m, margin)
        assert (found.p < 0.05) == (found.low > -margin or found.high < -margin)
        assert found.low <= found.centre <= found.high and 0 <= found.p <= 1
        alone = paired(b, a).as_one_of(1, margin)
        assert found.p == pytest.approx(min(1, m * alone.p)) and found.high - found.low >= alone.high - alone.low
        decided += found.p < 0.05
    assert 10 < decided < 290


def test_one_of_none_is_none():
    nothing = paired(np.zeros((1, 0)), np.zeros((1, 0)))
    assert nothing.as_one_of(3) is nothing


def test_the_family_s_intervals_hold_all_true_differences_together():
    """Of 10 comparisons without a difference, all intervals hold 0 in 95 of 100 repetitions at least."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        right = rng.random((11, 1, 120)) < 0.6
        wrong += any((f := paired(right[0], other).as_one_of(10)).low > 0 or f.high < 0 for other in right[1:])
    assert wrong / 400 < 0.075  # 5 % and two standard errors
