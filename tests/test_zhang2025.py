"""TIA, MMA, TMA: objectives, attacks, networks."""

import pytest
import torch

from avrobust import AV, Seeds, Threat, engine
from avrobust.attacks import attack_info
from avrobust.budget_check import check
from avrobust.objectives import WithSimilarity
from avrobust.papers.zhang2025 import MMA, TIA, TMA, TemporalAndModality, misalignment, temporal_variation
from avrobust.papers.zhang2025.networks import SmallSpec
from avrobust.types import Batch, InputError, Output
from nets import clips, network

BOTH = Threat.linf(audio=0.01, visual="4/255")


def batch_of(frames=3, samples=4096):
    g = torch.Generator().manual_seed(0)
    x = AV(torch.rand(4, samples, generator=g) - 0.5, torch.rand(4, frames, 3, 32, 32, generator=g))
    return Batch(x, torch.tensor([0, 1, 2, 0]), ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def net():
    return SmallSpec(3, "alexnet", "resnet", "sum").build(0).eval()


def test_variation_is_what_it_is_written_out():
    z = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    differences = sum((z[:, t + 1] - z[:, t]).square().sum(1) for t in range(4)) / 4
    torch.testing.assert_close(temporal_variation(z, relative=False), differences)
    variance = (z - z.mean(1, keepdim=True)).square().sum((1, 2)) / 5
    torch.testing.assert_close(temporal_variation(z, "variance", relative=False), variance)
    torch.testing.assert_close(temporal_variation(3 * z), temporal_variation(z))  # relative: no network is louder
    assert temporal_variation(z[:, :1]).tolist() == [0, 0]


def test_mma_raises_what_the_attacker_of_2021_lowers():
    out = Output(torch.randn(3, 4), AV(torch.randn(3, 5), torch.randn(3, 5)))
    y = torch.tensor([0, 1, 2])
    ours, theirs = TemporalAndModality(modality=1.0), WithSimilarity(-1.0)
    torch.testing.assert_close(ours.value(out, y), theirs.value(out, y))
    product = (out.features.audio * out.features.visual).sum(1)
    torch.testing.assert_close(misalignment(out, "as quoted"), 1 / product)


def test_segments_are_those_that_the_features_are_the_mean_of(net):
    batch = batch_of()
    victim = engine.as_victim(net, batch.x)
    out = victim.output(batch.x, ("segments", "alone"))
    assert out.segments.map(lambda z: z.shape[1]) == AV(4, 3)
    for f, z in zip(out.features, out.segments, strict=True):
        torch.testing.assert_close(f, z.mean(1))
    torch.testing.assert_close(out.logits, net(batch.x))
    bias = net.classifier.bias
    torch.testing.assert_close(out.alone.audio + out.alone.visual, out.logits + bias)  # of a sum
    # a stream that is known counts as one segment, and is not run
    fixed = victim.fix_unattacked(batch.x, BOTH.only("V"))
    assert fixed.output(batch.x, ("segments",)).segments.map(lambda z: z.shape[1]) == AV(1, 3)
    assert victim.output(batch.x).segments is None


@pytest.mark.parametrize("attack", [TIA(steps=2), MMA(steps=2), TMA(steps=2), MMA(steps=2, objective=TemporalAndModality(modality=1.0, level="predictions"))], ids=repr)  # fmt: skip
@pytest.mark.parametrize("threat", BOTH.subsets(), ids=str)
def test_attacks_stay_inside(net, attack, threat):
    batch = batch_of()
    adv = attack(net, batch.x, batch.label, threat, Seeds(0, batch.ids))
    check(threat, batch.x, adv, batch.ids, attack.name)
    assert not all(torch.equal(a, s) for a, s in zip(adv, batch.x, strict=True))


def test_a_large_weight_lowers_its_term_and_its_opposite_raises_it(net):
    batch, victim = batch_of(), engine.as_victim(net, batch_of().x)

    def after(attack):
        adv = attack(net, batch.x, batch.label, BOTH, Seeds(0, batch.ids))
        out = victim.output(adv, ("segments",))
        return sum(temporal_variation(z).mean() for z in out.segments), misalignment(out).mean()

    steady, wild = (
        after(TIA(steps=4, objective=TemporalAndModality(temporal=w), variations=()))[0] for w in (50.0, -50.0)
    )
    apart, close = (after(MMA(steps=4, objective=TemporalAndModality(modality=w)))[1] for w in (50.0, -50.0))
    assert steady < wild
    assert apart < close


def test_names_say_what_is_not_usual():
    assert [a.name for a in (TIA(), MMA(steps=5), TMA(variations=()))] == ["TIA-10", "MMA-5", "TMA-10, unchanged clips"]
    info = attack_info(TIA())
    assert (info.family, info.variant, info.plain, info.climbs) == ("MIM", "consecutive", False, True)
    assert TMA(objective=TemporalAndModality(2.0, 0.5, "variance")).name == "TMA-10 (CE − 2 L_T variance − 0.5 L_M)"


def test_models_that_show_no_segments_are_refused_and_so_are_single_frames():
    batch = clips(3)
    with pytest.raises(InputError, match="consecutive segments"):
        TIA(steps=1)(network(), batch.x, batch.label, BOTH, Seeds(0, batch.ids))
    with pytest.raises(InputError, match="each modality alone"):
        misalignment(Output(torch.zeros(1, 2)), "predictions")
    one = Output(torch.zeros(1, 2), segments=AV(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2)))
    with pytest.raises(InputError, match=r"--view.frames 4"):
        TIA().objective.value(one, torch.tensor([0]))


def test_a_model_of_one_s_own_may_return_its_segments():
    batch = batch_of()

    def model(x):
        z = x.visual.flatten(2)[:, :, :5]
        return {"logits": z.mean(1)[:, :3], "segments": (x.audio[:, None, :4], z)}

    adv = TIA(steps=1, variations=())(model, batch.x, batch.label, BOTH.only("V"), Seeds(0, batch.ids))
    check(BOTH.only("V"), batch.x, adv, batch.ids, "TIA")
