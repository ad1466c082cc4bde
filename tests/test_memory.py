"""Memories: what they keep, what they make of a feature, and how an attacker meets them."""

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from avrobust import AV, FGSM, PGD, Batch, Threat, engine, evaluate
from avrobust.config import from_plain
from avrobust.defenses import Dictionary, ExFMem, Lasso, diagnosis
from avrobust.defenses.saving import rebuild
from avrobust.papers.tian2021.defenses import published_memory
from avrobust.training import batches, load, save
from avrobust.types import Output
from nets import clips, defended, in_batches, network, pointing_net, reordered
from test_sparse import of_sklearn, share
from test_training import SMALL, VIEW, Toys, assert_same, weights

# --- filling a memory


def columns(memory, net, batch, *, unit=True):
    """For each column, by modality, the id of the clip that it was made from."""
    with torch.no_grad():
        f = net.embed(batch.x)

    def find(bank, feature):
        feature = feature / feature.norm(dim=1, keepdim=True) if unit else feature
        far = torch.cdist(bank.T, feature, compute_mode="donot_use_mm_for_euclid_dist")
        assert (far.min(1).values < 1e-4).all()
        return [batch.ids[i] for i in far.argmin(1).tolist()]

    return AV(memory.audio, memory.visual).map(find, f)


def classes_of(ids, batch):
    return sorted(Counter(int(batch.label[batch.ids.index(id)]) for id in ids).values())


def test_a_memory_holds_as_many_clips_of_each_class():
    net, batch = network(), clips(24)
    for asked, counts in ((8, [2, 2, 2, 2]), (10, [2, 2, 3, 3]), (3, [1, 1, 1]), (100, [6, 6, 6, 6])):
        for seed in range(5):
            memory = ExFMem(columns=asked).fill(net, [batch], seed)
            found = columns(memory, net, batch)
            assert found.audio == found.visual  # sound and picture of a column are one clip's
            assert len(set(found.audio)) == len(found.audio)
            assert classes_of(found.audio, batch) == counts
    rare = Batch(batch.x, torch.tensor([0] * 22 + [1] * 2), batch.ids)
    memory = ExFMem(columns=10).fill(net, [rare], 0)
    assert classes_of(columns(memory, net, rare).audio, rare) == [2, 5]


def test_a_random_choice_does_not_look_at_classes():
    net, batch = network(), clips(24)
    chosen = [columns(ExFMem(columns=8, choose="random").fill(net, [batch], s), net, batch).audio for s in range(9)]
    assert {len(set(ids)) for ids in chosen} == {8}
    assert len({tuple(ids) for ids in chosen}) == 9
    assert any(classes_of(ids, batch) != [2, 2, 2, 2] for ids in chosen)
    other = Batch(batch.x, batch.label * 0, batch.ids)
    assert columns(ExFMem(columns=8, choose="random").fill(net, [other], 0), net, batch).audio == chosen[0]


@pytest.mark.parametrize("choose", ["class", "random"])
def test_what_a_memory_keeps_depends_on_seed_and_names_only(choose):
    net, batch = network(), clips(24)
    settings = ExFMem(columns=8, choose=choose)
    first = settings.fill(net, [batch], 3)
    again = settings.fill(net, [batch], 3)
    assert torch.equal(first.audio, again.audio)
    assert torch.equal(first.visual, again.visual)
    kept = set(columns(first, net, batch).audio)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    for other in (in_batches(batch, 5), in_batches(reordered(batch, order), 7)):
        memory = settings.fill(net, iter(other), 3)
        found = columns(memory, net, batch)
        assert found.audio == found.visual
        assert set(found.audio) == kept
        f = net.embed(batch.x)
        torch.testing.assert_close(memory(f).audio, first(f).audio, rtol=1e-3, atol=1e-4)
    assert set(columns(settings.fill(net, [batch], 4), net, batch).audio) != kept


def test_columns_are_of_length_one_or_as_they_are():
    net, batch = network(), clips(24)
    unit, raw = (ExFMem(columns=8, unit=u).fill(net, [batch], 0) for u in (True, False))
    for name in ("audio", "visual"):
        lengths = getattr(raw, name).norm(dim=0)
        assert not torch.allclose(lengths, torch.ones(8), atol=0.1)
        torch.testing.assert_close(getattr(unit, name), getattr(raw, name) / lengths)
    columns(raw, net, batch, unit=False)


def test_settings_and_clips_that_make_no_memory():
    net, batch, deaf = network(), clips(8), replace(SMALL, modality="V")
    with pytest.raises(ValueError, match="expected training clips to fit a defense to, got none"):
        ExFMem().fill(net, [], 0)
    with pytest.raises(ValueError, match=r"training mode.*net\.eval\(\)"):
        ExFMem().fill(network().train(), [batch], 0)
    for other, shape, size in ((pointing_net(), r"\(12, 2, 8, 8\)", 96), (deaf.build(0).eval(), r"\(0,\)", 4096)):
        with pytest.raises(ValueError, match=rf"one vector of features per clip and modality, got features of {shape}"):
            ExFMem().fill(other, [Batch(AV(torch.zeros(8, size), batch.x.visual), batch.label, batch.ids)], 0)
    for wrong, says in (
        ({"columns": 0}, "at least one column"),
        ({"blend": 1.5}, r"a blend in \[0, 1\], got 1.5"),
        ({"weight": 0.0}, "a weight above 0"),
        ({"weight": 1.0}, "and below 1 as it is relative"),
    ):
        with pytest.raises(ValueError, match=says):
            ExFMem(**wrong)
    with pytest.raises(ValueError, match="at least one iteration and a tolerance above 0, got 0"):
        Lasso(iterations=0)
    assert ExFMem(weight=3.0, relative=False).weight == 3.0


# --- a memory at work


def test_a_memory_mixes_each_feature_with_its_sparse_reconstruction():
    net, batch = defended(ExFMem(columns=8, blend=0.3, solver=Lasso(1e-6))), clips()
    f = net.embed(batch.x)
    out = net.represent(batch.x)
    for name in ("audio", "visual"):
        feature, bank = getattr(f, name).detach(), getattr(net.feature_defense, name)
        dictionary = Dictionary.of(bank)
        code = of_sklearn(feature, dictionary, share(feature, dictionary, 0.2)).float()
        expected = 0.3 * code @ bank.T + 0.7 * feature
        torch.testing.assert_close(getattr(out, name), expected, rtol=0, atol=1e-3 * float(feature.abs().max()))
        assert (code == 0).any()


@pytest.mark.parametrize("settings", [ExFMem(columns=8), published_memory(8)], ids=["ours", "published"])
def test_blend_0_is_the_identity_and_others_are_not(settings):
    batch = clips()
    net = defended(replace(settings, blend=0.0))
    f = net.embed(batch.x)
    for a, b in zip(net.feature_defense(f), f, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(net(batch.x), network()(batch.x))
    assert not torch.allclose(defended(settings)(batch.x), net(batch.x), atol=1e-3)


@pytest.mark.parametrize(
    "settings",
    [ExFMem(columns=9), published_memory(9, step=AV(1e-4, None), iterations=20)],
    ids=["ours", "published"],
)
def test_a_checkpoint_has_the_memory(tmp_path, settings):
    toys = next(batches(Toys(), "train", VIEW, 13))
    net = SMALL.build(seed=0).eval()
    net.feature_defense = settings.fill(net, [toys], 0)
    save(net, tmp_path / "net.safetensors", {})
    again, meta = load(tmp_path / "net.safetensors")
    assert from_plain(meta["feature_defense"]["settings"]) == settings
    assert again.feature_defense.settings == settings
    assert_same(weights(again), weights(net))
    with torch.no_grad():
        assert torch.equal(again(toys.x), net(toys.x))
        net.feature_defense = nn.Identity()
        assert not torch.equal(again(toys.x), net(toys.x))


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
def test_a_memory_answers_networks_of_another_precision(tmp_path, stored):
    toys = next(batches(Toys(), "train", VIEW, 13))
    net = SMALL.build(seed=0).eval()
    net.feature_defense = ExFMem(columns=9).fill(net, [toys], 0)
    save(copy.deepcopy(net).to(stored), tmp_path / "net.safetensors", {})
    again = load(tmp_path / "net.safetensors")[0]
    torch.testing.assert_close(again(toys.x), net(toys.x), rtol=0, atol=2e-2)
    fine = SMALL.build(seed=0).eval().double()
    x = toys.x.map(torch.Tensor.double)
    fine.feature_defense = ExFMem(columns=9).fill(fine, [replace(toys, x=x)], 0)
    torch.testing.assert_close(fine(x).float(), net(toys.x), rtol=0, atol=1e-4)


def test_feature_defenses_of_another_version_are_refused():
    with pytest.raises(ValueError, match=r"expected the class and settings of a feature defense, got .*ExFMem"):
        rebuild({"kind": "ExFMem"})


def test_a_copy_has_banks_of_its_own():
    net, batch = defended(), clips()
    before = net(batch.x)
    twin = copy.deepcopy(net)
    assert torch.equal(twin(batch.x), before)
    assert not twin.feature_defense.training
    twin.feature_defense.audio[0] += 1
    assert not torch.equal(twin(batch.x), before)
    assert torch.equal(net(batch.x), before)
    assert copy.deepcopy(net.train()).feature_defense.training


def test_banks_that_are_loaded_anew_are_noticed():
    f = network().embed(clips().x)
    one, two = (ExFMem(columns=8).fill(network(seed), [clips(16)], 0) for seed in (0, 1))
    before, expected = one(f), two(f)
    assert not torch.allclose(before.audio, expected.audio, atol=1e-3)
    known = one._dictionary("audio")
    assert one._dictionary("audio") is known  # once per bank
    one.load_state_dict(two.state_dict())
    assert torch.equal(one(f).audio, expected.audio)
    assert torch.equal(one(f).visual, expected.visual)


def test_features_of_another_width_are_refused():
    memory = defended().feature_defense
    with pytest.raises(ValueError, match=r"expected audio features of 12 numbers per clip, got \(5,\)"):
        memory(AV(audio=torch.ones(3, 5), visual=torch.ones(3, 12)))
    with pytest.raises(ValueError, match=r"expected visual features of 12 numbers per clip, got \(12, 2, 3, 3\)"):
        memory(AV(audio=torch.ones(3, 12), visual=torch.ones(3, 12, 2, 3, 3)))


@pytest.mark.parametrize(
    "settings",
    [
        ExFMem(columns=8, solver=Lasso(1e-11, 1000), blend=1.0),
        ExFMem(columns=8, solver=Lasso(1e-11, 1000), relative=False, weight=0.1),
        published_memory(8, iterations=30),
    ],
    ids=["relative", "fixed", "published"],
)
def test_an_attacker_s_gradient_goes_through_the_memory(settings):
    """Against finite differences, on double precision from signal to logits."""
    net = defended(settings).double()
    batch = clips(2)
    x = batch.x.map(lambda s: s.double() * 0.8 + 0.1)

    def loss(out, y):  # as `cross_entropy`, which is in float32
        return F.cross_entropy(out.logits, y, reduction="none")

    _, grad = engine.gradient(net, loss, x, batch.label, Threat.linf(audio=1.0, visual=1.0))
    g = torch.Generator().manual_seed(0)
    toward = x.map(lambda s: torch.randn(s.shape, generator=g, dtype=s.dtype))
    h = 1e-5
    for name in ("audio", "visual"):
        kept = AV(**{n: t * (n == name) for n, t in toward.items()})
        up, down = (loss(Output(net(x.map(lambda s, t, h=s: s + h * t, kept))), batch.label) for s in (h, -h))
        slope = ((up - down) / (2 * h)).detach()
        found = (getattr(grad, name) * getattr(toward, name)).flatten(1).sum(1)
        assert (found.abs() > 1e-6).all()
        torch.testing.assert_close(found, slope, rtol=2e-3, atol=1e-6)


def test_a_defended_network_is_measured_like_any_other():
    net, batch = defended(ExFMem(columns=8, solver=Lasso(1e-2))), clips()
    rows = evaluate(net, [batch], [FGSM(), PGD(steps=2)], Threat.linf(audio=0.02, visual="4/255"))
    assert rows.where(subset="clean").column("pred").tolist() == net(batch.x).argmax(1).tolist()
    clean = rows.where(subset="clean").column("margin").mean()
    for attack in ("FGSM", "PGD-2"):
        for subset in ("A", "V", "AV"):
            assert rows.where(attack=attack, subset=subset).column("margin").mean() > clean
    plain = evaluate(network(), [batch], [], Threat.linf())
    assert abs(plain.column("margin").mean() - clean) > 1e-3


def test_low_precision_does_not_reach_the_solver():
    memory = defended().feature_defense
    f = network().embed(clips().x).map(lambda s: s.detach().bfloat16())
    expected = memory(f.map(torch.Tensor.float))
    with torch.autocast("cpu", torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        found = memory(f)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


def test_diagnosis_counts_by_modality():
    net, batch = defended(), clips(9)
    found = diagnosis(net, in_batches(batch, 4))
    with torch.no_grad():
        f = net.embed(batch.x)
        codes = net.feature_defense.codes(f)
    for name, code, feature in zip(("audio", "visual"), codes, f, strict=True):
        assert found[name]["nonzero"] == pytest.approx(float((code.codes != 0).sum()) / 9, abs=0.12)
        left = (feature - code.codes @ getattr(net.feature_defense, name).T).norm(dim=1) / feature.norm(dim=1)
        assert found[name]["residual"] == pytest.approx(float(left.mean()), rel=1e-3)
        assert 0 <= found[name]["gap"] <= 1e-3
    net.feature_defense = nn.Identity()
    with pytest.raises(ValueError, match="expected a network with a memory"):
        diagnosis(net, [batch])
