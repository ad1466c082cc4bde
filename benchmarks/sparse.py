"""What does a sparse code cost?  Our Lasso, scikit-learn, SPAMS and the published loop, in one run.

    .venv/bin/python benchmarks/sparse.py                 # 256 features of 512 numbers over 1,024 unit atoms
    .venv/bin/python benchmarks/sparse.py --raw           # as published: raw features as atoms, weight 0.1

All solve the same problems to an objective within a relative 1e-4 of the minimum, which comes from a very precise
solution.  The published loop computes eigenvalues in each call and takes a fixed 2,000 steps; its gap is printed.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avrobust.allocator import keep_memory

keep_memory()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from measure import RUNS, write  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.linear_model import Lasso  # noqa: E402

from avrobust.defenses.sparse import Dictionary, lasso, objective  # noqa: E402
from avrobust.papers.tian2021.defenses import published_ista  # noqa: E402

GAP = 1e-4


def problem(clips: int, width: int, columns: int, raw: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, atoms and weights: non-negative, in eleven classes, like features behind a ReLU."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.rand(11, width, generator=draw).pow(3) * 3

    def features(n: int) -> torch.Tensor:
        return (centres[torch.arange(n) % 11] + 0.5 * torch.randn(n, width, generator=draw)).relu()

    atoms, f = features(columns).T, features(clips)
    atoms = atoms.contiguous() if raw else atoms / atoms.norm(dim=0)
    weight = torch.full((clips,), 0.1) if raw else 0.2 * (f @ atoms).abs().amax(1)
    return f, atoms, weight


def by_sklearn(f: torch.Tensor, atoms: torch.Tensor, weight: torch.Tensor, tolerance: float) -> torch.Tensor:
    """Coordinate descent for each clip, with the Gram matrix of the atoms computed once."""
    import warnings

    d, gram = np.asfortranarray(atoms.numpy(), np.float64), (atoms.T @ atoms).double().numpy()
    codes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for one, w in zip(f.double().numpy(), weight.tolist(), strict=True):
            model = Lasso(alpha=w / len(one), fit_intercept=False, precompute=gram, tol=tolerance, max_iter=20_000)
            codes.append(model.fit(d, one).coef_)
    return torch.from_numpy(np.stack(codes)).float()


def by_spams(f: torch.Tensor, atoms: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """LARS, exact; one call for all clips with the same weight, else one call per clip."""
    import spams

    d = np.asfortranarray(atoms.double().numpy())
    x = np.asfortranarray(f.double().numpy().T)
    threads = torch.get_num_threads()  # by default it takes all threads and keeps them
    if len(weight.unique()) == 1:
        return torch.from_numpy(
            spams.lasso(x, D=d, lambda1=float(weight[0]), mode=2, numThreads=threads).toarray().T
        ).float()
    columns = [
        spams.lasso(x[:, i : i + 1], D=d, lambda1=float(w), mode=2, numThreads=threads).toarray().T
        for i, w in enumerate(weight)
    ]
    return torch.from_numpy(np.concatenate(columns)).float()


def by_published(f: torch.Tensor, atoms: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Eigenvalues of all columns in each call, then 2,000 steps for the whole batch."""
    top = float(torch.linalg.eigvalsh(atoms.T @ atoms)[-1])
    known = Dictionary(atoms, atoms.T @ atoms, top)
    with torch.no_grad():
        return published_ista(f, known, weight, iterations=2000, tolerance=0.0).codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--columns", type=int, default=1024)
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    f, atoms, weight = problem(args.clips, args.width, args.columns, args.raw)
    dictionary = Dictionary.of(atoms)
    exact = lasso(f.double(), Dictionary.of(atoms.double()), weight.double(), tolerance=1e-9, iterations=100_000)
    least = objective(f.double(), atoms.double(), exact.codes, weight.double())
    methods: dict[str, Callable[[], Any]] = {
        "avrobust": lambda: lasso(f, dictionary, weight, tolerance=GAP, iterations=20_000).codes,
        "scikit-learn": lambda: by_sklearn(f, atoms, weight, 1e-4),
        "SPAMS": lambda: by_spams(f, atoms, weight),
        "published loop": lambda: by_published(f, atoms, weight),
    }
    kind = "raw atoms, weight 0.1" if args.raw else "unit atoms, weight 0.2 of the largest product"
    print(f"{torch.get_num_threads()} threads, {args.clips} features of {args.width} over {args.columns} atoms, {kind}")
    print(f"non-zero coefficients of the precise solution: {float((exact.codes != 0).sum(1).float().mean()):.1f}\n")
    print(f"{'':<16}{'seconds':>9}{'x ours':>9}{'largest gap':>13}{'mean gap':>10}")
    base, rows = 0.0, []
    for name, work in methods.items():
        try:
            codes, spent = work(), []
        except ImportError as error:
            print(f"{name:<16} not installed ({error.name})")
            rows.append({"method": name, "failed": "not installed"})
            continue
        for _ in range(args.repeats if name != "published loop" else 1):
            began = time.perf_counter()
            codes = work()
            spent.append(time.perf_counter() - began)
        took = sorted(spent)[len(spent) // 2]
        base = base or took
        gap = (objective(f.double(), atoms.double(), codes.double(), weight.double()) - least) / least
        print(
            f"{name:<16}{took:>9.3f}{took / base:>8.1f}x{float(gap.max()):>13.1e}{float(gap.mean()):>10.1e}", flush=True
        )
        found = {"seconds": took, "times": took / base, "gap_max": float(gap.max()), "gap_mean": float(gap.mean())}
        rows.append({"method": name} | found)
    asked = {"clips": args.clips, "width": args.width, "columns": args.columns, "kind": kind}
    write(args.out / f"sparse-{args.columns}{'-raw' * args.raw}.json", "sparse", asked, rows)


if __name__ == "__main__":
    main()
