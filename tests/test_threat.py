import math
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from avrobust import AV, Ball, BudgetError, Seeds, Threat
from avrobust.budget_check import check
from avrobust.facts import IMAGENET_STD, Typed
from avrobust.papers.tian2021 import budgets as tian2021
from avrobust.threat import weights
from nets import clips

BUDGETS = [
    (Threat.linf, {"audio": 0.006}, "audio", 0.006),
    (Threat.linf, {"audio": "0.006"}, "audio", 0.006),
    (Threat.linf, {"visual": "2/255"}, "visual", 2 / 255),
    (Threat.linf, {"audio": "-44.4 dBFS"}, "audio", 0.0060256),
    (Threat.linf, {"audio": "−6.0206 dbfs"}, "audio", 0.5),
    (Threat.l2, {"audio": "40 dB SNR"}, "audio", 0.01),
    (Threat.linf, {"visual": "0.006 normalised"}, "visual", 0.006),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "budget", "name", "eps"), BUDGETS, ids=lambda v: str(v) if isinstance(v, dict) else ""
)
def test_budgets_are_read_in_physical_units(make, budget, name, eps):
    assert getattr(make(**budget), name).eps == pytest.approx(eps, rel=1e-4)


@pytest.mark.parametrize(
    ("make", "budget"),
    [
        (Threat.linf, {"audio": -0.1}),
        (Threat.linf, {"visual": "-2/255"}),
        (Threat.linf, {"visual": "2/0"}),
        (Threat.linf, {"audio": math.nan}),
        (Threat.linf, {"audio": "loud"}),
        (Threat.linf, {"audio": "40 dB SNR"}),
        (Threat.l2, {"audio": "-40 dBFS"}),
        (Threat.linf, {"audio": "0.006 normalised"}),
        (Threat.linf, {"audio": ""}),
    ],
    ids=str,
)
def test_unreadable_budgets_say_what_to_write(make, budget):
    with pytest.raises(ValueError, match=r"Use|should|denominator"):
        make(**budget)


def test_a_normalised_budget_is_a_third_of_a_grey_level():
    x = clips().x.visual
    ball = tian2021.threat(visual=0.006).visual
    delta = ball.project(torch.ones_like(x) * 9, x * 0 + 0.5)
    grey = delta.amax((0, 1, 3, 4)) * 255
    assert torch.allclose(grey, torch.tensor(IMAGENET_STD) * 0.006 * 255, rtol=1e-4)
    assert grey[0] == pytest.approx(0.35, abs=0.01)


def test_a_budget_in_db_snr_is_met_by_every_clip():
    x = clips().x.audio
    ball = Threat.l2(audio="30 dB SNR").audio
    delta = ball.project(torch.randn_like(x), x)
    snr = 10 * torch.log10(x.square().mean(1) / delta.square().mean(1))
    assert (snr >= 30 - 1e-3).all()
    assert snr.median() < 31  # and the budget is used


BALLS = [
    Ball(0.1, "linf", low=-1, high=1),
    Ball(0.7, "l2", low=-1, high=1),
    Ball(0.05, "l2", "signal", -1, 1),
    Ball(0.05, "linf", "signal", -1, 1),
]


@pytest.mark.parametrize("ball", BALLS, ids=repr)
def test_projection_lands_inside_and_is_idempotent(ball):
    x = clips().x.audio
    delta = ball.project(torch.randn_like(x), x)
    assert (ball.size(delta, x) <= ball.eps * (1 + 1e-5)).all()
    assert ((x + delta) >= -1).all()
    assert ((x + delta) <= 1).all()
    assert torch.allclose(ball.project(delta, x), delta, atol=1e-7)


@pytest.mark.parametrize("ball", BALLS, ids=repr)
def test_a_small_perturbation_is_left_alone(ball):
    x = clips().x.audio.clamp(-0.9, 0.9)
    delta = torch.full_like(x, 1e-4)
    assert torch.allclose(ball.project(delta, x), delta, atol=1e-7)


@pytest.mark.parametrize("ball", BALLS, ids=repr)
def test_ascent_is_the_best_first_order_move_of_full_budget(ball):
    x = clips().x.audio
    g = torch.randn_like(x)
    step = ball.ascent(g, x)
    assert torch.allclose(ball.size(step, x), torch.full((len(x),), ball.eps), rtol=1e-4)
    gain = (step * g).sum(1)
    for seed in range(20):  # no other move of the same size gains more
        other = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
        other = other * (ball.eps / ball.size(other, x))[:, None]
        assert (gain >= (other * g).sum(1) - 1e-6).all()


@pytest.mark.parametrize("ball", BALLS, ids=repr)
def test_random_starts_fill_the_ball_and_belong_to_the_clip(ball):
    batch = clips()
    x, seeds = batch.x.audio, Seeds(0, batch.ids)
    start = ball.random(x, seeds, "start")
    assert (ball.size(start, x) <= ball.eps * (1 + 1e-5)).all()
    assert (ball.size(start, x) > 0).all()
    order = torch.tensor([3, 1, 0])
    assert torch.equal(ball.random(x[order], seeds.subset(order), "start"), start[order])


def test_a_silent_clip_has_no_relative_budget():
    ball, silent = Threat.l2(audio="40 dB SNR").audio, torch.zeros(1, 8)
    assert ball.project(torch.ones(1, 8), silent).abs().max() < 1e-9
    assert ball.ascent(torch.ones(1, 8), silent).isfinite().all()


def test_subsets():
    both = Threat.linf(audio=0.1, visual=0.2)
    assert [t.subset for t in both.subsets()] == ["A", "V", "AV"]
    assert both.only("A").visual.eps == 0
    assert [t.subset for t in both.only("V").subsets()] == ["V"]
    assert Threat.linf().subsets() == ()


class TestCheck:
    batch, threat = clips(), Threat.linf(audio=0.01, visual="2/255")

    def refuse(self, match: str, threat: Threat | None = None, **changed: torch.Tensor) -> None:
        adv = AV(**{name: changed.get(name, s) for name, s in self.batch.x.items()})
        with pytest.raises(BudgetError, match=match):
            check(threat or self.threat, self.batch.x, adv, self.batch.ids, "mine")

    def test_the_whole_budget_is_allowed(self):
        x = self.batch.x
        adv = self.threat.map(
            lambda ball, s: (s + ball.project(torch.full_like(s, 9.0), s)).clamp(ball.low, ball.high), x
        )
        check(self.threat, x, adv, self.batch.ids, "mine")

    def test_over_budget_names_the_clip_and_the_count(self):
        wave = self.batch.x.audio.clone()
        wave[3, 5] += 0.0125
        self.refuse(r"left its audio budget on clip 'clip/3': linf = 0.0125, allowed 0.01 \(1 of 6 clips\)", audio=wave)

    def test_outside_the_range(self):
        self.refuse(r"left the range \[-1, 1\] of audio on clip 'clip/0'", audio=self.batch.x.audio + 0.005)

    def test_an_untouched_modality_is_bit_identical(self):
        self.refuse("changed visual, whose budget is 0", self.threat.only("A"), visual=self.batch.x.visual + 1e-7)

    def test_not_finite(self):
        self.refuse("not finite", audio=self.batch.x.audio * math.nan)

    def test_wrong_shape(self):
        self.refuse("shape", audio=self.batch.x.audio[:, 1:])


NUMBERS = [
    np.float64(0.25),
    np.float32(0.25),
    np.array(0.25),
    torch.tensor(0.25),
    Fraction(1, 4),
    Decimal("0.25"),
    "0.25",
    ".25",
    "64/256.",
    "25.e-2",
]


@pytest.mark.parametrize("budget", NUMBERS, ids=lambda b: type(b).__name__)
def test_a_budget_is_a_number_of_any_library(budget):
    threat = Threat.linf(visual=budget)
    assert threat == Threat.linf(visual=0.25) and type(threat.visual.eps) is (
        Typed if isinstance(budget, str) else float
    )
    assert Threat.linf(visual=np.int64(0)).subset == "clean"


@pytest.mark.parametrize(
    "budget",
    [None, True, np.True_, [0.1], b"1", torch.zeros(2), np.zeros(3), 1j, AV(0, 0)],
    ids=lambda b: type(b).__name__,
)
def test_what_is_no_number_is_no_budget(budget):
    for make in (Threat.linf, Threat.l2, tian2021.threat):
        with pytest.raises(ValueError, match="a budget should be a number"):
            make(audio=budget)


@pytest.mark.parametrize(
    ("kind", "budgets", "hint"),
    [
        ("linf", {"visual": 8}, "'8/255'"),
        ("linf", {"visual": "8"}, "'8/255'"),
        ("linf", {"visual": "1.01"}, "'1.01/255'"),
        ("linf", {"visual": "300/255"}, "got 300/255. Give at most 1."),
        ("linf", {"audio": "40 dB SNR"}, "--norm l2"),
        ("l2", {"audio": "-40 dBFS"}, "--norm linf"),
        ("linf", {"audio": 66}, "'66/32768'"),
        ("linf", {"audio": "44.4 dBFS"}, "'-44.4 dBFS'"),
        ("linf", {"audio": "+44.4 dBFS"}, "'-44.4 dBFS'"),
        ("linf", {"audio": "6 dBFS"}, "'-6 dBFS'"),
        ("linf", {"visual": "8 normalised"}, "moves a pixel by 1.83"),
        ("linf", {"visual": "8 normalised"}, "'8/255'"),
        ("l2", {"audio": "-40 dB SNR"}, "'40 dB SNR'"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused_with_a_hint(kind, budgets, hint):
    with pytest.raises(ValueError, match=re.escape(hint)):
        getattr(Threat, kind)(**budgets)


def test_the_whole_range_is_a_budget():
    assert Threat.linf(audio=2, visual=1).subset == "AV"
    assert Threat.linf(audio="0 dBFS").audio.eps == 1.0
    assert Threat.l2(visual=8, audio="0 dB SNR").subset == "AV"


def test_a_threat_made_by_hand_stays_inside_the_range_of_signals():
    threat = Threat(Ball(0.5), Ball(0.1, low=0.0, high=255.0))
    assert (threat.audio.low, threat.audio.high, threat.visual.high) == (-1, 1, 1)
    for balls, match in (((Ball(0.1), Ball(8)), "'8/255'"), ((0.1, 0.1), "a Ball for each modality")):
        with pytest.raises(ValueError, match=match):
            Threat(*balls)


@pytest.mark.parametrize("scale", [2, 2.0, [2.0], np.array([1.0, 2.0, 3.0])], ids=repr)
def test_a_scale_is_a_weight_or_one_per_channel_in_any_form(scale):
    assert weights(scale) in ((2.0,), (1.0, 2.0, 3.0))


@pytest.mark.parametrize("scale", [0, -1, (1.0, 2.0), "signals", float("nan"), None], ids=repr)
def test_what_is_no_scale_is_refused(scale):
    with pytest.raises(ValueError, match="scale should be a weight above 0"):
        weights(scale)


def test_an_l2_step_is_a_full_one_however_small_the_gradient():
    ball, x = Threat.l2(audio=0.5).audio, torch.zeros(2, 1000)
    for size in (1e-25, 1.0, 1e25):
        grad = torch.stack([torch.full((1000,), size), torch.zeros(1000)])
        assert torch.allclose(ball.ascent(grad, x).norm(dim=1), torch.tensor([0.5, 0.0]), rtol=1e-5)
