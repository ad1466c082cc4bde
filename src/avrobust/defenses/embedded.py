"""What a network makes of its training clips: the features that memories, detectors and gates are fitted on."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from avrobust.models.network import Network
from avrobust.types import AV, Batch


@dataclass(frozen=True, eq=False)
class Embedded:
    """The features of n clips, (n d) of each modality in float32, their labels and their names."""

    features: AV[Tensor]
    labels: Int[Tensor, " n"]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


@torch.no_grad()
def embedded(net: Network, clips: Iterable[Batch]) -> Embedded:
    """The features that `net`, in evaluation mode and without a feature defense, has for these clips, read once.

    Raises `ValueError` for a network in training mode, for no clips, and for features that are not one vector per clip and
    modality, or not finite: those of one clip would spoil what is fitted on all.
    """
    if net.training:
        raise ValueError(
            "expected a network in evaluation mode, got one in training mode, whose features depend on their batch. "
            "Call net.eval() first."
        )
    features: list[AV[Tensor]] = []
    labels: list[Tensor] = []
    ids: list[str] = []
    for batch in clips:
        f = net.embed(batch.x)
        if wrong := [tuple(s.shape[1:]) for s in f if s.ndim != 2 or not s.shape[1]]:
            raise ValueError(
                f"expected one vector of features per clip and modality, got features of {wrong[0]}. "
                "Use a network of both modalities, and another fusion than spatial attention."
            )
        features.append(f)
        labels.append(batch.label)
        ids += batch.ids
    if not features:
        raise ValueError("expected training clips to fit a defense to, got none. Check the split 'train'.")
    both = AV(torch.cat([f.audio.float() for f in features]), torch.cat([f.visual.float() for f in features]))
    finite = both.audio.isfinite().all(1) & both.visual.isfinite().all(1)
    if broken := [id for id, fine in zip(ids, finite.tolist(), strict=True) if not fine]:
        raise ValueError(
            f"expected finite features of training clips, got others of {len(broken)} of {len(ids)} clips: "
            f"{', '.join(broken[:3])}. Look at these clips, and at what the network makes of them."
        )
    return Embedded(both, torch.cat(labels), tuple(ids))
