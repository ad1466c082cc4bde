"""MinSim and MaxSim: training losses with the cosine similarity of audio and visual features."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from avrobust.models.network import Network
from avrobust.objectives import cosine
from avrobust.seeds import Seeds
from avrobust.types import Batch


@dataclass(frozen=True)
class Similarity:
    """Cross entropy plus `weight` times the mean cosine of both features (Tian & Xu 2021, eq. 2 and 3).

    `MIN_SIM` (weight 1) minimises the similarity, as the paper proposes; `MAX_SIM` (weight -1) maximises it: the paper's
    1 - cosine, whose 1 has no gradient.  The features are those behind the feature defense, as published.
    """

    weight: float

    @property
    def name(self) -> str:
        """How a table calls it."""
        size = "" if abs(self.weight) == 1 else f" × {abs(self.weight):g}"
        return ("MinSim" if self.weight > 0 else "MaxSim") + size

    def __call__(self, net: Network, batch: Batch, seeds: Seeds) -> Tensor:
        """The loss of the batch, one number."""
        f = net.represent(batch.x)
        return F.cross_entropy(net.decide(f), batch.label) + self.weight * cosine(f.map(Tensor.float)).mean()


MIN_SIM = Similarity(1.0)
MAX_SIM = Similarity(-1.0)
