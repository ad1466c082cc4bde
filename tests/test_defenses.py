"""Sparse codes, memories, prototypes and training losses: against scikit-learn, by hand, and by finite differences."""

import copy
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Lasso
from torch import nn

from avrobust import AV, FGSM, PGD, Batch, Seeds, Threat, evaluate
from avrobust.attacks import engine
from avrobust.defenses import (
    MAX_SIM,
    MIN_SIM,
    PCL,
    PUBLISHED,
    Centres,
    Dictionary,
    ExFMem,
    Prototypes,
    Similarity,
    diagnosis,
    guard,
    lasso,
    published_ista,
    sparse,
)
from avrobust.defenses.sparse import objective
from avrobust.models import FUSIONS, AVNet, build
from avrobust.objectives import cosine
from avrobust.training import Trained, batches, load, save, train
from nets import clips, network
from test_training import RECIPE, SMALL, VIEW, Toys, assert_same, weights

# --- sparse codes


def problem(d, m, b=4, *, unit=True, dtype=torch.float64, seed=0):
    """Positive features and atoms that resemble each other, as behind a ReLU; raw atoms differ 20 times in length."""
    g = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=g, dtype=torch.float64)
    atoms, f = draw(d, m).relu() + 0.1, 5 * draw(b, d).relu()
    atoms = atoms / atoms.norm(dim=0) if unit else atoms * (1 + 20 * draw(m).abs())
    return f.to(dtype), Dictionary.of(atoms.to(dtype))


def share(f, dictionary, by=0.1):
    """A weight per feature, as a share of the one from which on its code is all zeros."""
    return by * (f @ dictionary.atoms).abs().amax(1)


def of_sklearn(f, dictionary, weight):
    atoms, rows = dictionary.atoms.double().numpy(), f.double().numpy()
    fits = [
        Lasso(alpha=float(w) / len(atoms), fit_intercept=False, tol=1e-14, max_iter=10**6).fit(atoms, row)
        for row, w in zip(rows, weight, strict=True)
    ]
    return torch.tensor(np.array([fit.coef_ for fit in fits]))


def plain_ista(f, dictionary, weight, iterations, step=None):
    """The iteration as a textbook writes it."""
    h, step = torch.zeros_like(f @ dictionary.atoms), step or 1 / dictionary.lipschitz
    for _ in range(iterations):
        h = h + step * (f - h @ dictionary.atoms.T) @ dictionary.atoms
        h = h.sign() * (h.abs() - step * weight[:, None]).relu()
    return h


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("unit", [True, False], ids=["unit", "raw"])
@pytest.mark.parametrize("d, m", [(40, 15), (15, 40), (30, 30)])
def test_lasso_is_scikit_learns(d, m, unit, dtype):
    f, dictionary = problem(d, m, unit=unit, dtype=dtype)
    weight, exact = share(f, dictionary), dtype == torch.float64
    # Below about 1e-5 the gap of a float32 problem is rounding.
    found = lasso(f, dictionary, weight, tolerance=1e-13 if exact else 1e-5, iterations=5000)
    expected = of_sklearn(f, dictionary, weight)
    assert 2 < (expected != 0).sum(1).float().mean() < min(d, m)  # sparse, and not trivial
    assert found.codes.dtype == dtype
    torch.testing.assert_close(
        found.codes.double(), expected, rtol=0, atol=float(expected.abs().max()) * (1e-9 if exact else 2e-3)
    )
    values = [
        objective(f.double(), dictionary.atoms.double(), h, weight.double()) for h in (found.codes.double(), expected)
    ]
    torch.testing.assert_close(*values, rtol=1e-12 if exact else 1e-5, atol=0)
    assert (found.gap <= (1e-13 if exact else 1e-5)).all()


@pytest.mark.parametrize("unit", [True, False], ids=["unit", "raw"])
def test_the_gap_bounds_what_is_left_to_gain(unit, monkeypatch):
    f, dictionary = problem(15, 40, b=8, unit=unit)
    weight = share(f, dictionary, 0.05)
    best = objective(f, dictionary.atoms, lasso(f, dictionary, weight, tolerance=1e-12, iterations=5000).codes, weight)
    gaps = []
    monkeypatch.setattr(sparse, "EXCHANGES", 0)  # the iteration alone, which gets there slowly
    for iterations in (10, 20, 40, 80, 160):
        found = lasso(f, dictionary, weight, tolerance=0.0, iterations=iterations)
        value = objective(f, dictionary.atoms, found.codes, weight)
        true = (value - best) / value
        assert (true > 1e-9).any() or iterations > 80
        assert (found.gap >= true - 2e-12).all()
        assert (found.iterations == iterations).all()
        gaps.append(float(found.gap.max()))
    assert gaps[-1] < 0.1 * gaps[0]  # and it is no idle bound


@pytest.mark.parametrize("exchanges", [0, 10])
def test_a_code_does_not_depend_on_batch_mates_order_or_batch_size(exchanges, monkeypatch):
    """To rounding: a product with other rows beside it is summed in another order."""
    f, dictionary = problem(30, 50, b=9, dtype=torch.float32)
    f[3] *= 1e-3  # far from its mates in size; relative weights
    weight = share(f, dictionary)
    monkeypatch.setattr(sparse, "FIRST", 4)
    monkeypatch.setattr(sparse, "EXCHANGES", exchanges)
    whole = lasso(f, dictionary, weight)
    assert exchanges or len(set(whole.iterations.tolist())) > 1  # clips leave one after another
    order = torch.tensor([8, 3, 0, 5, 1, 2, 7, 4, 6])
    turned = lasso(f[order], dictionary, weight[order]).codes
    alone = torch.cat([lasso(f[i : i + 1], dictionary, weight[i : i + 1]).codes for i in range(9)])
    halves = torch.cat([lasso(f[p], dictionary, weight[p]).codes for p in (slice(0, 4), slice(4, 9))])
    for other, expected in ((turned, whole.codes[order]), (alone, whole.codes), (halves, whole.codes)):
        size = expected.abs().amax(1, keepdim=True)
        torch.testing.assert_close(other / size, expected / size, rtol=0, atol=1e-5)


def test_a_clip_that_stops_early_stays_as_it_was():
    f, dictionary = problem(30, 50, b=6)
    weight = share(f, dictionary, 0.02)
    weight[2] = 0.8 * (f[2] @ dictionary.atoms).amax()  # one or two atoms: soon done
    found = lasso(f, dictionary, weight, tolerance=1e-8)
    first = int(found.iterations.min())
    assert found.iterations[2] == first < int(found.iterations.max())
    then = lasso(f, dictionary, weight, tolerance=1e-8, iterations=first)
    assert torch.equal(found.codes[2], then.codes[2])
    assert not torch.equal(found.codes[0], then.codes[0])


def test_zero_features_and_weights_that_leave_nothing():
    f, dictionary = problem(20, 30)
    f[1] = 0
    most = share(f, dictionary, 1.0)
    x, factor = f.clone().requires_grad_(), torch.tensor([0.1, 0.1, 1.001, 5.0], dtype=f.dtype)
    found = lasso(x, dictionary, factor * (x @ dictionary.atoms).abs().amax(1), tolerance=1e-10)
    assert (found.codes != 0).any(1).tolist() == [True, False, False, False]
    assert found.iterations[1:].tolist() == [sparse.FIRST] * 3
    assert (found.gap[1:].abs() < 1e-12).all()
    assert lasso(f[2:3], dictionary, 0.999 * most[2:3], tolerance=1e-10).codes.any()
    (grad,) = torch.autograd.grad(found.codes.square().sum(), x)
    assert grad[0].any()
    assert not grad[1:].any()
    # where nothing is in any support, there is nothing to solve
    empty = lasso(x, dictionary, torch.full((4,), 1e6, dtype=f.dtype)).codes
    (grad,) = torch.autograd.grad(empty.sum(), x)
    assert not empty.any()
    assert not grad.any()


@pytest.mark.parametrize("relative", [False, True], ids=["fixed", "relative"])
def test_gradient_of_a_code_is_that_of_finite_differences(relative):
    f, dictionary = problem(6, 8, b=2)
    fixed = share(f, dictionary, 0.15)

    def codes(x, w):
        weight = w * (x @ dictionary.atoms).abs().amax(1) if relative else w
        return lasso(x, dictionary, weight, tolerance=1e-12, iterations=1000).codes

    w = torch.tensor([0.1, 0.2], dtype=f.dtype) if relative else fixed
    assert codes(f, w).count_nonzero() > 3
    assert torch.autograd.gradcheck(codes, (f.requires_grad_(), w.requires_grad_()), eps=1e-6, atol=1e-4)


def test_gradient_of_a_code_is_that_of_a_long_unrolled_iteration():
    f, dictionary = problem(12, 16, b=3)
    gradients = []
    for solve in (
        lambda x, w: lasso(x, dictionary, w, tolerance=1e-13, iterations=5000).codes,
        lambda x, w: plain_ista(x, dictionary, w, 2500),
    ):
        x = f.clone().requires_grad_()
        h = solve(x, share(x, dictionary))
        toward = torch.linspace(-1, 2, 12, dtype=f.dtype)
        gradients.append(torch.autograd.grad(((h @ dictionary.atoms.T) @ toward).tanh().sum() + h.sum(), x)[0])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_gradient_in_float32_at_the_size_of_a_network():
    """256 features, 330 atoms, the usual tolerance: rounding does not matter beside where the support ends."""
    f, dictionary = problem(256, 330, b=4)
    low = Dictionary.of(dictionary.atoms.float())
    gradients = []
    for x, atoms in ((f.clone(), dictionary), (f.float(), low)):
        x.requires_grad_()
        h = lasso(x, atoms, share(x, atoms, 0.2), tolerance=1e-3, iterations=500).codes
        gradients.append(torch.autograd.grad((h @ atoms.atoms.T)[:, ::3].sum(), x)[0].double())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-2, atol=1e-4 * float(gradients[0].abs().max()))


@pytest.mark.parametrize("by", [0.2, 0.005])
def test_atoms_that_stand_twice_do_no_harm(by):
    f, once = problem(20, 10, dtype=torch.float32)
    twice = Dictionary.of(torch.cat([once.atoms, once.atoms, once.atoms[:, :3] * (1 + 1e-7)], 1))
    made, gradients = [], []
    for dictionary in (once, twice):
        x = f.clone().requires_grad_()
        h = lasso(x, dictionary, share(x, dictionary, by), tolerance=1e-6).codes
        made.append(h @ dictionary.atoms.T)
        gradients.append(torch.autograd.grad(made[-1][:, :7].sum(), x)[0])
    torch.testing.assert_close(made[1], made[0], rtol=0, atol=1e-3 * float(f.detach().abs().max()))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=2e-3)


# --- the published iteration


def test_published_iteration_equals_a_plain_loop_and_its_gradient():
    f, dictionary = problem(12, 16, b=3)
    results = []
    for solve in (
        lambda x, w: published_ista(x, dictionary, w, tolerance=0.0, iterations=57).codes,
        lambda x, w: plain_ista(x, dictionary, w, 57),
    ):
        x, w = f.clone().requires_grad_(), share(f, dictionary).requires_grad_()
        h = solve(x, w)
        results.append((h, *torch.autograd.grad(h.square().sum(), (x, w))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    short = 0.5 / dictionary.lipschitz
    a = published_ista(f, dictionary, share(f, dictionary), step=short, tolerance=0.0, iterations=9).codes
    torch.testing.assert_close(a, plain_ista(f, dictionary, share(f, dictionary), 9, short))


def test_published_iteration_stops_for_the_whole_batch():
    """As published: the same clip has another code in other company.  The solved Lasso has not."""
    f, dictionary = problem(20, 30, b=8)
    f[0] *= 0.01
    weight = share(f, dictionary)
    for solve, same in ((partial(published_ista, tolerance=1e-2), False), (partial(lasso, tolerance=1e-10), True)):
        whole, alone = solve(f, dictionary, weight), solve(f[:1], dictionary, weight[:1])
        assert torch.allclose(whole.codes[0], alone.codes[0], rtol=1e-4, atol=1e-9) == same
        if not same:
            assert len(set(whole.iterations.tolist())) == 1
            assert alone.iterations[0] < whole.iterations[0] < 2001
            assert whole.gap.isnan().all()


def test_published_iteration_refuses_a_step_that_diverges():
    f, dictionary = problem(20, 30)
    weight, longest = share(f, dictionary), 1 / dictionary.lipschitz
    assert published_ista(f, dictionary, weight, step=longest).codes.isfinite().all()
    with pytest.raises(ValueError, match=r"expected a step of at most .* the iteration would diverge"):
        published_ista(f, dictionary, weight, step=1.1 * longest)
    assert not plain_ista(f, dictionary, weight, 3000, step=2.5 * longest).isfinite().all()


# --- filling a memory


def in_batches(batch, size):
    parts = [slice(i, i + size) for i in range(0, len(batch), size)]
    return [Batch(batch.x.map(lambda s, p=p: s[p]), batch.label[p], batch.ids[p]) for p in parts]


def reordered(batch, order):
    return Batch(batch.x.map(lambda s: s[order]), batch.label[order], tuple(batch.ids[i] for i in order))


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
    with pytest.raises(ValueError, match="expected training clips to fill a memory from, got none"):
        ExFMem().fill(net, [], 0)
    with pytest.raises(ValueError, match=r"training mode.*net\.eval\(\)"):
        ExFMem().fill(network().train(), [batch], 0)
    for other, shape, size in ((pointing_net(), r"\(12, 2, 8, 8\)", 96), (build(deaf, 0).eval(), r"\(0,\)", 4096)):
        with pytest.raises(ValueError, match=rf"one vector of features per clip and modality, got features of {shape}"):
            ExFMem().fill(other, [Batch(AV(torch.zeros(8, size), batch.x.visual), batch.label, batch.ids)], 0)
    for wrong, says in (
        ({"columns": 0}, "at least one column"),
        ({"iterations": 0}, "one iteration"),
        ({"blend": 1.5}, r"a blend in \[0, 1\], got 1.5"),
        ({"weight": 0.0}, "a weight above 0"),
        ({"weight": 1.0}, "and below 1 as it is relative"),
    ):
        with pytest.raises(ValueError, match=says):
            ExFMem(**wrong)
    assert ExFMem(weight=3.0, relative=False).weight == 3.0


def pointing_net():
    class Places(nn.Module):
        width = 12

        def forward(self, frames):
            return frames.mean(2, keepdim=True).transpose(1, 2).expand(-1, 12, -1, -1, -1)

    class Mean(nn.Module):
        width = 12

        def forward(self, wave):
            return wave[:, :12]

    widths = AV(audio=12, visual=12)
    return AVNet(AV(audio=Mean(), visual=Places()), FUSIONS["attention"](widths), 4).eval()


# --- a memory at work


def guarded(settings=None, n=16):
    net = network()
    net.guard = (settings or ExFMem(columns=8)).fill(net, [clips(n, seed=7)], 0)
    return net.eval()


def test_a_memory_mixes_each_feature_with_its_sparse_reconstruction():
    net, batch = guarded(ExFMem(columns=8, blend=0.3, tolerance=1e-6)), clips()
    f = net.embed(batch.x)
    out = net.represent(batch.x)
    for name in ("audio", "visual"):
        feature, bank = getattr(f, name).detach(), getattr(net.guard, name)
        dictionary = Dictionary.of(bank)
        code = of_sklearn(feature, dictionary, share(feature, dictionary, 0.2)).float()
        expected = 0.3 * code @ bank.T + 0.7 * feature
        torch.testing.assert_close(getattr(out, name), expected, rtol=0, atol=1e-3 * float(feature.abs().max()))
        assert (code == 0).any()


@pytest.mark.parametrize("settings", [ExFMem(columns=8), replace(PUBLISHED, columns=8)], ids=["ours", "published"])
def test_blend_0_is_the_identity_and_others_are_not(settings):
    batch = clips()
    net = guarded(replace(settings, blend=0.0))
    f = net.embed(batch.x)
    for a, b in zip(net.guard(f), f, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(net(batch.x), network()(batch.x))
    assert not torch.allclose(guarded(settings)(batch.x), net(batch.x), atol=1e-3)


@pytest.mark.parametrize(
    "settings",
    [ExFMem(columns=9), replace(PUBLISHED, columns=9, step=AV(1e-4, None), iterations=20)],
    ids=["ours", "published"],
)
def test_a_memory_travels_in_the_checkpoint(tmp_path, settings):
    toys = next(batches(Toys(), "train", VIEW, 13))
    net = build(SMALL, seed=0).eval()
    net.guard = settings.fill(net, [toys], 0)
    save(net, tmp_path / "net.safetensors", {})
    again, meta = load(tmp_path / "net.safetensors")
    assert meta["guard"]["kind"] == "ExFMem"
    assert again.guard.settings == settings
    assert_same(weights(again), weights(net))
    with torch.no_grad():
        assert torch.equal(again(toys.x), net(toys.x))
        net.guard = nn.Identity()
        assert not torch.equal(again(toys.x), net(toys.x))


def test_guards_of_a_newer_version_are_refused():
    with pytest.raises(ValueError, match="a guard of ExFMem, Centres or Broken, got 'Wall'"):
        guard({"kind": "Wall"})


def test_a_copy_has_banks_of_its_own():
    net, batch = guarded(), clips()
    before = net(batch.x)
    twin = copy.deepcopy(net)
    assert torch.equal(twin(batch.x), before)
    assert not twin.guard.training
    twin.guard.audio[0] += 1
    assert not torch.equal(twin(batch.x), before)
    assert torch.equal(net(batch.x), before)
    assert copy.deepcopy(net.train()).guard.training


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
    memory = guarded().guard
    with pytest.raises(ValueError, match=r"expected audio features of 12 numbers per clip, got \(5,\)"):
        memory(AV(audio=torch.ones(3, 5), visual=torch.ones(3, 12)))
    with pytest.raises(ValueError, match=r"expected visual features of 12 numbers per clip, got \(12, 2, 3, 3\)"):
        memory(AV(audio=torch.ones(3, 12), visual=torch.ones(3, 12, 2, 3, 3)))


@pytest.mark.parametrize(
    "settings",
    [
        ExFMem(columns=8, tolerance=1e-11, iterations=1000, blend=1.0),
        ExFMem(columns=8, tolerance=1e-11, iterations=1000, relative=False, weight=0.1),
        replace(PUBLISHED, columns=8, iterations=30),
    ],
    ids=["relative", "fixed", "published"],
)
def test_an_attacker_s_gradient_goes_through_the_memory(settings):
    """Against finite differences, on double precision from signal to logits."""
    net = guarded(settings).double()
    batch = clips(2)
    x = batch.x.map(lambda s: s.double() * 0.8 + 0.1)

    def loss(model, x, y):  # as `cross_entropy`, which is in float32
        return F.cross_entropy(model(x), y, reduction="none")

    _, grad = engine.gradient(net, loss, x, batch.label, Threat.linf(audio=1.0, visual=1.0))
    g = torch.Generator().manual_seed(0)
    toward = x.map(lambda s: torch.randn(s.shape, generator=g, dtype=s.dtype))
    h = 1e-5
    for name in ("audio", "visual"):
        kept = AV(**{n: t * (n == name) for n, t in toward.items()})
        up, down = (loss(net, x.map(lambda s, t, h=s: s + h * t, kept), batch.label) for s in (h, -h))
        slope = ((up - down) / (2 * h)).detach()
        found = (getattr(grad, name) * getattr(toward, name)).flatten(1).sum(1)
        assert (found.abs() > 1e-6).all()
        torch.testing.assert_close(found, slope, rtol=2e-3, atol=1e-6)


def test_a_guarded_network_is_measured_like_any_other():
    net, batch = guarded(ExFMem(columns=8, tolerance=1e-2)), clips()
    rows = evaluate(net, [batch], [FGSM(), PGD(steps=2)], Threat.linf(audio=0.02, visual="4/255"))
    assert rows.where(subset="clean").column("pred").tolist() == net(batch.x).argmax(1).tolist()
    clean = rows.where(subset="clean").column("margin").mean()
    for attack in ("FGSM", "PGD-2"):
        for subset in ("A", "V", "AV"):
            assert rows.where(attack=attack, subset=subset).column("margin").mean() > clean
    plain = evaluate(network(), [batch], [], Threat.linf())
    assert abs(plain.column("margin").mean() - clean) > 1e-3


def test_low_precision_does_not_reach_the_solver():
    memory = guarded().guard
    f = network().embed(clips().x).map(lambda s: s.detach().bfloat16())
    expected = memory(f.map(torch.Tensor.float))
    with torch.autocast("cpu", torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        found = memory(f)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


def test_diagnosis_counts_by_modality():
    net, batch = guarded(), clips(9)
    found = diagnosis(net, in_batches(batch, 4))
    with torch.no_grad():
        f = net.embed(batch.x)
        codes = net.guard.codes(f)
    for name, code, feature in zip(("audio", "visual"), codes, f, strict=True):
        assert found[name]["nonzero"] == pytest.approx(float((code.codes != 0).sum()) / 9, abs=0.12)
        left = (feature - code.codes @ getattr(net.guard, name).T).norm(dim=1) / feature.norm(dim=1)
        assert found[name]["residual"] == pytest.approx(float(left.mean()), rel=1e-3)
        assert 0 <= found[name]["gap"] <= 1e-3
    net.guard = nn.Identity()
    with pytest.raises(ValueError, match="expected a network with a memory"):
        diagnosis(net, [batch])


# --- losses on the similarity of sound and picture


@pytest.mark.parametrize("loss, weight", [(MIN_SIM, 1.0), (MAX_SIM, -1.0), (Similarity(0.3), 0.3)])
def test_similarity_by_hand(loss, weight):
    net, batch = guarded().requires_grad_(False), clips()
    f = net.guard(net.embed(batch.x))  # behind the guard
    cosines = [
        float(a @ v) / float(a.square().sum() * v.square().sum()) ** 0.5 for a, v in zip(f.audio, f.visual, strict=True)
    ]
    expected = float(F.cross_entropy(net(batch.x), batch.label)) + weight * sum(cosines) / len(batch)
    assert loss(net, batch, Seeds(0, batch.ids)).item() == pytest.approx(expected, rel=1e-5)
    assert abs(sum(cosines)) > 0.1


def test_training_drives_the_modalities_apart_or_together():
    batch, found = clips(16), {}
    for loss in (MIN_SIM, MAX_SIM):
        net = network().train()
        nn.init.zeros_(net.classifier.weight)  # so that the classes do not speak first
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        before = cosine(net.represent(batch.x)).mean()
        for _ in range(30):
            optimizer.zero_grad()
            loss(net, batch, Seeds(0, batch.ids)).backward()
            optimizer.step()
        found[loss.name] = cosine(net.represent(batch.x)).mean() - before
    assert found["MinSim"] < -0.05
    assert found["MaxSim"] > 0.05


def test_similarity_names_and_maps():
    assert [s.name for s in (MIN_SIM, MAX_SIM, Similarity(0.5))] == ["MinSim", "MaxSim", "MinSim × 0.5"]
    with pytest.raises(ValueError, match=r"one vector per clip and modality, got \(8, 12\) and \(8, 12, 2, 8, 8\)"):
        MIN_SIM(pointing_net(), clips(8), Seeds(0, clips(8).ids))


# --- prototypes


def with_centres():
    """A network with centres that lie somewhere, and its fused features of some clips."""
    net = network()
    net.guard = Prototypes().fill(net, [], 0)
    net.guard.centres.copy_(torch.randn(net.guard.centres.shape, generator=torch.Generator().manual_seed(1)))
    net.guard.begun.fill_(1)
    return net.requires_grad_(False)


def by_hand(form, z, label, centres, attract, repel):
    total = 0.0
    for f, y in zip(z, label.tolist(), strict=True):
        others = [j for j in range(len(centres)) if j != y]
        near = [float((f - c).square().sum()) for c in centres]
        between = [float((centres[y] - c).square().sum()) ** 0.5 for c in centres]
        if form == "code":
            total += attract * near[y] - repel * sum(near[j] for j in others) / len(others)
        else:
            total += attract * (near[y] ** 0.5 - sum(near[j] ** 0.5 + between[j] for j in others) / len(others))
    return total / len(z)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_prototypes_by_hand(form):
    net, batch = with_centres(), clips(7)
    loss = PCL(form=form, attract=0.3, repel=0.05)
    z = net.fuse(net.embed(batch.x))
    conformity = by_hand(form, z, batch.label, net.guard.centres, 0.3, 0.05)
    assert abs(conformity) > 0.1
    expected = float(F.cross_entropy(net(batch.x), batch.label)) + conformity
    assert float(loss(net, batch, Seeds(0, batch.ids))) == pytest.approx(expected, rel=1e-4)
    assert loss.name == f"PCL, {form} form"


def test_centres_follow_in_training_and_stay_in_evaluation():
    net, rate = network(), PCL().rate
    net.guard = Centres.of(net)
    assert net.guard.centres.shape == (4, 24)
    first, second = clips(6), reordered(clips(8, seed=3), torch.tensor([0, 1, 4, 5, 6]))  # classes 0 1 0 1 2
    first = Batch(first.x, first.label % 2, first.ids)

    PCL()(net, first, Seeds(0, first.ids))
    assert not net.guard.centres.any()
    assert not net.guard.begun.any()

    net.train()
    z = net.fuse(net.represent(first.x)).detach()  # BatchNorm takes the batch's own statistics: the same again
    PCL()(net, first, Seeds(0, first.ids)).backward()  # moving the centres leaves the graph whole
    means = torch.stack([z[first.label == k].mean(0) for k in (0, 1)])
    torch.testing.assert_close(net.guard.centres[:2], means)  # class means do not pull
    assert net.guard.begun.tolist() == [1, 1, 0, 0]
    assert not net.guard.centres[2:].any()

    z = net.fuse(net.represent(second.x)).detach()
    before = net.guard.centres.clone()
    PCL()(net, second, Seeds(0, second.ids))
    for k in (0, 1):
        pull = (z[second.label == k] - before[k]).sum(0) / len(second)
        torch.testing.assert_close(net.guard.centres[k], before[k] + rate * pull)
    torch.testing.assert_close(net.guard.centres[2], z[second.label == 2].mean(0))
    assert net.guard.begun.tolist() == [1, 1, 1, 0]

    held = net.guard.centres.clone()
    PCL()(net.eval(), second, Seeds(0, second.ids))
    assert torch.equal(net.guard.centres, held)


def test_prototypes_pull_clips_of_a_class_together():
    batch, spreads = clips(16), {}
    for attract in (0.0, 10.0):
        net = network().train()
        net.guard = Centres.of(net)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(30):
            optimizer.zero_grad()
            PCL(attract=attract, repel=0.0)(net, batch, Seeds(0, batch.ids)).backward()
            optimizer.step()
        z = net.fuse(net.represent(batch.x)).detach()
        within = sum(float(z[batch.label == k].var(0).sum()) for k in range(4))
        spreads[attract] = within
    assert spreads[10.0] < 0.5 * spreads[0.0]


def test_prototypes_without_centres():
    net, batch = network(), clips()
    with pytest.raises(ValueError, match=r"expected a network with centres for PCL.*net\.guard = Centres\.of\(net\)"):
        PCL()(net, batch, Seeds(0, batch.ids))


def pcl_run(out, loss, **options) -> Trained:
    net = build(SMALL, seed=0)
    net.guard = Centres.of(net)
    recipe = replace(RECIPE, epochs=2)
    return train(net, Toys(), recipe, view=VIEW, out=out, seed=0, loss=loss, progress=False, **options)


def test_a_killed_training_with_prototypes_ends_as_if_nothing_had_happened(tmp_path):
    """The centres stand in the state file, and in the checkpoint."""
    calls = iter(range(9))

    def killed(net, batch, seeds):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return PCL()(net, batch, seeds)

    killed.__qualname__ = repr(PCL())
    whole = pcl_run(tmp_path / "whole", PCL())
    with pytest.raises(KeyboardInterrupt):
        pcl_run(tmp_path / "killed", killed, save_every_s=0.0)
    resumed = pcl_run(tmp_path / "killed", PCL())
    assert_same(weights(resumed.net), weights(whole.net))
    again, meta = load(whole.path)
    assert meta["guard"] == {"kind": "Centres", "classes": 3, "width": 256}
    assert again.guard.begun.all()
    assert again.guard.centres.any(1).all()
    assert torch.equal(again.guard.centres, whole.net.guard.centres)
