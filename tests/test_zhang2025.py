"""TIA, MMA, TMA: objectives, attacks, networks."""

import copy
from dataclasses import replace

import jaxtyping
import pytest
import torch

from avrobust import AV, MIM, Rows, Seeds, Threat, engine, evaluate
from avrobust.attacks import ANYTHING, Transfer, attack_info
from avrobust.budget_check import check
from avrobust.corruptions import Gap
from avrobust.defenses import Adversarial, Gate, Recombined, Sensitivity
from avrobust.models import OwnSpec
from avrobust.objectives import WithSimilarity
from avrobust.papers.zhang2025 import MMA, TIA, TMA, TemporalAndModality, claims, misalignment, temporal_variation
from avrobust.papers.zhang2025.claims import OPPOSITE, PLAIN
from avrobust.papers.zhang2025.curriculum import Curriculum, PartialFrames, Schedule, dropped, masked
from avrobust.papers.zhang2025.networks import SmallSpec
from avrobust.report.load import read
from avrobust.report.sections import transfer
from avrobust.report.transfers import transfers
from avrobust.training.recipe import cross_entropy
from avrobust.types import Batch, InputError, Output
from nets import clips, network
from own_study import TwoStreams

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
    # without gradients in chunks, as features are
    few, runs = replace(victim, chunk_size=engine.ChunkSize(1)), []
    hook = net.audio.backbone.register_forward_hook(lambda _, args, __: runs.append(len(args[0])))
    with torch.no_grad():
        chunked = few.output(batch.x, ("segments",))
    hook.remove()
    assert runs == [4] * 4  # the segments of a clip
    for z, c in zip(out.segments, chunked.segments, strict=True):
        torch.testing.assert_close(z, c)


def test_the_front_end_moves_with_the_network(net):
    elsewhere = copy.deepcopy(net).to("meta")
    elsewhere(batch_of().x.map(lambda s: s.to("meta")))
    assert {s.device.type for s in elsewhere.buffers()} == {
        "meta"
    } and elsewhere.audio.front_end.prepare.filters.is_meta
    assert net.spec and not [key for key in net.state_dict() if "front_end" in key]  # checkpoints stay as they are


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


def test_models_that_show_no_segments_are_refused_and_single_frames_have_no_variation():
    batch = clips(3)
    with pytest.raises(InputError, match="consecutive segments"):
        TIA(steps=1)(network(), batch.x, batch.label, BOTH, Seeds(0, batch.ids))
    with pytest.raises(InputError, match="each modality alone"):
        misalignment(Output(torch.zeros(1, 2)), "predictions")
    one = Output(torch.zeros(1, 2), segments=AV(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2)))
    torch.testing.assert_close(TIA().objective.value(one, torch.tensor([0])), torch.tensor([2.0]).log())


def test_a_model_of_one_s_own_may_return_its_segments():
    batch = batch_of()

    def model(x):
        z = x.visual.flatten(2)[:, :, :5]
        return {"logits": z.mean(1)[:, :3], "segments": (x.audio[:, None, :4], z)}

    adv = TIA(steps=1, variations=())(model, batch.x, batch.label, BOTH.only("V"), Seeds(0, batch.ids))
    check(BOTH.only("V"), batch.x, adv, batch.ids, "TIA")


def test_transfers_and_claims_are_those_of_the_rows(net):
    batch, other = batch_of(), SmallSpec(3, "alexnet", "alexnet", "concat").build(1).eval()
    short = [replace(a, steps=1) for a in (PLAIN, TIA(), OPPOSITE)]
    parts = []
    for name, model in (("first", net), ("last", other)):
        foreign = [Transfer("first", a, net) for a in short] if name == "last" else []
        parts.append(evaluate(model, batch, [*short, *foreign], [BOTH], name=name))
    rows = Rows.concat(parts)
    run = read(rows)
    found = [t for t in transfers(run) if t.subset == "AV"]
    assert [(t.attack, t.surrogate, set(t.victims)) for t in found] == [
        (a.name, "first", {"first", "last"}) for a in sorted(short, key=lambda a: (a.name != "MIM-1", a.name))
    ]
    for t in found:
        own = rows.where(model="last", attack=f"{t.attack} from first", subset="AV").data.to_pylist()
        right = [r for r in own if r["correct_clean"]]
        assert t.transfer.n == len(right)
        if right:
            assert t.transfer.value == pytest.approx(sum(not r["correct"] for r in right) / len(right))
    [page] = [t for t in transfer.data(run)["tables"] if "both" in t.title]
    assert [c.name for c in page.columns] == ["Attack", "first", "last"] and len(page.rows) == 3
    assert f"on {max(t.transfer.value for t in found):.1%} of".replace("%", " %") in transfer.data(run)["result"]
    level = {"AV": found[0].budget}
    [compared] = claims.tia_transfers(run, level).comparisons
    assert (compared.low_name, compared.high_name) == ("TIA-1, transferred from first", "MIM-1")
    assert compared.low.value == pytest.approx(
        rows.where(model="last", attack="TIA-1 from first", subset="AV").accuracy().value
    )
    assert len(claims.variation_raises_white_box(run, level).comparisons) == 1
    assert not claims.tia_transfers(run, level).note
    still = replace(run, record=replace(run.record, asked={"view": {"frames": 1}}))
    assert "one frame" in claims.tia_transfers(still, level).note
    assert (
        claims.tma_is_best(run, level).verdict
        == claims.synchronous_masking_hurts_more(run, level).verdict
        == "not tested"
    )


def test_masking_claims_compare_gaps(net):
    batch = batch_of()
    gaps = [Gap(0.5), Gap(0.5, together=False)]
    run = read(evaluate(net, batch, gaps, ANYTHING, name="net"))
    [same] = claims.synchronous_masking_hurts_more(run, {}).comparisons
    assert same.low_name == "net, 50 % masked, the same in both"
    [visual] = claims.visual_masking_hurts_more(run, {}).comparisons
    assert visual.high_name == "of the audio"


class TestCurriculum:
    inner = Adversarial(cross_entropy, BOTH.subsets(), MIM(steps=4, keep="last"), ramp=0.5)

    @pytest.mark.parametrize("shape", ["constant", "linear", "cosine"])
    def test_schedules_go_from_easy_to_hard(self, shape):
        numbers = [Schedule(1.0, 5.0, shape, over=0.5).at(p) for p in (0.0, 0.25, 0.5, 1.0)]
        assert numbers == pytest.approx([5] * 4 if shape == "constant" else [1, 3, 5, 5])

    def test_all_three_grow(self, net):
        loss = Curriculum(self.inner, Schedule(1, 4), Schedule(0.0, 0.6), Schedule(0.0, 0.4))
        early, late = loss.at_progress(0.25), loss.at_progress(1.0)
        assert (early.adversarial.attack.steps, early.mask, early.dropout) == (2, 0.15, 0.1)
        assert (late.adversarial.attack.steps, late.mask, late.dropout) == (4, 0.6, 0.4)
        assert early.adversarial.threats[0].audio.eps == pytest.approx(0.005)  # the ramp of budgets goes on inside
        batch = batch_of()
        value = early(net, batch, Seeds(0, batch.ids))
        value.backward()
        assert value.isfinite() and net.classifier.weight.grad is not None
        assert loss.at_progress(0.0)(net, batch, Seeds(0, batch.ids)).isfinite()  # before the ramp: nothing is attacked
        check(BOTH, batch.x, loss.training_batch(net, batch, Seeds(0, batch.ids)).x, batch.ids, "curriculum")
        assert not net.training

    def test_masks_are_the_same_in_both_modalities_and_tied_to_the_clip(self):
        x = AV(torch.ones(200, 8), torch.ones(200, 4, 3, 2, 2))
        seeds = Seeds(0, tuple(map(str, range(200))))
        out = masked(x, 0.3, seeds)
        gone = out.visual[:, :, 0, 0, 0] == 0
        assert torch.equal(out.audio == 0, gone.repeat_interleave(2, 1))
        assert float(gone.float().mean()) == pytest.approx(0.3, abs=0.06)
        some = masked(x.map(lambda s: s[:2]), 0.3, seeds.subset([5, 9]))
        assert torch.equal(some.visual, out.visual[[5, 9]])
        assert masked(x, 0.0, seeds) is x

    @pytest.mark.parametrize("measured", [False, True])
    def test_features_are_dropped_inside_only(self, net, measured):
        batch = batch_of()
        if measured:
            net = copy.deepcopy(net)
            net.feature_defense = Gate(Sensitivity()).fill(net, [batch_of()] * 3, seed=0)
        with dropped(net, 0.5, Seeds(0, batch.ids)):
            once, again = net.embed(batch.x), net.embed(batch.x)
        plain = net.embed(batch.x)
        for f, g, p in zip(once, again, plain, strict=True):
            assert torch.equal(f, g)
            f, p = f[:, : net.audio.width], p[:, : net.audio.width]  # without what is measured
            assert 0.3 < float((f == 0).float().mean()) < 0.75
            torch.testing.assert_close(f[f != 0], 2 * p[f != 0])

    def test_a_network_that_shows_no_encoders_is_refused_where_features_are_to_be_dropped(self):
        net, batch = OwnSpec(TwoStreams, classes=3).build(0), batch_of()
        loss = Curriculum(self.inner, Schedule(1, 1))
        with pytest.raises(ValueError, match=r"expected a network with `encoders` for a curriculum"):
            loss(net, batch, Seeds(0, batch.ids))
        assert replace(loss, dropout=Schedule(0.0, 0.0))(net, batch, Seeds(0, batch.ids)).isfinite()

    def test_partial_frames_share_their_perturbation(self, net):
        batch = batch_of(frames=8)
        adv = PartialFrames(MIM(steps=2, keep="last"), 0.25)(net, batch.x, batch.label, BOTH, Seeds(0, batch.ids))
        check(BOTH, batch.x, adv, batch.ids, "partial")
        delta, inside = adv.visual - batch.x.visual, (batch.x.visual > 0.05) & (batch.x.visual < 0.95)
        alike = inside[:, :1] & inside[:, 1:2]
        assert float((delta[:, :1] - delta[:, 1:2])[alike].abs().max()) < 1e-6
        assert PartialFrames(MIM()).info.variant == "partial frames"

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Schedule(0, 1, over=0.0), lambda: PartialFrames(MIM(), 0.0),
            lambda: Curriculum(Adversarial(cross_entropy, BOTH.subsets(), lambda *_: None)),
            lambda: Curriculum(Recombined(BOTH)),
            lambda: Curriculum(TestCurriculum.inner, steps=Schedule(0, 3)), lambda: Curriculum(TestCurriculum.inner, mask=Schedule(0, 1)),
        ],
    )  # fmt: skip
    def test_what_cannot_be_meant_is_refused(self, make, monkeypatch):
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # types are checked in tests only
        with pytest.raises(ValueError, match="got"):
            make()
