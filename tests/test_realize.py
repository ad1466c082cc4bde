"""What is left of a clip, and of an attack, after it was stored or sent."""

import io
import wave as riff
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from avrobust import AV, PGD, Batch, Rows, Seeds, Threat, evaluate
from avrobust.attacks import ANYTHING, Published, Saved, engine
from avrobust.attacks.saved import behind, on_levels
from avrobust.evaluation.realize import Coarser, Lossless, Mp4, Sent
from avrobust.evaluation.run import Subject
from avrobust.media import ClipSpec, decode, encode_png, encode_wav, write_mp4
from avrobust.media.channel import through_mp4
from avrobust.study.plan import Trial
from nets import clips, linear, network
from tiny_study import study

RATE = 11025
CHANNELS = [Lossless(), Coarser(), Mp4(), Mp4(crf=35, audio_bitrate=24_000)]


def chirp(samples: int, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A sound that resembles no shifted copy of itself."""
    t, noise = np.arange(samples) / rate, np.random.default_rng(seed).normal(0, 0.02, samples)
    return (0.4 * np.sin(2 * np.pi * (200 + 900 * t) * t) + noise).astype(np.float32)


def shapes(frames: int, high: int, wide: int) -> np.ndarray:
    """Pictures that a codec can carry, each brighter than the one before."""
    y, x = np.mgrid[0:high, 0:wide]
    one = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], axis=-1) * 0.3 + 0.4
    return np.stack([one + 0.2 * i / max(1, frames - 1) for i in range(frames)]).astype(np.float32)


def signals(batch: int = 2, samples: int = 3000, frames: int = 2, high: int = 33, wide: int = 47) -> AV[Tensor]:
    """Clips as files hold them."""
    sound = torch.from_numpy(np.stack([chirp(samples, seed=i) for i in range(batch)]))
    picture = torch.from_numpy(shapes(frames, high, wide)).permute(0, 3, 1, 2)
    return on_levels(AV(audio=sound, visual=torch.stack([picture.roll(5 * i, -1) for i in range(batch)])))


def lag(came: np.ndarray, went: np.ndarray) -> int:
    """By how many samples `came` is late, from the peak of the cross-correlation."""
    size = 2 * len(went)
    product = np.fft.irfft(np.fft.rfft(came, size) * np.conj(np.fft.rfft(went, size)))
    peak = int(np.argmax(product))
    return peak if peak < len(went) else peak - size


def db(signal: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(signal**2) / np.mean((other - signal) ** 2)))


# Channels


@pytest.mark.parametrize("channel", CHANNELS, ids=str)
def test_a_channel_keeps_shape_range_type_and_depends_on_the_clip_alone(channel):
    x = signals(3)
    y = channel(x)
    for before, after, (low, high) in zip(x, y, ((-1, 1), (0, 1)), strict=True):
        assert after.shape == before.shape and after.dtype == before.dtype
        assert after.min() >= low and after.max() <= high
    alone = channel(x.map(lambda s: s[[2]]))
    assert all(torch.equal(one[0], many[2]) for one, many in zip(alone, y, strict=True))
    assert all(torch.equal(again, first) for again, first in zip(channel(x), y, strict=True))


def test_lossless_is_what_png_and_wav_hold():
    g = torch.Generator().manual_seed(0)
    x = AV(audio=torch.rand(1, 999, generator=g) * 2 - 1, visual=torch.rand(1, 1, 3, 7, 9, generator=g))
    x.audio[0, :2] = torch.tensor([1.0, -1.0])
    y = Lossless()(x)
    with riff.open(io.BytesIO(encode_wav(x.audio[0].numpy(), RATE))) as file:
        stored = np.frombuffer(file.readframes(-1), "<i2") / 32768
    picture = np.asarray(Image.open(io.BytesIO(encode_png(x.visual[0, 0].permute(1, 2, 0).numpy()))))
    assert np.array_equal(y.audio[0].numpy(), stored.astype(np.float32))
    assert np.array_equal(y.visual[0, 0].permute(1, 2, 0).numpy(), picture.astype(np.float32) / 255)
    assert all(torch.equal(a, b) for a, b in zip(Lossless()(y), y, strict=True))  # what was stored comes back


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100])
@pytest.mark.parametrize("samples", [2048, 5001, 12_288])
def test_sound_comes_back_aligned(rate, samples):
    sound = chirp(samples, rate)
    back, _ = through_mp4(sound, shapes(1, 8, 8), rate, 4.0)
    assert len(back) == samples and lag(back, sound) == 0
    assert db(sound, back) > 12  # one sample late would be about 9 dB at the highest of these pitches and rates
    resampled = Coarser(rate=rate, to=rate * 2 // 3)(AV(torch.from_numpy(sound)[None], torch.zeros(1, 1, 3, 8, 8)))
    assert lag(resampled.audio[0].numpy(), sound) == 0


@pytest.mark.parametrize("samples", [1, 2, 17, 1023, 1024, 1025])
def test_the_shortest_sounds_come_back(samples):
    back, _ = through_mp4(np.full(samples, 0.5, np.float32), shapes(1, 2, 2), RATE, 4.0)
    assert back.shape == (samples,) and np.abs(back - 0.5).mean() < 0.25
    x = AV(torch.full((1, samples), 0.5), torch.zeros(1, 1, 3, 1, 1))
    assert Coarser()(x).audio.shape == (1, samples)


def test_silence_stays_silent_and_black_black():
    x = AV(torch.zeros(1, 3000), torch.zeros(1, 1, 3, 16, 16))
    for channel in CHANNELS:
        y = channel(x)
        assert y.audio.abs().max() == 0 and y.visual.max() <= 1 / 255


@pytest.mark.parametrize("high, wide", [(1, 1), (3, 5), (64, 64), (33, 47)])
@pytest.mark.parametrize("frames", [1, 5])
def test_pictures_come_back_in_their_order_and_size(frames, high, wide):
    went = shapes(frames, high, wide)
    _, came = through_mp4(np.zeros(3000, np.float32), went, RATE, 4.0)
    assert came.shape == went.shape and came.dtype == np.uint8
    gaps = np.abs(came[:, None] / 255 - went[None]).mean((2, 3, 4))
    assert (gaps.argmin(1) == np.arange(frames)).all() and np.diagonal(gaps).max() < 0.05


def test_it_is_the_file_that_a_player_opens(tmp_path):
    """The same through a file on disk and the package's own decoder, which knows nothing of this way."""
    sound, picture = chirp(RATE), shapes(4, 32, 32)
    heard, seen = through_mp4(sound, picture, RATE, 4.0, crf=28, audio_bitrate=48_000)
    file = write_mp4(tmp_path / "a.mp4", np.pad(sound, (0, 1024)), picture, RATE, 4.0, crf=28, audio_bitrate=48_000)
    clip = decode(file, ClipSpec(seconds=1, rate=RATE, fps=4, size=32))
    assert np.abs(clip.wave - heard).max() < 1e-6
    assert np.array_equal(clip.frames, seen)


def test_less_room_keeps_less():
    x = signals(1, samples=RATE, frames=1, high=64, wide=64)

    def kept(**settings) -> AV[float]:
        return x.map(lambda before, after: db(before.numpy(), after.numpy()), Mp4(**settings)(x))

    best, middle, worst = kept(crf=10), kept(crf=30, audio_bitrate=32_000), kept(crf=45, audio_bitrate=12_000)
    assert best.visual > middle.visual > worst.visual
    assert best.audio > middle.audio > worst.audio


def test_coarser_keeps_what_is_slow_and_loses_what_is_fast():
    t = torch.arange(RATE) / RATE
    low, high = (0.5 * torch.sin(2 * torch.pi * f * t)[None] for f in (500, 5000))
    slow = torch.from_numpy(shapes(1, 64, 64)).permute(0, 3, 1, 2)[None]
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float().expand(1, 1, 3, 64, 64)
    channel = Coarser(to=8000, size=0.5)
    kept, lost = channel(AV(low, slow)), channel(AV(high, board))
    inside = slice(200, -200)  # the ends of a sound are steps, which no low-pass keeps
    assert db(low[0, inside].numpy(), kept.audio[0, inside].numpy()) > 40
    assert db(slow.numpy(), kept.visual.numpy()) > 25
    assert lost.audio[0, inside].abs().max() < 0.05 and (lost.visual - 0.5).abs()[..., 4:-4, 4:-4].max() < 0.05
    assert Lossless()(kept).map(torch.equal, kept) == AV(True, True)


def test_a_rate_that_aac_does_not_know_is_refused():
    with pytest.raises(ValueError, match=r"AAC carries .* got 11000"):
        Mp4(rate=11_000)(signals(1))


# Attacks that are sent


def on_grid(batch: Batch) -> Batch:
    return replace(batch, x=on_levels(batch.x))


def crush(x: AV[Tensor]) -> AV[Tensor]:
    """A channel of one's own: two levels of loudness, four of light."""
    return AV(audio=x.audio.sign() * 0.5, visual=(x.visual * 3).round() / 3)


THREAT = Threat.linf(audio=0.05, visual="12/255")


@pytest.mark.parametrize("model", [network(), linear], ids=["AVNet", "callable"])
@pytest.mark.parametrize("subset", ["A", "V", "AV"])
def test_rows_are_what_the_model_says_of_what_arrives(model, subset):
    batch, threat = on_grid(clips(8)), THREAT.only(subset)
    attack = PGD(steps=3)
    row = evaluate(model, [batch], [Sent(crush, attack)], [threat]).where(mode="sent")
    craft = engine.embedded(engine.crafting(model, batch.x.map(lambda s: s[:2])), batch.x)
    arrived = crush(attack(craft, batch.x, batch.label, threat, Seeds(0, batch.ids)))
    with torch.no_grad():
        said = model(arrived)
    # The untouched modality went through the channel too.
    assert row.column("pred").tolist() == said.argmax(1).tolist()
    assert (row.column("linf_audio") > 0).all() and (row.column("linf_visual") > 0).all()
    assert row.data["attack"][0].as_py() == "PGD-3 > crush" and row.data["subset"][0].as_py() == subset


def test_clips_that_are_made_once_are_sent_everywhere():
    batch, attack, calls = on_grid(clips(8)), PGD(steps=3), []

    def counted(model, x, y, threat, seeds):
        calls.append(threat.subset)
        return attack(model, x, y, threat, seeds)

    counted.name = attack.name
    subject = Subject(network(), [batch])
    made = subject.under(counted, THREAT, sent=[crush, Lossless()])
    assert calls == ["AV"]
    apart = [subject.under(a, THREAT) for a in (attack, Sent(crush, attack), Sent(Lossless(), attack))]
    assert made.data["mode"].unique().to_pylist() == ["sent"]
    assert list(dict.fromkeys(made.data["attack"].to_pylist())) == [
        "PGD-3 > as made", "PGD-3 > crush", "PGD-3 > 8 and 16 bits",
    ]  # fmt: skip
    for name in ("clip", "pred", "margin", "linf_audio", "used_visual", "psnr_db"):
        assert made.data[name].to_pylist() == Rows.concat(apart).data[name].to_pylist()


def test_the_channel_itself_is_a_row_of_its_own():
    batch = on_grid(clips(8))
    rows = evaluate(network(), [batch], [Sent(crush)], [ANYTHING])
    control = rows.where(attack="none > crush")
    with torch.no_grad():
        assert control.column("pred").tolist() == network()(crush(batch.x)).argmax(1).tolist()
    assert control.data["mode"].unique().to_pylist() == ["sent"]


def test_an_attack_that_leaves_its_budget_is_judged_on_both_modalities():
    """What was not checked to be untouched is not taken for it."""
    batch = on_grid(clips(8))

    class Sneaky(Published):
        def __call__(self, model, x, y, threat, seeds):
            return AV(audio=x.audio, visual=1 - x.visual)

    rows = evaluate(network(), [batch], [Sneaky("MIM")], [Threat.tian2021(0.01, 0.0)]).where(subset="A")
    with torch.no_grad():
        said = network()(AV(audio=batch.x.audio, visual=1 - batch.x.visual))
    assert rows.column("pred").tolist() == said.argmax(1).tolist()


@pytest.mark.parametrize("model", [network(), linear], ids=["AVNet", "callable"])
@pytest.mark.parametrize("subset", ["A", "V", "AV"])
def test_a_model_behind_a_channel_meets_what_arrives_and_passes_gradients(model, subset):
    batch, threat = clips(4), THREAT.only(subset)
    seen = engine.pinned(behind(crush, model), batch.x, threat)
    with torch.no_grad():
        assert torch.allclose(seen(batch.x), model(crush(batch.x)), atol=1e-5)

    def total(m, x, y):
        return m(x)[:, 0]

    _, grad = engine.gradient(seen, total, batch.x, batch.label, threat)
    _, wanted = engine.gradient(model, total, crush(batch.x), batch.label, threat)
    assert all(torch.allclose(g, w, atol=1e-6) for g, w in zip(grad, wanted, strict=True))


def test_who_knows_the_channel_keeps_more():
    batch, threat = on_grid(clips(32)), Threat.linf(audio=0.2, visual="40/255")
    blind, knowing = Sent(crush, PGD(steps=8)), Sent(crush, PGD(steps=8), known=True)
    rows = evaluate(network(), [batch], [blind, knowing], [threat])
    gain = np.subtract(*(rows.where(attack=a.name).column("margin") for a in (knowing, blind)))
    assert gain.mean() > 0.1 and (gain > 1e-4).sum() > 2 * (gain < -1e-4).sum()


# In a study


def test_trials_share_what_is_attacked():
    threats = (Threat.linf(audio=0.01), THREAT)
    crushed, lossless = (Trial(("AV",), (PGD(),), threats[1:], sent=(c,)) for c in (Mp4(), Lossless()))
    plan = replace(study, trials=(Trial(("AV",), (PGD(),), threats), crushed, lossless, crushed))
    cells = list(plan.cells("AV", 0))
    found = [(c.attack_name, c.threat, c.sent) for c in cells[1:]]
    assert len({c.key() for c in cells}) == len(cells) == 6
    assert sorted(found, key=str) == sorted(
        [
            ("PGD-10", threats[0], ()),
            ("PGD-10", threats[1], ()),
            ("PGD-10", threats[1], (Mp4(), Lossless())),
            (f"none > {Mp4().name}", ANYTHING, ()),
            (f"none > {Lossless().name}", ANYTHING, ()),
        ],
        key=str,
    )
    assert cells[1].key() != replace(cells[1], sent=(Mp4(),)).key()
    only = replace(plan, trials=(Trial(("A",), (PGD(),), threats, sent=(Mp4(),)),)).cells("A", 0)
    assert [c.threat.subset for c in only] == ["clean", "A", "A"]


def test_saved_clips_arrive_as_they_are():
    batch = on_grid(clips(8))
    rows = evaluate(network(), [batch], [Saved(PGD(steps=3)), Sent(Lossless(), Saved(PGD(steps=3)))], [THREAT])
    made, arrived = (rows.where(attack=f"PGD-3, saved{end}") for end in ("", " > 8 and 16 bits"))
    for name in ("pred", "linf_audio", "linf_visual"):
        assert np.allclose(made.column(name), arrived.column(name), atol=1e-7)
