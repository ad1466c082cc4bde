"""What a file keeps of an attack."""

import pytest
import torch

from avrobust import AV, FGSM, PGD, Batch, Seeds, Threat, evaluate
from avrobust.attacks import Quantized
from avrobust.attacks.quantized import LEVELS, _kept
from avrobust.budget_check import check
from avrobust.evaluation.channels import Sent
from avrobust.papers.tian2021 import budgets as tian2021
from nets import clips, linear, network


def on_levels(batch: Batch) -> Batch:
    """Clips as files hold them."""
    x = AV(audio=(batch.x.audio * 32768).round() / 32768, visual=(batch.x.visual * 255).round() / 255)
    return Batch(x, batch.label, batch.ids)


def saved(threat, batch, attack=None):
    return Quantized(attack or FGSM())(network(), batch.x, batch.label, threat, Seeds(0, batch.ids))


@pytest.mark.parametrize("threat", [
    Threat.linf(audio=0.01, visual="2.7/255"), tian2021.threat(0.006, 0.048), Threat.linf(audio=0.01), Threat.linf(visual="1/255"),
], ids=str)  # fmt: skip
def test_what_is_saved_survives_being_saved(threat):
    batch = on_levels(clips())
    adv = saved(threat, batch)
    check(threat, batch.x, adv, batch.ids, "quantized")
    again = AV(audio=(adv.audio * 32768).round() / 32768, visual=(adv.visual * 255).round() / 255)
    assert torch.allclose(adv.audio, again.audio, atol=1e-7) and torch.allclose(adv.visual, again.visual, atol=1e-7)


def test_less_than_a_level_is_nothing():
    batch = on_levels(clips())
    adv = saved(tian2021.threat(0.0, 0.012), batch)  # 0.7 grey levels
    assert torch.equal(adv.visual, batch.x.visual)


def test_two_and_a_half_levels_are_two():
    batch = on_levels(clips())
    moved = (saved(Threat.linf(visual="2.5/255"), batch).visual - batch.x.visual).abs() * 255
    inside = (batch.x.visual > 0.02) & (batch.x.visual < 0.98) & (moved > 0)  # where the network looks at all
    assert moved.max() == pytest.approx(2, abs=1e-3) and inside.float().mean() > 0.5 and (moved[inside] > 1.9).all()


def test_the_harness_takes_it_and_it_still_attacks():
    batch, threat = on_levels(clips(24)), Threat.linf(audio=0.02, visual="6/255")
    rows = evaluate(network(), [batch], [PGD(steps=5), Quantized(PGD(steps=5))], threat)
    plain, kept = (rows.where(attack=a, subset="AV").column("margin").mean() for a in ("PGD-5", "PGD-5, quantized"))
    assert kept > rows.where(subset="clean").column("margin").mean() and abs(plain - kept) < 0.2


def test_the_search_finds_what_whole_levels_can_do():
    """On a linear model, where the most that they can do is known; an attack that stops at the border is undone by rounding."""
    weights = torch.randn(384, 4, generator=torch.Generator().manual_seed(0))

    def model(x):
        return (x.visual.flatten(1) - 0.5) @ weights

    batch, threat, attack = on_levels(clips(200)), Threat.linf(visual="1.8/255"), PGD(steps=8, stop=True)
    y, seeds = model(batch.x).argmax(1), Seeds(0, batch.ids)
    towards = (weights.T - weights.T[y][:, None]).sign()  # (clips, classes, pixels)
    pixels = (batch.x.visual.flatten(1)[:, None] + towards / 255).clamp(0, 1)
    logits = torch.einsum("bjp,pk->bjk", pixels - 0.5, weights)
    possible = (logits.argmax(2) != y[:, None]).any(1)
    searched = model(Quantized(attack)(model, batch.x, y, threat, seeds)).argmax(1) != y
    found = attack(model, batch.x, y, threat, seeds)
    rounded = model(threat.map(_kept, batch.x, found, LEVELS)).argmax(1) != y
    assert possible.sum() > 40 and not searched[~possible].any()
    assert searched[possible].float().mean() > 0.95 and rounded[possible].float().mean() < 0.6


@pytest.mark.parametrize("model", [network(), linear], ids=["AVNet", "callable"])
def test_the_search_meets_whole_levels_only(model):
    """Whatever the attack looks at, what the model answers to is a clip of whole levels, whose rounding is allowed."""
    batch, threat, asked = on_levels(clips()), Threat.linf(audio=0.01, visual="2.7/255"), []

    def spying(seen, x, y, inside, seeds):
        adversarial = AV(*(s + ball.random(s, seeds, "spy") for ball, s in zip(inside, x, strict=True)))
        sound = (adversarial.audio * 32768).round().clamp(max=32767) / 32768
        rounded = AV(audio=sound, visual=(adversarial.visual * 255).round() / 255)
        asked.append(torch.allclose(seen(adversarial), model(rounded), atol=1e-5))
        check(threat, x, rounded, seeds.ids, "rounded")
        return adversarial

    with torch.no_grad():
        Quantized(spying)(model, batch.x, batch.label, threat, Seeds(0, batch.ids))
    assert asked == [True]


def test_what_is_known_of_clips_is_not_taken_for_what_a_channel_leaves_of_them():
    batch, net, threat = clips(20), network(), Threat.linf(audio=0.05, visual="8/255")

    def coarse(x):
        return x.map(lambda s: (s * 4).round() / 4)

    def margins(*attacks):
        rows = evaluate(net, [batch], attacks, threat, precision="float32")
        return {name: rows.where(attack=name).column("margin") for name in ("FGSM", sent.name)}

    sent = Sent(coarse, FGSM(), known=True)
    first, last = margins(FGSM(), sent), margins(sent, FGSM())
    assert all((first[name] == last[name]).all() for name in first)
    assert (first["FGSM"] != first[sent.name]).any()


def test_clips_between_levels_and_at_full_scale():
    """Sound as a decoder gives it lies between levels; 16 bits do not reach +1."""
    batch, threat = clips(), Threat.linf(audio="-80 dBFS", visual="3/255")
    adv = saved(threat, batch)
    check(threat, batch.x, adv, batch.ids, "quantized")
    steps = adv.audio.double() * 32768
    assert (steps - steps.round()).abs().max() < 4e-3 and steps.max() == 32767
    assert (adv.visual * 255 - (adv.visual * 255).round()).abs().max() < 1e-4


def test_l2_is_refused():
    with pytest.raises(ValueError, match="linf budgets only"):
        saved(Threat.l2(visual=0.5), clips())
