"""Sparse codes: the Lasso of many features over one dictionary.  Pure functions, without networks.

For each feature f, the code is the h that minimises

    P(h) = 1/2 |f - D h|^2 + w |h|_1

with the columns of D as atoms.  The paper's eq. 4 has no 1/2: its lambda is 2 w.  scikit-learn's `Lasso` divides the
first term by the number d of its rows: its alpha is w / d.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx

Atoms = Float[Tensor, "d m"]
Codes = Float[Tensor, "b m"]
Points = Float[Tensor, "b d"]
FIRST = 12  # iterations before the first look at the gap; each next look comes after half as many more
EXCHANGES = 10  # rounds of atoms entering and leaving at each look
RIDGE = 1e-9  # of the mean squared length of an atom


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Atoms (d m) with their products and the largest eigenvalue of those, which every solution needs."""

    atoms: Atoms
    gram: Float[Tensor, "m m"]
    lipschitz: float

    @classmethod
    def of(cls, atoms: Atoms) -> "Dictionary":
        """From the atoms alone; once per dictionary, the cost of one eigenvalue problem of the smaller side."""
        small = atoms.T @ atoms if atoms.shape[1] <= atoms.shape[0] else atoms @ atoms.T
        wide = small.cpu() if small.device.type == "mps" else small  # Apple's GPUs have no float64
        top = float(torch.linalg.eigvalsh(wide.double())[-1])
        return cls(atoms, atoms.T @ atoms, top)

    @cached_property
    def on_cpu(self) -> "Dictionary":
        """The same on the CPU."""
        return Dictionary(self.atoms.cpu(), self.gram.cpu(), self.lipschitz)

    @cached_property
    def exact(self) -> Float[Tensor, "m m"]:
        """The products of the atoms in float64, for the equations of the optimum."""
        atoms = self.atoms.double()
        return atoms.T @ atoms


@dataclass(frozen=True, eq=False)
class Solution:
    """`codes` (b m), and per clip how many iterations they took and what is left to gain.

    `gap` is an upper bound of P(h) - min P, as a share of P(h); nan where it was not computed.
    """

    codes: Codes
    iterations: Int[Tensor, " b"]
    gap: Float[Tensor, " b"]


def lasso(
    f: Points,
    dictionary: Dictionary,
    weight: Float[Tensor, " b"],
    *,
    tolerance: float = 1e-4,
    iterations: int = 2000,
) -> Solution:
    """The codes of `f`; what a clip gets does not depend on its batch, nor on the kind of CPU.

    FISTA (Beck & Teboulle 2009) with restarts where momentum points uphill (O'Donoghue & Candes 2015), on products
    of the atoms only, finds roughly which atoms take part; the equations of the optimum on those, in float64, then say
    exactly how much (`_polished`).  A clip leaves the batch once they change no atom any more and its duality gap is at
    most `tolerance` times its objective: its code is then the optimum, the same to rounding in any order of summation.
    A clip that `iterations` end before is as far from there as its gap allows, |D (h - h*)|^2 <= 2 gap P(h), and
    rounding may move it that far.
    Differentiable in `f` and `weight`: the gradient is that of the exact solution on its support (implicit
    differentiation), so memory does not grow with iterations.

    >>> d = Dictionary.of(torch.eye(3))
    >>> lasso(torch.tensor([[3.0, -0.5, 1.0]]), d, torch.tensor([1.0])).codes
    tensor([[2., 0., 0.]])
    """
    if f.device.type == "mps":  # Apple's GPUs have no float64
        there = lasso(f.cpu(), dictionary.on_cpu, weight.cpu(), tolerance=tolerance, iterations=iterations)
        return Solution(*(t.to(f.device) for t in (there.codes, there.iterations, there.gap.float())))
    with torch.no_grad():
        found = _fista(f.detach(), dictionary, weight.detach(), tolerance, iterations)
    codes = _Implicit.apply(f, weight, found.codes, dictionary)  # type: ignore[no-untyped-call]
    return Solution(codes, found.iterations, found.gap)


@dataclass(frozen=True)
class Lasso:
    """A solver of the Lasso: every clip to its own duality gap, `tolerance` as a share of its objective."""

    tolerance: float = 1e-3
    iterations: int = 500

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.tolerance <= 0:
            raise ValueError(
                f"expected at least one iteration and a tolerance above 0, got {self.iterations} and {self.tolerance}. "
                "Ask for more."
            )

    def __call__(self, f: Points, dictionary: Dictionary, weight: Float[Tensor, " b"], modality: str) -> Solution:
        """The codes of `f` (b d), the features of one modality."""
        return lasso(f, dictionary, weight, tolerance=self.tolerance, iterations=self.iterations)


# (features (b d), dictionary, weight (b), "audio" or "visual") -> codes (b m).
Solver = Callable[[Tensor, Dictionary, Tensor, str], Solution]


def objective(f: Points, atoms: Atoms, h: Codes, weight: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """P(h) per clip."""
    return 0.5 * (f - h @ atoms.T).square().sum(1) + weight * h.abs().sum(1)


def _fista(f: Points, d: Dictionary, weight: Float[Tensor, " b"], tolerance: float, iterations: int) -> Solution:
    c, w, e = f.double() @ d.atoms.double(), weight.double(), f.double().square().sum(1)
    h = z = torch.zeros_like(c, dtype=f.dtype)
    codes, momentum = torch.zeros_like(h), torch.ones_like(weight)
    spent = torch.zeros(len(f), dtype=torch.long, device=f.device)
    gaps = torch.full_like(e, torch.inf)
    left = torch.arange(len(f), device=f.device)  # the clips that are still at work, and their state
    low_c, low_w = c.to(f.dtype), weight
    look = FIRST
    for i in range(1, iterations + 1):
        new = shrink(z - (z @ d.gram - low_c) / d.lipschitz, low_w[:, None] / d.lipschitz)
        uphill = ((z - new) * (new - h)).sum(1) > 0
        momentum = torch.where(uphill, torch.ones_like(momentum), momentum)
        following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        z = new + torch.where(uphill, torch.zeros_like(momentum), (momentum - 1) / following)[:, None] * (new - h)
        h, momentum = new, following
        if i < min(look, iterations):
            continue
        look = round(1.5 * look)
        most = min(d.atoms.shape[0], round((i * len(d.gram) ** 2) ** (1 / 3)))
        polished, settled = _polished(h.double(), c, w, d, most)
        gap_here, gap = (_gap(candidate, candidate @ d.exact, c, w, e) for candidate in (h.double(), polished))
        settled &= gap <= tolerance
        better = settled | (gap < gap_here)
        h = torch.where(better[:, None], polished.to(h.dtype), h)
        z, momentum = (
            torch.where(better[:, None], h, z),
            torch.where(better, torch.ones_like(momentum), momentum),
        )
        gap = torch.where(better, gap, gap_here)
        done = settled | (i >= iterations)
        ended = left[done]
        codes[ended], spent[ended], gaps[ended] = h[done], i, gap[done]
        if bool(done.all()):
            break
        if bool(done.any()):
            stay = ~done
            left, c, w, e, h, z, momentum = (t[stay] for t in (left, c, w, e, h, z, momentum))
            low_c, low_w = low_c[stay], low_w[stay]
    return Solution(codes, spent, gaps.to(f.dtype))


def _polished(h: Codes, c: Codes, w: Float[Tensor, " b"], d: Dictionary, most: int) -> tuple[Codes, Bool[Tensor, " b"]]:
    """The optimum and True, if its atoms are a few exchanges away from those of `h`; else some point and False.

    On the atoms S that take part, with signs s, the optimum solves G_SS h_S = c_S - w s.  Atoms whose coefficient
    changes its sign leave, atoms whose product with the residual exceeds w enter, until nothing changes: the primal-dual
    active set method (Hintermueller, Ito & Kunisch 2003), a semismooth Newton method.

    A clip with more than `most` atoms iterates on first: more of them than numbers in a feature determine nothing, and
    the equations of n atoms cost some n^3, which should not be more than the iterations before have cost.
    """
    signs = h.sign()
    open_ = (signs != 0).sum(1) <= most
    signs = signs * open_[:, None]
    exact, settled = torch.where(open_[:, None], torch.zeros_like(h), h), torch.zeros_like(open_)
    moving = open_.nonzero().flatten()
    for _ in range(EXCHANGES):
        if not len(moving):
            break
        s = signs[moving]
        v = _solve_on_support(d.exact, s != 0, c[moving] - w[moving, None] * s)
        exact[moving] = v
        rest = c[moving] - v @ d.exact
        enters = (s == 0) & (rest.abs() > w[moving, None] * (1 + 1e-9))
        following = torch.where(s != 0, torch.where(v * s > 0, s, torch.zeros_like(s)), enters * rest.sign())
        changed = (following != s).any(1)
        settled[moving] = ~changed
        signs[moving] = following
        moving = moving[changed & ((following != 0).sum(1) <= most)]
    return exact, settled


def _gap(h: Codes, hg: Codes, c: Codes, w: Float[Tensor, " b"], e: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The relative duality gap, from products only: c = D'f, hg = D'D h, e = |f|^2.

    The residual r = f - D h, scaled until |D'r| <= w, is a point of the dual, whose value bounds the minimum from below.
    """
    along = (h * c).sum(1)
    residual = (e - 2 * along + (h * hg).sum(1)).clamp_min(0)
    primal = 0.5 * residual + w * h.abs().sum(1)
    scale = (w / (c - hg).abs().amax(1).clamp_min(1e-30)).clamp_max(1)
    dual = scale * (e - along) - 0.5 * scale**2 * residual
    return (primal - dual) / primal.clamp_min(1e-30)


def shrink(x: Codes, by: Float[Tensor, "b 1"]) -> Codes:
    """Soft thresholding: every number moves towards 0 by `by`, and stops there."""
    return x.sign() * (x.abs() - by).clamp_min(0)


class _Implicit(torch.autograd.Function):
    """The identity on codes that solve the Lasso, with the gradient of that solution.

    On the support S, with signs s: D_S'(f - D_S h) = w s, so dh = G_SS^-1 (D_S' df - s dw).
    """

    @staticmethod
    def forward(ctx: FunctionCtx, f: Points, weight: Tensor, codes: Codes, dictionary: Dictionary) -> Codes:
        ctx.save_for_backward(codes)
        ctx.dictionary = dictionary  # type: ignore[attr-defined]
        return codes.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (codes,) = ctx.saved_tensors  # type: ignore[attr-defined]
        d: Dictionary = ctx.dictionary  # type: ignore[attr-defined]
        u = _solve_on_support(d.exact, codes != 0, grad)
        return u @ d.atoms.T, -(codes.sign() * u).sum(1), None, None


def _solve_on_support(gram: Float[Tensor, "m m"], support: Bool[Tensor, "b m"], g: Codes) -> Codes:
    """u with G_SS u_S = g_S per clip, and 0 outside its support S; in float64, for atoms of one class nearly repeat."""
    size = int(support.sum(1).max()) if len(support) else 0
    out = torch.zeros_like(g)
    if size == 0:
        return out
    # Each clip's support, filled up to the largest one with atoms that are then cut loose.
    clip, atom = support.nonzero(as_tuple=True)
    sizes = support.sum(1)
    rank = torch.arange(len(clip), device=g.device) - (sizes.cumsum(0) - sizes)[clip]
    place = torch.zeros((len(g), size), dtype=torch.long, device=g.device)
    place[clip, rank] = atom
    inside = torch.arange(size, device=g.device) < sizes[:, None]
    both = inside[:, :, None] & inside[:, None, :]
    small = torch.where(both, gram[place[:, :, None], place[:, None, :]], torch.zeros_like(gram[:1, :1, None]))
    small.diagonal(dim1=1, dim2=2).add_((~inside).to(small.dtype))
    right = torch.where(inside, g.gather(1, place), torch.zeros_like(g[:1, :1])).to(small.dtype)[:, :, None]
    # The ridge is for atoms that stand twice; the second and third solve take out what it changes for all others.
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(size, dtype=small.dtype, device=g.device)
    factors, pivots, _ = torch.linalg.lu_factor_ex(small + ridge)
    solved = torch.linalg.lu_solve(factors, pivots, right)
    for _ in range(2):
        solved += torch.linalg.lu_solve(factors, pivots, right - small @ solved)
    out[clip, atom] = solved[clip, rank, 0].to(g.dtype)
    return out
