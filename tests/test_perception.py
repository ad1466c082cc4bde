import math

import numpy as np
import pytest
import torch

from avrobust import AV, PGD, Threat, evaluate
from avrobust.attacks import ANYTHING, Mute
from avrobust.evaluation import perception
from avrobust.evaluation.perception import (
    above_mask,
    colour_difference,
    noise_to_mask,
    perceived,
    segmental_snr,
    ssim,
)
from avrobust.limits import PsychoacousticMask
from nets import clips, network

RATE = 8000


def tone(n: int = 4000) -> torch.Tensor:
    return 0.4 * torch.sin(torch.arange(n) * 0.7)[None]


def pictures(size: int = 24) -> torch.Tensor:
    return torch.rand(2, 1, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_ssim_is_wang_s_formula_window_by_window():
    x, y = pictures(), pictures().flip(0) * 0.7 + 0.1
    w = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    w = np.outer(w, w) / w.sum() ** 2
    for a, b, found in zip(x.double().numpy(), y.double().numpy(), ssim(x, y), strict=True):
        every = []
        for p, q in zip(a[0], b[0], strict=True):
            for i in range(14):
                for j in range(14):
                    s, t = p[i : i + 11, j : j + 11], q[i : i + 11, j : j + 11]
                    ms, mt = (w * s).sum(), (w * t).sum()
                    vs, vt, both = (w * (s - ms) ** 2).sum(), (w * (t - mt) ** 2).sum(), (w * (s - ms) * (t - mt)).sum()
                    top = (2 * ms * mt + 1e-4) * (2 * both + 9e-4)
                    every.append(top / ((ms**2 + mt**2 + 1e-4) * (vs + vt + 9e-4)))
        assert found == pytest.approx(np.mean(every), rel=1e-9)
    assert all(math.isnan(s) for s in ssim(x[..., :10, :10], y[..., :10, :10]))  # smaller than a window


def test_ssim_is_scikit_image_s():
    metrics = pytest.importorskip("skimage.metrics")
    x, y = pictures(), pictures().flip(0)
    for a, b, found in zip(x, y, ssim(x, y), strict=True):
        theirs = metrics.structural_similarity(
            a[0].double().numpy(), b[0].double().numpy(), data_range=1.0, channel_axis=0, gaussian_weights=True,
            sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        assert found == pytest.approx(theirs, abs=1e-9)


def test_segments_cannot_hide_behind_the_rest():
    x = torch.cat([tone(2048), torch.zeros(1, 2048)], 1)
    x[:, 2048:] = 0.01 * x[:, :2048]
    loud, soft = x.clone(), x.clone()
    loud[:, :2048] *= 1.1  # the same energy of noise: where the clip is loud
    soft[:, 2048:] += 0.1 * x[:, :2048]  # and where it is quiet
    assert segmental_snr(x, loud, RATE) == [pytest.approx(27.5)]  # 20 dB in one half, 35 in the other
    assert segmental_snr(x, soft, RATE) == [pytest.approx(12.5)]  # -20 dB counts as -10
    assert all(map(math.isnan, segmental_snr(0 * x, x, RATE)))  # a silent clip has no SNR


def test_noise_below_and_above_the_threshold():
    x, mask = tone(), PsychoacousticMask(RATE)
    limit = mask.radii(x)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    just = mask.project(noise, x, limit, -1.0, 1.0)
    assert -0.5 < above_mask(x, x + just, RATE)[0] <= 0
    assert above_mask(x, x + 2 * just, RATE)[0] == pytest.approx(above_mask(x, x + just, RATE)[0] + 6.02, abs=0.05)
    by_bands = PsychoacousticMask(RATE, bands=True)
    less = by_bands.project(noise, x, by_bands.radii(x), -1.0, 1.0)
    assert noise_to_mask(x, x + less, RATE)[0] < 0.5 < noise_to_mask(x, x + just, RATE)[0]  # power adds up within bands
    assert above_mask(0 * x, just, RATE) == noise_to_mask(0 * x, just, RATE) == [math.inf]


def test_colour_differences_are_those_of_cielab():
    red, green, blue = torch.eye(3).view(3, 1, 1, 3, 1, 1)
    # as published: L, a, b of sRGB's primaries are 53.24 80.09 67.20, 87.73 -86.18 83.18 and 32.30 79.19 -107.86
    assert colour_difference(red, green) == pytest.approx([170.57], abs=0.05)
    assert colour_difference(red, blue) == pytest.approx([176.31], abs=0.05)


def test_every_measure_knows_clips_that_did_not_change():
    x = AV(tone().expand(2, -1).clone(), pictures())
    moved = AV(x.audio.clone(), x.visual.clone())
    moved.audio[1] *= 0.9
    moved.visual[1] *= 0.9
    found = perceived(x, moved, RATE)
    unchanged = {name: values[0] for name, values in found.items()}
    assert unchanged == {"segsnr_db": math.inf, "mask_db": -math.inf, "nmr_db": -math.inf, "ssim": 1.0, "delta_e": 0.0}
    assert all(math.isfinite(values[1]) for values in found.values())
    assert perceived(x, x, RATE) == {name: [value, value] for name, value in unchanged.items()}


def test_rows_say_how_audible_and_visible_an_attack_is():
    batch = clips(3)
    threat = Threat.linf(audio="masking threshold", visual="2 delta E")
    rows = evaluate(network(), batch, PGD(steps=2), threat, rate=11025)
    audio, visual = rows.where(subset="A"), rows.where(subset="V")
    assert (audio.column("mask_db") <= 0).all()
    assert (audio.column("used_audio") > 0.5).all()
    assert np.isneginf(visual.column("mask_db")).all()
    assert (visual.column("delta_e") <= 2.1).all()
    assert (visual.column("delta_e") > 0.1).all()
    with pytest.raises(ValueError, match="needs the sampling rate"):
        evaluate(network(), batch, PGD(steps=2), threat)
    muted = evaluate(network(), batch, Mute(), [ANYTHING], rate=11025).where(attack="muted")  # no attack
    assert np.isnan(muted.column("ssim")).all() and np.isfinite(muted.column("snr_db")).all()


def test_measures_of_a_clip_are_its_own_whatever_is_measured_with_it(monkeypatch):
    x = AV(torch.cat([tone(), tone().flip(1), 0.1 * tone()]), torch.cat([pictures(), pictures()])[:3])
    moved = AV(0.9 * x.audio, 0.9 * x.visual)
    found = perceived(x, moved, RATE)
    monkeypatch.setitem(perception.AT_ONCE, "cpu", 1)
    clips = zip(*(part.split(1) for s in (x, moved) for part in s), strict=True)
    alone = [perceived(AV(*clip[:2]), AV(*clip[2:]), RATE) for clip in clips]
    for name, values in found.items():
        assert values == pytest.approx([clip[name][0] for clip in alone], rel=1e-9, abs=1e-9)
