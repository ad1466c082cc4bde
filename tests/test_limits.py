import numpy as np
import pytest
import torch

from avrobust import APGD, AV, FGSM, PGD, Ball, BudgetError, Seeds, Square, Threat
from avrobust.budget_check import check
from avrobust.config import from_plain, to_plain
from avrobust.limits import DeltaE, Patch, PsychoacousticMask, Texture, Window
from avrobust.limits.colour import colour_slopes, lab
from avrobust.limits.elements import Product
from nets import clips, network

LIMITS = [Texture(), DeltaE(), Patch(0.25, 0.0, 0.75, 0.5), Window(0.0, 0.5), Texture() * Patch(0.0, 0.0, 0.5, 0.5)]
BALLS = [Ball(0.05, norm, limit, 0.0, 1.0) for limit in LIMITS for norm in ("linf", "l2")]


def frames(count: int = 3) -> torch.Tensor:
    """With texture, flat parts, and pixels at both ends."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(count, 2, 3, 8, 8, generator=g)
    x[..., :4, :4] = 0.5
    x[..., 6:, 6:] = 1.0
    return x


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_projection_and_random_starts_keep_the_radii(ball):
    x = frames()
    for delta in (
        ball.project(torch.randn(x.shape, generator=torch.Generator().manual_seed(1)), x),
        ball.random(x, Seeds(0, ("a", "b", "c")), "start"),
        ball.project(ball.ascent(torch.randn(x.shape, generator=torch.Generator().manual_seed(2)), x), x),
    ):
        adversarial = x + delta
        assert (ball.distance(adversarial, x) <= ball.allowed(x)).all()
        assert ((adversarial >= 0) & (adversarial <= 1)).all()
        assert (delta != 0).any()
        nowhere = ball.scale.radii(x).expand_as(x) == 0
        assert (delta[nowhere] == 0).all()
        assert torch.allclose(ball.project(delta, x), delta, atol=1e-7)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.unit)
def test_one_element_beyond_its_radius_is_found(limit):
    x = frames() * 0.8 + 0.1
    threat = Threat(audio=Ball(0.0), visual=Ball(0.02, scale=limit))
    signals = AV(torch.zeros(3, 8), x)
    delta = 0.02 * limit.radii(x).expand_as(x).clone()
    check(threat, signals, AV(signals.audio, x + delta), ("a", "b", "c"), "mine")
    delta[1, 0, 2, 5, 1] += 1e-3
    with pytest.raises(BudgetError, match=r"budget on clip 'b'.*1 of 3"):
        check(threat, signals, AV(signals.audio, x + delta), ("a", "b", "c"), "mine")


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=3), APGD(steps=4), Square(queries=20)], ids=repr)
def test_attacks_search_inside_any_radii(attack):
    batch, net = clips(4), network()
    threat = Threat(audio=Ball(0.05, scale=Window(0.0, 0.5)), visual=Ball(0.2, scale=Texture() * Patch(0, 0, 0.5, 1)))
    made = attack(net, batch.x, batch.label, threat, Seeds(0, batch.ids))
    check(threat, batch.x, made, batch.ids, "mine")
    moved = made.map(lambda a, s: a - s, batch.x)
    assert (moved.audio != 0).any()
    assert (moved.visual != 0).any()
    half = moved.audio.shape[1] // 2
    assert (moved.audio[:, half:] == 0).all()
    order = torch.tensor([2, 0, 3, 1])
    again = attack(net, batch.x.map(lambda s: s[order]), batch.label[order], threat, Seeds(0, batch.ids).subset(order))
    assert all(torch.allclose(a, m[order], atol=1e-6) for a, m in zip(again, made, strict=True))


def test_texture_is_the_sigma_map():
    x = frames()
    padded = np.pad(x.numpy().astype(np.float64), ((0, 0),) * 3 + ((1, 1), (1, 1)), mode="edge")
    down = np.stack([padded[..., i : i + 8, 1:-1] for i in range(3)]).std(0)
    along = np.stack([padded[..., 1:-1, i : i + 8] for i in range(3)]).std(0)
    np.testing.assert_allclose(Texture().radii(x), np.sqrt(np.minimum(down, along)), atol=1e-4)
    assert (Texture().radii(x)[..., 1:3, 1:3] == 0).all()  # flat: no rounding is seen
    assert Texture().radii(x[..., :1, :1]).shape == (3, 2, 3, 1, 1)


def test_slopes_of_colours_are_those_of_autograd():
    x = frames(1)[:, :1].double().clamp(0.001, 0.999)
    jacobian = torch.autograd.functional.jacobian(lambda s: lab(s).sum((0, 1, 3, 4)), x)  # (3, *x): each pixel its own
    for channel, slopes in enumerate(colour_slopes(x)):
        for axis, slope in enumerate(slopes):
            assert torch.allclose(jacobian[axis][:, :, channel], slope, rtol=1e-6)


@pytest.mark.parametrize("eps", [0.5, 2.0])
def test_no_colour_moves_further_than_a_budget_in_delta_e(eps):
    x, g = frames(), torch.Generator().manual_seed(3)
    ball, most = Ball(eps, scale=DeltaE(), low=0.0, high=1.0), 0.0
    for _ in range(8):  # corners of the pixels' boxes
        delta = ball.project(torch.randn(x.shape, generator=g).sign(), x)
        most = max(most, float((lab(x + delta) - lab(x)).square().sum(-3).sqrt().max()))
    assert 0.8 * eps < most < 1.25 * eps  # to first order; black is where colours bend most


def test_limits_multiply_and_say_what_they_are():
    both = Texture() * Patch(0, 0, 0.5, 1)
    assert isinstance(both, Product)
    assert both.unit == "texture, in a patch 0/0 to 0.5/1"
    for limit in (both, DeltaE(), PsychoacousticMask(8000, peak=0.1)):
        ball = Ball(0.5, scale=limit, low=-1.0, high=1.0)
        assert from_plain(to_plain(ball), Ball) == ball
        assert ball.budget.unit == limit.unit


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Window(0.5, 0.5), "Give start=0.25"),
        (lambda: Patch(0.0, 0.2, 1.0, 1.5), "left < right"),
        (lambda: Texture() * PsychoacousticMask(8000), "Give the mask alone"),
        (lambda: Threat.linf(audio="0.5 texture"), "for pixels"),
        (lambda: Threat.linf(visual="masking threshold"), "of audio"),
        (lambda: Threat.l2(audio="masking threshold"), "of audio"),
        (lambda: Ball(1.0, "masking"), "scale=PsychoacousticMask"),
        (lambda: PsychoacousticMask(0), "above 0 Hz"),
        (lambda: PsychoacousticMask(8000, peak=2.0), "full scale"),
        (lambda: PsychoacousticMask(8000, window=100 + 1), "multiple of 4"),
        (lambda: PsychoacousticMask(8000).at_rate(16000), "Leave the rate out"),
        *((lambda limit=limit: limit.radii(torch.zeros(4, 8)), r"\(b t 3 h w\), got \(4, 8\)") for limit in LIMITS[:3]),
        (lambda: PsychoacousticMask(8000).radii(frames()), r"PsychoacousticMask limits signals of shape \(b n\)"),
        (lambda: Threat.linf(audio="masking threshold, peak masking threshold"), "cannot read the budget"),
        (lambda: PsychoacousticMask().radii(torch.zeros(1, 8)), r"evaluate\(\.\.\., rate=16000\)"),
    ],
)
def test_limits_that_cannot_be_meant_are_refused_with_a_hint(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_budgets_of_perception_are_read_and_shown_as_typed():
    threat = Threat.linf(audio="Masking threshold -6 dB, peak -40 dBFS", visual="2 delta E")
    assert threat.audio.eps == pytest.approx(10 ** (-6 / 20))
    assert threat.audio.scale == PsychoacousticMask(peak=threat.audio.scale.peak)
    assert threat.audio.scale.peak == pytest.approx(0.01)
    assert threat.visual.scale == DeltaE()
    assert str(threat) == "audio Masking threshold -6 dB, peak -40 dBFS, visual linf 2 delta E"
    assert Threat.linf(audio="masking threshold by bands").audio.scale == PsychoacousticMask(bands=True)
    assert str(Threat.linf(audio="masking threshold").audio.scaled(0.5)) == "masking threshold -6.021 dB"
    assert Threat.linf(visual="0.25 texture").at_rate(16000).visual.scale == Texture()
    assert threat.at_rate(16000).audio.scale.rate == 16000
