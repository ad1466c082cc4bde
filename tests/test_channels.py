"""What is left of a clip, and of an attack, after it was stored or sent."""

import io
import wave as riff
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from avrobust import AV, PGD, Batch, Published, Rows, Seeds, Threat, engine, evaluate, report
from avrobust.attacks import ANYTHING, Quantized
from avrobust.attacks.quantized import behind, on_levels
from avrobust.evaluation.channels import Coarser, Lossless, Mp4, Sent
from avrobust.evaluation.evaluator import Evaluator
from avrobust.evaluation.stats import proportion
from avrobust.files import write_bytes
from avrobust.media import ClipSpec, decode, encode_mp4, encode_png, encode_wav
from avrobust.media.channel import through_mp4
from avrobust.papers.tian2021 import budgets as tian2021
from avrobust.report.load import read
from avrobust.report.sections import channels
from avrobust.study.plan import Sweep
from facts_of import budget_of
from fake_run import fake_run
from nets import clips, linear, network
from report_page import Page
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
    settings = {"crf": 28, "audio_bitrate": 48_000, "aac_coder": "twoloop"}
    data = encode_mp4(np.pad(sound, (0, 1024)), picture, RATE, 4.0, **settings)
    clip = decode(write_bytes(tmp_path / "a.mp4", data), ClipSpec(seconds=1, rate=RATE, fps=4, size=32))
    assert np.abs(clip.wave - heard).max() < 1e-6
    assert np.array_equal(clip.frames, seen)


def test_less_room_keeps_less():
    t = torch.arange(RATE) / RATE
    x = AV(0.4 * torch.sin(6.28 * (200 + 900 * t) * t)[None], signals(1, frames=1, high=64, wide=64).visual)

    def kept(**settings) -> AV[float]:
        return x.map(lambda before, after: db(before.numpy(), after.numpy()), Mp4(**settings)(x))

    best, middle, worst = kept(crf=10), kept(crf=30, audio_bitrate=32_000), kept(crf=45, audio_bitrate=24_000)
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


@pytest.mark.parametrize("rate", [5000, 11_000, 22_000])
def test_a_rate_that_aac_does_not_know_goes_through_another(rate):
    sound = np.sin(np.arange(6000) / 9).astype(np.float32) * 0.4 * np.hanning(6000).astype(np.float32)
    y = Mp4(rate=rate)(AV(torch.from_numpy(sound)[None], torch.zeros(1, 1, 3, 8, 8)))
    assert y.audio.shape == (1, 6000) and db(sound, y.audio[0].numpy()) > 25


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
    craft = engine.surrogate(model, batch.x.map(lambda s: s[:1])).cache_embeddings(batch.x)
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
    subject = Evaluator(network(), [batch])
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

    rows = evaluate(network(), [batch], [Sneaky("MIM")], [tian2021.threat(0.01, 0.0)]).where(subset="A")
    with torch.no_grad():
        said = network()(AV(audio=batch.x.audio, visual=1 - batch.x.visual))
    assert rows.column("pred").tolist() == said.argmax(1).tolist()


@pytest.mark.parametrize("model", [network(), linear], ids=["AVNet", "callable"])
@pytest.mark.parametrize("subset", ["A", "V", "AV"])
def test_a_model_behind_a_channel_meets_what_arrives_and_passes_gradients(model, subset):
    batch, threat = clips(4), THREAT.only(subset)
    seen = behind(crush, model, batch.x).fix_unattacked(batch.x, threat)
    with torch.no_grad():
        assert torch.allclose(seen(batch.x), model(crush(batch.x)), atol=1e-5)

    def total(out, y):
        return out.logits[:, 0]

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


def test_sweeps_share_what_is_attacked():
    threats = (Threat.linf(audio=0.01), THREAT)
    crushed, lossless = (Sweep(("AV",), (PGD(),), threats[1:], sent=(c,)) for c in (Mp4(rate=8000), Lossless()))
    plan = replace(study, sweeps=(Sweep(("AV",), (PGD(),), threats), crushed, lossless, crushed))
    cells = list(plan.cells("AV", 0))
    # One frame to 4096 samples, and the sound at the rate of the study's clips, whatever the sweep says.
    played = Mp4(rate=RATE, fps=RATE / 4096)
    found = [(c.attack_name, c.threat, c.sent) for c in cells[1:]]
    assert len({c.key() for c in cells}) == len(cells) == 6
    assert sorted(found, key=str) == sorted(
        [
            ("PGD-10", threats[0], ()),
            ("PGD-10", threats[1], ()),
            ("PGD-10", threats[1], (played, Lossless())),
            (f"none > {Mp4().name}", ANYTHING, ()),
            (f"none > {Lossless().name}", ANYTHING, ()),
        ],
        key=str,
    )
    assert cells[1].key() != replace(cells[1], sent=(Mp4(),)).key()
    knowing = Sweep(("AV",), (Sent(Mp4(rate=8000), PGD(), known=True),), threats[:1])
    assert [c.attack for c in replace(plan, sweeps=(knowing,)).cells("AV", 0)][1].channel == played
    only = replace(plan, sweeps=(Sweep(("A",), (PGD(),), threats, sent=(Mp4(),)),)).cells("A", 0)
    assert [c.threat.subset for c in only] == ["clean", "A", "A"]


def test_saved_clips_arrive_as_they_are():
    batch = on_grid(clips(8))
    rows = evaluate(network(), [batch], [Quantized(PGD(steps=3)), Sent(Lossless(), Quantized(PGD(steps=3)))], [THREAT])
    made, arrived = (rows.where(attack=f"PGD-3, quantized{end}") for end in ("", " > 8 and 16 bits"))
    for name in ("pred", "linf_audio", "linf_visual"):
        assert np.allclose(made.column(name), arrived.column(name), atol=1e-7)


# In a report


def run_with(folder: Path, seeds: tuple[int, ...] = (0,), how: tuple[str, ...] = ("", ", knowing")) -> list[dict]:
    """A run with clips that were sent, answers drawn at random; returns those rows."""
    fake_run(folder, clips=90, attacked=60, seeds=seeds, unread=0, gallery=0, samples=0)
    rng, made = np.random.default_rng(0), []
    conditions = [("none", channel, "AV", 2.0, 1.0) for channel in (Lossless().name, Mp4().name)]
    conditions += [
        (f"PGD-10{h}", channel, subset, ea, ev)
        for h in how
        for channel in ("as made", Lossless().name, Mp4().name)
        for subset, ea, ev in (("V", 0.0, 0.006), ("AV", 0.006, 0.024))
        if not (h and channel == "as made")
    ]
    for i, (attack, channel, subset, ea, ev) in enumerate(conditions):
        for seed in seeds:
            clean = np.arange(60) % 5 > 0
            right = rng.random(60) < 0.5
            still = ev == 0.006 and channel == Lossless().name
            told = {"crafted_by": "none" if attack == "none" else "PGD-10", "adaptive": attack == "PGD-10, knowing"}
            told["channel"] = "" if channel == "as made" else channel
            rows = Rows.of(told | {
                "model": "AV", "seed": seed, "attack": f"{attack} > {channel}", "mode": "sent", "subset": subset,
                **budget_of(ea, ev, visual_unit="normalised").columns(), "clip": [f"clip{k:03d}" for k in range(60)],
                "label": np.zeros(60, int), "status": "ok", "pred_clean": 1 - clean, "pred": 1 - right,
                "margin_clean": 0.5 - clean, "margin": 0.5 - right, "correct_clean": clean, "correct": right,
                "linf_audio": np.full(60, ea), "linf_visual": np.full(60, 0.0 if still else 3 / 255),
                "used_audio": np.full(60, 9.0), "used_visual": np.full(60, 9.0),
            })  # fmt: skip
            cell = folder / "cells" / f"sent{i:02d}{seed}"
            cell.mkdir()
            rows.save(cell / "rows.parquet")
            made += rows.data.to_pylist()
    return made


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_what_stays_is_counted_clip_by_clip(tmp_path, seeds):
    made = run_with(tmp_path / "r", seeds)
    (table,) = channels.tables(read(tmp_path / "r"))
    assert (table.model, table.attack, table.channels) == ("AV", "PGD-10", ("", Lossless().name, Mp4().name))
    assert [(r.subset, r.adaptive) for r in table.rows] == [("V", False), ("V", True), ("AV", False), ("AV", True)]
    right = {(r["attack"], r["subset"], r["seed"], r["clip"]): r["correct"] for r in made}
    clean = {(r["seed"], r["clip"]): r["correct_clean"] for r in made}
    for row in table.rows:
        for channel, arrival in row.arrivals.items():
            name = f"PGD-10{', knowing' if row.adaptive else ''} > {channel or 'as made'}"
            before = [
                key
                for key in clean
                if clean[key]
                and not right["PGD-10 > as made", row.subset, *key]
                and right.get((f"none > {channel}", "AV", *key), True)
            ]
            after = [key for key in before if not right[name, row.subset, *key]]
            assert arrival.words == f"{len(after)} of {len(before)}"
            pooled = proportion(len(after), len(before))
            if len(seeds) == 1:
                assert (arrival.stay.low, arrival.stay.high) == pytest.approx((pooled.low, pooled.high))
            else:  # a clip that two models saw is still one clip
                assert (arrival.stay.low < pooled.low and arrival.stay.high > pooled.high) or pooled.value == 1
            answers = [right[name, row.subset, *key] for key in clean]
            assert arrival.accuracy.value == pytest.approx(np.mean(answers))
    assert table.clean[""].value == pytest.approx(np.mean(list(clean.values())))


def test_what_is_sent_is_no_attack(tmp_path):
    plain, whole = tmp_path / "plain", tmp_path / "whole"
    fake_run(plain, clips=90, attacked=60, unread=0, gallery=0, samples=0)
    run_with(whole)
    before, after = read(plain), read(whole)
    assert len(after.sent) == 12 and not before.sent
    assert list(after.table) == list(before.table) and after.infos == before.infos
    assert after.flags == before.flags and after.levels == before.levels
    assert report.summary(whole) == report.summary(plain)


def test_the_page_has_its_section_only_where_clips_were_sent(tmp_path):
    fake_run(tmp_path / "plain", clips=30, attacked=30, gallery=0, samples=0)
    assert "After storage" not in report.write(tmp_path / "plain").read_text()
    run_with(tmp_path / "whole")
    page = Page(report.write(tmp_path / "whole").read_text())
    assert page.crossed == [] and page.open == []
    assert "After storage and transmission" in page.text
    (table,) = channels.tables(read(tmp_path / "whole"))
    assert table.words in page.text and "of the clips" in table.words.lower()
    for row in table.rows:
        for channel, arrival in row.arrivals.items():
            if channel:
                assert f"{arrival.words} stay misclassified" in page.text


def test_budgets_are_said_in_what_files_hold(tmp_path):
    run_with(tmp_path / "r")
    held = {(h.modality, h.budget.split(" ")[1]): h for h in channels.budgets(read(tmp_path / "r"))}
    assert held["audio", "0.006"].size == "196.6 steps of 16 bits" and held["audio", "0.006"].fits.startswith(
        "196 whole"
    )
    small, paper, large = (held["visual", eps] for eps in ("0.006", "0.012", "0.048"))
    assert small.size == "0.34 to 0.35 grey levels of 255" and small.fits.startswith("Less than half a grey level")
    assert small.seen == "60 of 60 videos came back clean, bit for bit."
    assert paper.fits.startswith("Less than one grey level") and not paper.seen
    assert large.fits == "2 whole grey levels."
    assert held["visual", "0.024"].seen.endswith("Pixels changed by up to 3.")


def test_the_report_calls_things_as_rows_do():
    assert Lossless().name == channels.LOSSLESS and Sent(Mp4()).info.crafted_by == channels.NO_ATTACK
    told = [(sent.info.crafted_by, sent.info.channel, sent.info.adaptive) for sent in (
        Sent(Mp4(), PGD(), known=True), Sent(Lossless(), Quantized(PGD())), Sent(Lossless(), PGD()), Sent(Mp4()),
    )]  # fmt: skip
    lossless = channels.LOSSLESS
    assert told == [
        ("PGD-10", Mp4().name, True), ("PGD-10", lossless, True), ("PGD-10", lossless, False), ("none", Mp4().name, False),
    ]  # fmt: skip
