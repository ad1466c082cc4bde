"""ExFMem, the external feature memory: features are replaced by sparse combinations of training clips' features.

`ExFMem()` solves the Lasso over columns of length 1, to a duality gap, with a weight relative to each feature.  The
published code does something else, and `papers.tian2021.defenses.published_memory` does the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from avrobust.config import check_choices
from avrobust.defenses.embedded import embedded
from avrobust.defenses.sparse import Dictionary, Lasso, Solution, Solver
from avrobust.models.network import Network
from avrobust.seeds import stable_hash
from avrobust.types import AV, Batch

LASSO = Lasso()


@dataclass(frozen=True)
class ExFMem:
    """Settings of a memory: how it is filled and read.

    The features of `columns` training clips are kept, the same number of each class (`choose` "class") or any
    ("random"), drawn by clip name and seed.  `unit`: columns of length 1.  `weight` is the weight of the Lasso's L1 term
    (half the paper's lambda), or, if `relative`, a share of the smallest weight at which a feature's code is all zeros.
    `blend` is the share of the reconstruction in the output; the paper's text has 1, its code 0.5.  `solver` computes the
    codes.
    """

    columns: int = 330
    choose: Literal["class", "random"] = "class"
    unit: bool = True
    weight: float = 0.2
    relative: bool = True
    blend: float = 0.5
    solver: Solver = LASSO

    def __post_init__(self) -> None:
        check_choices(self)
        if self.columns < 1:
            raise ValueError(f"expected at least one column, got {self.columns}. Ask for more.")
        if not 0 <= self.blend <= 1:
            raise ValueError(
                f"expected a blend in [0, 1], got {self.blend}. It is the reconstruction's share of the result."
            )
        if self.weight <= 0 or (self.relative and self.weight >= 1):
            raise ValueError(
                f"expected a weight above 0{', and below 1 as it is relative' if self.relative else ''}, got {self.weight}. "
                "A larger weight gives a sparser code."
            )

    @torch.inference_mode(False)
    def fill(self, net: Network, clips: Iterable[Batch], seed: int) -> "Memory":
        """A memory of the features that `net` (in evaluation mode, without a feature defense) has for training clips.

        The audio and visual features of a column come from the same clip.  A class with too few clips is kept whole, and
        the memory is smaller.
        """
        known = embedded(net, clips)
        kept = self._chosen(known.labels.tolist(), known.ids, seed)
        banks = known.features.map(lambda f: f[kept].T.contiguous())
        if self.unit:
            banks = banks.map(lambda bank: bank / bank.norm(dim=0).clamp_min(1e-12))
        return Memory(self, banks)

    def _chosen(self, labels: Sequence[int], ids: Sequence[str], seed: int) -> list[int]:
        drawn = sorted(range(len(ids)), key=lambda i: stable_hash(seed, "memory", ids[i]))
        if self.choose == "random":
            return sorted(drawn[: self.columns])
        share = -(-self.columns // len(set(labels)))
        turns: list[int] = []  # how many of its class come before it
        taken: dict[int, int] = {}
        for i in drawn:
            turns.append(taken.get(labels[i], 0))
            taken[labels[i]] = turns[-1] + 1
        # The first of each class, then the second of each, and so on: what does not divide evenly is one apart.
        turn_by_turn = sorted(zip(turns, range(len(drawn)), strict=True))[: self.columns]
        return sorted(drawn[place] for turn, place in turn_by_turn if turn < share)


class Memory(nn.Module):
    """A filled memory, the feature defense of a network: features in, (b d) each, denoised features out.

    `net.feature_defense = ExFMem().fill(net, batches, seed)`, with or without further training.  The banks (d m) do not
    change; an encoder that is trained further moves away from them, as in the published code.
    """

    audio: Tensor
    visual: Tensor

    def __init__(self, settings: ExFMem, banks: AV[Tensor]) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("audio", banks.audio)
        self.register_buffer("visual", banks.visual)

    @property
    def banks(self) -> AV[Tensor]:
        """The columns of each modality (d m)."""
        return AV(self.audio, self.visual)

    def forward(self, f: AV[Tensor]) -> AV[Tensor]:
        """Each feature, with the share `blend` replaced by its reconstruction."""
        share, banks = self.settings.blend, self.banks
        with torch.autocast(f.audio.device.type, enabled=False):  # a code in bfloat16 would solve nothing
            codes = self.codes(f.map(lambda s, bank: s.to(bank.dtype), banks))
            f = f.map(lambda s: s.to(torch.promote_types(s.dtype, torch.float32)))
            return codes.map(
                lambda code, bank, s: (share * code.codes @ bank.T).to(s.dtype) + (1 - share) * s, banks, f
            )

    def codes(self, f: AV[Tensor]) -> AV[Solution]:
        """The sparse codes of both features, with iterations and gaps."""
        return AV(audio=self._code("audio", f.audio), visual=self._code("visual", f.visual))

    def _code(self, name: str, f: Tensor) -> Solution:
        s, dictionary = self.settings, self._dictionary(name)
        if f.ndim != 2 or f.shape[1] != dictionary.atoms.shape[0]:
            raise ValueError(
                f"expected {name} features of {dictionary.atoms.shape[0]} numbers per clip, got {tuple(f.shape[1:])}. "
                "Fill the memory from this very network."
            )
        most = (f @ dictionary.atoms).abs().amax(1)
        weight = s.weight * most if s.relative else torch.full_like(most, s.weight)
        return s.solver(f, dictionary, weight, name)

    def _dictionary(self, name: str) -> Dictionary:
        """Products and eigenvalue of a bank, computed again only when its numbers or its device changed."""
        bank: Tensor = getattr(self, name)
        writes = None if bank.is_inference() else bank._version  # nobody counts them there
        state = (bank.data_ptr(), writes, bank.device)
        known = _DICTIONARIES.setdefault(self, {})
        if name not in known or known[name][0] != state:
            known[name] = (state, Dictionary.of(bank))
        return known[name][1]


# Beside the modules and not in them: what follows from a bank is neither copied nor saved with it.
_DICTIONARIES: "WeakKeyDictionary[Memory, dict[str, tuple[tuple[Any, ...], Dictionary]]]" = WeakKeyDictionary()


@torch.no_grad()
def diagnosis(net: Network, clips: Iterable[Batch]) -> dict[str, dict[str, float]]:
    """How sparse the codes of these clips are, their residuals and costs; means over clips, by modality.

    `nonzero`: coefficients that are not 0; `residual`: |f - D h| / |f|; `iterations`; `gap` (nan where not computed).
    """
    if not isinstance(net.feature_defense, Memory):
        raise ValueError("expected a network with a memory, got one without. Set net.feature_defense first.")
    found: dict[str, list[list[float]]] = {"audio": [], "visual": []}
    for batch in clips:
        f = net.embed(batch.x)
        for (name, code), (_, feature) in zip(net.feature_defense.codes(f).items(), f.items(), strict=True):
            bank = getattr(net.feature_defense, name)
            left = (feature - code.codes @ bank.T).norm(dim=1) / feature.norm(dim=1).clamp_min(1e-12)
            columns = ((code.codes != 0).sum(1).float(), left, code.iterations.float(), code.gap)
            found[name] += torch.stack(columns, 1).tolist()
    names = ("nonzero", "residual", "iterations", "gap")
    return {m: dict(zip(names, torch.tensor(rows).mean(0).tolist(), strict=True)) for m, rows in found.items() if rows}
