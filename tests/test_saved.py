"""What a file keeps of an attack."""

import pytest
import torch

from avrobust import AV, FGSM, PGD, Batch, Seeds, Threat, evaluate
from avrobust.attacks import Saved
from avrobust.threat import check
from nets import clips, network


def on_levels(batch: Batch) -> Batch:
    """Clips as files hold them."""
    x = AV(audio=(batch.x.audio * 32768).round() / 32768, visual=(batch.x.visual * 255).round() / 255)
    return Batch(x, batch.label, batch.ids)


def saved(threat, batch, attack=None):
    return Saved(attack or FGSM())(network(), batch.x, batch.label, threat, Seeds(0, batch.ids))


@pytest.mark.parametrize("threat", [
    Threat.linf(audio=0.01, visual="2.7/255"), Threat.tian2021(0.006, 0.048), Threat.linf(audio=0.01), Threat.linf(visual="1/255"),
], ids=str)  # fmt: skip
def test_what_is_saved_survives_being_saved(threat):
    batch = on_levels(clips())
    adv = saved(threat, batch)
    check(threat, batch.x, adv, batch.ids, "saved")
    again = AV(audio=(adv.audio * 32768).round() / 32768, visual=(adv.visual * 255).round() / 255)
    assert torch.allclose(adv.audio, again.audio, atol=1e-7) and torch.allclose(adv.visual, again.visual, atol=1e-7)


def test_less_than_a_level_is_nothing():
    batch = on_levels(clips())
    adv = saved(Threat.tian2021(0.0, 0.012), batch)  # 0.7 grey levels
    assert torch.equal(adv.visual, batch.x.visual)


def test_two_and_a_half_levels_are_two():
    batch = on_levels(clips())
    moved = (saved(Threat.linf(visual="2.5/255"), batch).visual - batch.x.visual).abs() * 255
    inside = (batch.x.visual > 0.02) & (batch.x.visual < 0.98) & (moved > 0)  # where the network looks at all
    assert moved.max() == pytest.approx(2, abs=1e-3) and inside.float().mean() > 0.5 and (moved[inside] > 1.9).all()


def test_the_harness_takes_it_and_it_still_attacks():
    batch, threat = on_levels(clips(24)), Threat.linf(audio=0.02, visual="6/255")
    rows = evaluate(network(), [batch], [PGD(steps=5), Saved(PGD(steps=5))], threat)
    plain, kept = (rows.where(attack=a, subset="AV").column("margin").mean() for a in ("PGD-5", "PGD-5, saved"))
    assert kept > rows.where(subset="clean").column("margin").mean() and abs(plain - kept) < 0.2


def test_l2_is_refused():
    with pytest.raises(ValueError, match="linf budgets only"):
        saved(Threat.l2(visual=0.5), clips())
