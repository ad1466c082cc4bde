"""Corruptions: their declared strength, the same for the same (seed, clip), at any shape."""

from itertools import pairwise

import pytest
import torch

from avrobust import AV, Batch, Threat, evaluate
from avrobust.attacks import ANYTHING
from avrobust.corruptions import KINDS, SEVERITIES, Corruption, Gap, Missing, corruptions
from avrobust.corruptions.digital import SNR_DB as DIGITAL_DB
from avrobust.corruptions.weather import SNR_DB as WEATHER_DB
from avrobust.evaluation.channels import Coarser, Mp4, Sent
from avrobust.seeds import Seeds
from avrobust.timing import Delay

RATE = 8000


def clips(count: int = 2, samples: int = 2000, frames: int = 2, height: int = 24, width: int = 32):
    g = torch.Generator().manual_seed(0)
    smooth = torch.rand((count, frames, 3, 4, 4), generator=g).flatten(0, 1)
    visual = torch.nn.functional.interpolate(smooth, (height, width), mode="bilinear").unflatten(0, (count, frames))
    t = torch.arange(samples) / RATE
    audio = torch.stack([0.3 * torch.sin(2 * torch.pi * hz * t) for hz in (200, 310, 470, 700)[:count]])
    return AV(audio=audio, visual=visual)


def corrupted(c, x, ids=("a", "b"), on="AV", seed=0):
    return c(None, x, None, ANYTHING.only(on), Seeds(seed, ids))


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_s_corruption_depends_on_nothing_but_seed_and_clip(kind):
    x = clips()
    before = x.map(torch.clone)
    both = corrupted(Corruption(kind, 4, RATE), x)
    alone = corrupted(Corruption(kind, 4, RATE), x.map(lambda s: s[1:]), ids=("b",))
    other = corrupted(Corruption(kind, 4, RATE), x, seed=1)
    for modality, s in both.items():
        clean = getattr(x, modality)
        assert torch.equal(clean, getattr(before, modality)), "clips stay as they were"
        assert torch.equal(s[1:], getattr(alone, modality))
        assert s.shape == clean.shape and s.dtype == clean.dtype
        assert not torch.equal(s, clean)
        if kind != "compression":  # which draws nothing
            assert not torch.equal(s, getattr(other, modality))
    assert both.audio.abs().max() <= 1 and both.visual.min() >= 0 and both.visual.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_severities_are_in_order(kind):
    x = clips(1, samples=8000)
    made = [corrupted(Corruption(kind, s, RATE), x, ids=("a",)) for s in SEVERITIES]
    for s in ("audio", "visual"):
        size = [float((getattr(m, s) - getattr(x, s)).square().mean()) for m in made]
        # A tone of 200 Hz passes every low-pass; which way a camera turns matters as much as how far.
        if (kind, s) not in {("compression", "audio"), ("interference", "visual")}:
            assert size == sorted(size) and size[0] < size[-1], f"{s}: {size}"


@pytest.mark.parametrize(
    ("kinds", "snr_db"),
    [
        (("gaussian", "impulse", "shot", "speckle"), DIGITAL_DB),
        (("snow", "frost", "spatter", "wind", "rain", "concert", "smoke", "crowd"), WEATHER_DB),
    ],
)
def test_noise_has_the_signal_to_noise_ratio_that_it_is_said_to_have(kinds, snr_db):
    x = AV(audio=0.2 * clips(1).audio, visual=clips(1).visual)  # far from full scale: nothing is clipped
    for c in corruptions([k for k in kinds if k != "impulse"], (1, 3), RATE):
        noise = corrupted(c, x, ids=("a",), on="A").audio - x.audio
        assert float(20 * (x.audio.norm() / noise.norm()).log10()) == pytest.approx(snr_db[c.severity - 1], abs=0.1)


@pytest.mark.parametrize("shape", [(64, 1, 8, 8), (501, 3, 33, 17), (3000, 1, 48, 20)], ids=str)
def test_any_shape(shape):
    samples, frames, height, width = shape
    x = clips(1, samples, frames, height, width)
    for c in corruptions(severities=(1, 5), rate=RATE):
        made = corrupted(c, x, ids=("a",))
        assert all(s.isfinite().all() for s in made) and made.visual.shape == x.visual.shape, c.name


def test_silence_gets_faint_noise():
    x = AV(audio=torch.zeros(1, 2000), visual=clips(1).visual)
    for kind in ("gaussian", "shot", "wind", "crowd"):
        loud = corrupted(Corruption(kind, 5, RATE), x, ids=("a",), on="A").audio
        assert 0 < float(loud.square().mean().sqrt()) == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "fog"}, "gaussian, impulse"),
        ({"kind": "rain", "severity": 0}, "1, 2, 3, 4 or 5"),
        ({"kind": "rain", "rate": 0}, "in Hz"),
    ],
)
def test_what_cannot_be_meant(given, said):
    with pytest.raises(ValueError, match=said):
        Corruption(**given)


def test_missing_clips_are_nested_and_as_many_as_asked():
    x = AV(audio=torch.ones(400, 2), visual=torch.ones(400, 1, 3, 1, 1))
    ids = tuple(map(str, range(400)))
    gone = [corrupted(Missing(r), x, ids).map(lambda s: (s != 1).flatten(1).all(1)) for r in (0.0, 0.3, 0.6, 1.0)]
    assert not gone[0].audio.any() and gone[-1].audio.all() and gone[-1].visual.all()
    assert 0.2 < float(gone[1].audio.float().mean()) < 0.4  # 400 draws: six standard deviations are 0.14
    for fewer, more in pairwise(gone):
        assert bool((more.audio | ~fewer.audio).all()) and bool((more.visual | ~fewer.visual).all())
    assert not torch.equal(gone[1].audio, gone[1].visual)
    with pytest.raises(ValueError, match=r"0\.3 for 30 %"):
        Missing(30)


def test_gaps_have_their_length_and_come_together():
    x = AV(audio=torch.ones(3, 1000), visual=torch.ones(3, 100, 3, 1, 1))
    ids = ("a", "b", "c")
    lost = corrupted(Gap(0.25), x, ids).map(lambda s: (s == 0).flatten(2).all(2) if s.ndim > 2 else s == 0)
    assert lost.audio.sum(1).tolist() == pytest.approx([250] * 3, abs=1)
    assert lost.visual.sum(1).tolist() == pytest.approx([25] * 3, abs=1)
    starts = [(int(a.int().argmax()), int(v.int().argmax())) for a, v in zip(lost.audio, lost.visual, strict=True)]
    assert all(abs(a / 1000 - v / 100) <= 0.011 for a, v in starts) and len(set(starts)) == 3
    apart = corrupted(Gap(0.25, together=False), x, ids)
    assert not torch.equal(apart.audio[:, ::10] == 0, (apart.visual == 0).flatten(2).all(2))


def test_they_are_measured_like_attacks_and_raise_no_doubt_in_them():
    x = clips(4)
    batch = Batch(x, torch.tensor([0, 1, 0, 1]))
    rows = evaluate(
        lambda s: torch.stack([s.audio.square().mean(1), s.visual.mean((1, 2, 3, 4))], 1),
        batch,
        [*corruptions(["rain"], (1, 5), RATE), Missing(1.0)],
        ANYTHING,
    )
    assert set(rows.data["mode"].to_pylist()) == {"corrected", "corruption", "missing"}
    assert len(rows.where(attack="rain 5", subset="AV")) == 4
    assert not any(name in f.text for f in rows.flags() for name in ("rain 5", "missing 100"))


def test_the_rate_of_the_clips_is_filled_in_where_it_is_known():
    """A tone of 2 kHz does not pass a low-pass at 1 kHz, whatever rate the corruption, the channel or the delay was made with."""
    x = AV(
        0.3 * torch.sin(2 * torch.pi * 2000 * torch.arange(44_100) / 44_100)[None], torch.full((1, 2, 3, 16, 16), 0.5)
    )
    batch = Batch(x, torch.tensor([0]))

    def loud(s):
        return torch.stack([s.audio.square().mean(1), torch.full((len(s.audio),), 0.02)], 1)

    def rows(attack, threat, **rate):
        found = evaluate(loud, batch, [attack], threat, **rate).where(attack=attack.name, subset="A")
        return found.data.select(["correct", "l2_audio"]).to_pylist()

    heard = [rows(Corruption("compression", 5, r), ANYTHING.only("A"), rate=44_100) for r in (16_000, 44_100)]
    assert heard[0] == heard[1] and not heard[0][0]["correct"]
    assert rows(Corruption("compression", 5), ANYTHING.only("A"))[0]["correct"]
    both = Sent(Mp4(), Corruption("compression", 5))
    assert both.at_rate(44_100) == Sent(Mp4(44_100), Corruption("compression", 5, 44_100))
    sent = [rows(Sent(Coarser(rate=r)), ANYTHING, rate=44_100) for r in (11_025, 44_100)]
    assert sent[0] == sent[1]
    late = Threat(Delay(20.0), Delay(500.0, rate=2)).at_rate(44_100)
    assert (late.audio.most, late.visual.most) == (882, 1)
