import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
import torch

from avrobust import APGD, AV, FGSM, MIM, PGD, AVAutoAttack, Ball, BudgetError, Seeds, Threat
from avrobust.attacks import Diverse
from avrobust.budget_check import check
from avrobust.evaluation.budget_grid import BudgetGrid, evaluate_budgets
from avrobust.evaluation.evaluator import Evaluator
from avrobust.limits import PsychoacousticMask, masking
from nets import clips, network


def waves(rate: int, seconds: float = 0.5) -> torch.Tensor:
    """A chord that decays, noise with a gap, a click near full scale, and a quiet tone."""
    g = np.random.default_rng(0)
    n = round(rate * seconds)
    t = np.arange(n) / rate
    chord = sum(np.sin(2 * np.pi * f * t) / f**0.5 for f in (220, 447, 1310, 2900)) * np.exp(-3 * t) * 4
    noise = 0.1 * g.standard_normal(n)
    noise[n // 3 : n // 2] = 0
    click = np.where(np.arange(n) == n // 2, 0.99, 0) + 1e-3 * g.standard_normal(n)
    quiet = 1e-3 * np.sin(2 * np.pi * 800 * t)
    return torch.from_numpy(np.stack([chord, noise, click, quiet])).float().clamp(-1, 1)


def reference(wave: np.ndarray, rate: int, size: int) -> np.ndarray:
    """The threshold by the formulas, one frame, one masker and one bin after the other."""
    step, window = size // 4, 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    padded = np.concatenate([np.zeros(size - step), wave, np.zeros(-len(wave) % step + size - step)])
    f = np.arange(size // 2 + 1) * rate / size
    bark = 13 * np.arctan(0.00076 * f) + 3.5 * np.arctan((f / 7500) ** 2)
    khz = np.clip(f, 100, 16000) / 1000
    quiet = 3.64 * khz**-0.8 - 6.5 * np.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4 - 12
    spectra = [np.fft.rfft(window * padded[i : i + size]) for i in range(0, len(padded) - size + 1, step)]
    levels = [10 * np.log10(np.maximum(8 / 3 * (np.abs(s) / size) ** 2, 1e-30)) for s in spectra]
    loudest = max(level.max() for level in levels)
    found = []
    for level in levels:
        spl = np.round((level - loudest + 96) / 1e-3) * 1e-3
        maskers: list[tuple[float, float]] = []
        for k in range(1, len(f) - 1):
            own = round(10 * math.log10(sum(10 ** (spl[k + i] / 10) for i in (-1, 0, 1))) / 1e-3) * 1e-3
            if not (spl[k] > spl[k - 1] and spl[k] >= spl[k + 1] and own > quiet[k]):
                continue
            if maskers and bark[k] - maskers[-1][0] < 0.5:
                if own <= maskers[-1][1]:
                    continue
                maskers.pop()
            maskers.append((bark[k], own))
        power = 10 ** (quiet / 10)
        for at, own in maskers:
            for k, z in enumerate(bark):
                spread = 27 * (z - at) if z <= at else (-27 + 0.37 * max(own - 40, 0)) * (z - at)
                power[k] += 10 ** ((own - 6.025 - 0.275 * at + spread) / 10)
        found.append(np.sqrt(power * 10 ** ((loudest - 96) / 10) * 3 / 8) * size)
    return np.array(found)


@pytest.mark.parametrize("rate", [8000, 11025])
def test_the_threshold_is_that_of_the_formulas(rate):
    mask, x = PsychoacousticMask(rate, window=256), waves(rate, 0.1)
    found = mask.radii(x)
    assert found.dtype == torch.float32
    for wave, threshold in zip(x, found, strict=True):
        expected = reference(wave.numpy().astype(np.float64), rate, 256)
        np.testing.assert_allclose(mask.threshold(wave.numpy().astype(np.float64)), expected, rtol=1e-6)
        np.testing.assert_allclose(threshold, expected, rtol=1e-5)


@pytest.mark.parametrize(("rate", "window"), [(8000, 1024), (11025, 1024), (16000, 2048), (44100, 4096), (200, 16)])
def test_every_rate_and_length_has_a_threshold(rate, window):
    mask = PsychoacousticMask(rate)
    assert mask.size == window
    for n in (1, 37, window + 1):
        limit = mask.radii(0.1 * torch.ones(1, n))
        assert limit.shape[2] == window // 2 + 1
        assert limit.isfinite().all()
        assert torch.allclose(mask._signal(mask.spectrum(torch.ones(1, n)), n), torch.ones(1, n), atol=1e-5)


def test_a_clip_s_threshold_is_its_own_and_scales_with_it():
    mask, x = PsychoacousticMask(8000), waves(8000)
    one = mask.radii(x[2:3])
    assert torch.equal(mask.radii(x)[2:3], one)
    assert torch.allclose(mask.radii(x[2:3] / 4), one / 4, rtol=1e-4)  # played as loud: the clip's own peak is 96 dB
    assert (mask.radii(torch.zeros(1, 4000)) == 0).all()
    absolute = PsychoacousticMask(8000, full_scale=90.0)
    assert absolute.radii(torch.zeros(1, 4000)).min() > 0  # what quiet hides
    bands = PsychoacousticMask(8000, bands=True).radii(x)
    assert (bands < mask.radii(x) / 2).all()


BUDGETS = [
    "masking threshold",
    "masking threshold -12 dB",
    "masking threshold by bands",
    "masking threshold +6 dB, peak 0.01",
]


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("budget", BUDGETS)
def test_projection_stays_below_the_threshold_exactly(budget, rate):
    x, ball = waves(rate), Threat.linf(audio=budget).at_rate(rate).audio
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(x.shape, generator=g)
    nearly = ball.project(ball.random(x, Seeds(0, tuple("abcd")), "start"), x)
    for delta in (noise, 0.01 * noise.sign(), ball.ascent(noise, x), torch.ones_like(x), nearly):
        made = ball.project(delta, x)
        adversarial = (x + made).clamp(-1, 1)
        assert (ball.distance(adversarial, x) <= ball.eps).all()  # no tolerance: the excess is 0 dB at most
        assert (adversarial.abs() <= 1).all()
        assert ball.scale.peak is None or (adversarial - x).abs().max() <= ball.scale.peak + 1e-7
        assert (made != 0).any(1).all()
        alone = ball.project(delta[1:2], x[1:2])
        assert torch.allclose(alone, made[1:2], atol=1e-6)  # of whatever batch
    used = ball.distance(x + ball.project(noise, x), x) / ball.eps
    assert (used > 0.95).all()  # the budget is used
    small = 1e-3 * nearly
    assert torch.allclose(ball.project(small, x), small, atol=1e-7)


def test_a_silent_clip_may_not_change():
    x, ball = torch.zeros(2, 4000), Threat.linf(audio="masking threshold").at_rate(8000).audio
    assert (ball.project(torch.randn(2, 4000), x) == 0).all()
    assert (ball.ascent(torch.randn(2, 4000), x) == 0).all()
    assert (ball.distance(x, x) == 0).all()


@pytest.mark.parametrize(
    "attack", [FGSM(), PGD(steps=2), MIM(steps=2, look_ahead=True), APGD(steps=3), AVAutoAttack(steps=2)], ids=repr
)
def test_attacks_stay_below_the_threshold(attack):
    batch, net = clips(3), network()
    threat = Threat.linf(audio="masking threshold", visual="0.2 texture").at_rate(11025)
    made = attack(net, batch.x, batch.label, threat, Seeds(0, batch.ids))
    check(threat, batch.x, made, batch.ids, "mine")
    assert (made.audio != batch.x.audio).any()


def test_threads_that_look_up_one_clip_count_it_once(monkeypatch):
    known, both, x = masking._Known(), Barrier(2), waves(8000)[:1]
    slow = lambda mask, wave: np.ones((both.wait(10) + 3, 8))[:3]  # noqa: E731, both are under way
    monkeypatch.setattr(PsychoacousticMask, "threshold", slow)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: known(PsychoacousticMask(8000), x), range(2)))
    assert known._bytes == sum(found.nbytes for found in known._kept.values()) > 0


@pytest.mark.parametrize("attack", [FGSM(stop=True), PGD(stop=True, restarts=2), MIM(stop=True, variations=(Diverse(),)), APGD()], ids=repr)  # fmt: skip
def test_a_search_ends_when_all_clips_are_fooled(attack):
    net, x, threat = network(), clips(3).x, Threat.linf(audio="masking threshold").at_rate(11025)
    y = (net(x).argmax(1) + 1) % 4
    assert (net(attack(net, x, y, threat, Seeds(0, tuple("abc")))).argmax(1) != y).all()


def test_what_is_louder_than_the_threshold_is_refused():
    x = AV(waves(8000), torch.zeros(4, 1, 3, 2, 2))
    threat = Threat.linf(audio="masking threshold").at_rate(8000)
    with pytest.raises(BudgetError, match=r"left its audio budget on clip 'a': masking = .*4 of 4"):
        check(threat, x, AV(x.audio + 0.01, x.visual), tuple("abcd"), "mine")
    peaked = Threat(audio=Ball(1.0, scale=PsychoacousticMask(8000, peak=0.001)), visual=Ball(0.0))
    loud = threat.audio.project(torch.randn(4, 4000, generator=torch.Generator().manual_seed(0)), x.audio)
    check(threat, x, AV(x.audio + loud, x.visual), tuple("abcd"), "mine")
    with pytest.raises(BudgetError, match="left its audio budget"):
        check(peaked, x, AV(x.audio + loud, x.visual), tuple("abcd"), "mine")


def test_clips_of_budgets_of_their_own_stay_below_their_thresholds():
    batch, net = clips(3), network()
    batch = replace(batch, label=net(batch.x).argmax(1))
    grid = BudgetGrid(
        Threat.linf(audio="masking threshold", visual="2 delta E").at_rate(11025), levels=2, floor_db=6, step_db=6
    )
    evaluator = Evaluator(net, [batch], rate=11025)
    found = evaluate_budgets(evaluator, PGD(steps=2), (*grid.cells, *grid.ladder))  # which checks every clip
    assert set(found.rows["norm_audio"].to_pylist()) == {"", "masking"}
    assert np.nanmax(found.rows["used_audio"].to_numpy()) <= 1
    assert found.attacks > len(batch)
