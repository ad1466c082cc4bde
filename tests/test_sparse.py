"""Sparse codes: against scikit-learn, by hand, and by finite differences."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

from avrobust.defenses import Dictionary, lasso, sparse
from avrobust.defenses.sparse import objective
from avrobust.papers.tian2021.defenses import published_ista


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


def in_other_company(f, dictionary, weight, **limits):
    """Codes and gaps of the same features turned round, alone, in halves, and with all sums in another order."""
    order = torch.randperm(len(f), generator=torch.Generator().manual_seed(1))
    turned, back = lasso(f[order], dictionary, weight[order], **limits), order.argsort()
    yield turned.codes[back], turned.gap[back]
    for size in (1, len(f) // 2):
        parts = [lasso(x, dictionary, w, **limits) for x, w in zip(f.split(size), weight.split(size), strict=True)]
        yield torch.cat([part.codes for part in parts]), torch.cat([part.gap for part in parts])
    rows, columns = (torch.randperm(n, generator=torch.Generator().manual_seed(n)) for n in dictionary.atoms.shape)
    moved = lasso(f[:, rows], Dictionary.of(dictionary.atoms[rows][:, columns].contiguous()), weight, **limits)
    yield moved.codes[:, columns.argsort()], moved.gap


@pytest.mark.parametrize("d, m, by", [(30, 50, 0.1), (256, 330, 0.2), (64, 330, 0.1)])
def test_a_code_does_not_depend_on_batch_mates_order_or_the_order_of_sums(d, m, by):
    f, dictionary = problem(d, m, b=9, dtype=torch.float32)
    f[3] *= 1e-3  # far from its mates in size; relative weights
    weight = share(f, dictionary, by)
    whole = lasso(f, dictionary, weight)
    assert (whole.gap.abs() < 1e-9).all()
    size = whole.codes.abs().amax(1, keepdim=True)
    for other, _ in in_other_company(f, dictionary, weight):
        torch.testing.assert_close(other / size, whole.codes / size, rtol=0, atol=1e-6)


def test_a_code_that_ends_early_moves_no_further_than_its_gap_allows(monkeypatch):
    """Whatever was reached: |D (h - h')| <= sqrt(2 gap P) + sqrt(2 gap' P'), as the objective is that convex in D h."""
    f, dictionary = problem(30, 50, b=9, dtype=torch.float32)
    weight = share(f, dictionary, 0.02)
    monkeypatch.setattr(sparse, "EXCHANGES", 0)
    monkeypatch.setattr(sparse, "FIRST", 4)
    whole = lasso(f, dictionary, weight, iterations=60)
    assert (whole.gap > 1e-6).all()
    exact = Dictionary.of(dictionary.atoms.double())
    best = lasso(f.double(), exact, weight.double(), tolerance=1e-9, iterations=20_000).codes

    def apart(h, g):
        return ((h.double() - g.double()) @ exact.atoms.T).norm(dim=1)

    def reach(h, gap):
        return (2 * gap * objective(f, dictionary.atoms, h, weight)).sqrt()

    first = reach(whole.codes, whole.gap)
    assert (apart(whole.codes, best) <= first).all()
    for other, gap in in_other_company(f, dictionary, weight, iterations=60):
        assert (apart(whole.codes, other) <= first + reach(other, gap)).all()


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
