"""Models that adapt themselves to corrupted clips, measured on clips whose labels they never see."""

from dataclasses import asdict
from itertools import product
from typing import Any

import torch
from torch import Tensor

from avrobust.attacks.base import attack_info
from avrobust.defenses.adaptation import Adaptation, Adapter
from avrobust.evaluation.distortion import distortion
from avrobust.evaluation.door import as_attacks, as_batches, as_seed, as_threats
from avrobust.evaluation.prepared import condition_columns
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.tasks.classification import prediction_columns
from avrobust.models.network import Network
from avrobust.objectives import display_name
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import InputError, Signals


def adapted(
    net: Network,
    batches: Any,
    corruptions: Any,
    threat: Any,
    adaptation: Adaptation,
    *,
    seed: Any = 0,
    name: str = "model",
) -> Rows:
    """Rows of a network that adapts itself, on clean clips and under each corruption: `name` + the adaptation's name.

    Each corruption is met by a network as it was trained.  An adapter gets the clips of the batches as they come, and
    nothing else: give the batches of a size and an order that the model would meet, shuffled where classes come mixed.
    `correct_clean` is the answer of the network that adapts to clean clips.  The arguments are those of `evaluate`.

    Raises `InputError` for attacks: an attacker would know the adaptation, which a search on the network does not.

    >>> from avrobust import AV, Batch
    >>> from avrobust.attacks import ANYTHING
    >>> from avrobust.corruptions import corruptions
    >>> from avrobust.defenses import Tent
    >>> from avrobust.models import NetSpec
    >>> net = NetSpec(classes=3, width=16).build(seed=0).eval()
    >>> x = AV(torch.full((4, 4096), 0.1), torch.rand(4, 1, 3, 32, 32))
    >>> rows = adapted(net, Batch(x, torch.tensor([0, 1, 2, 0])), corruptions(["rain"], [1]), ANYTHING, Tent())
    >>> sorted(set(rows.column("model"))), len(rows)  # clean; audio, video and both corrupted
    (['model + Tent'], 16)
    """
    asked: Any = as_attacks(corruptions)  # which look at neither model nor labels
    seed, clips = as_seed(seed), as_batches(batches)
    if attacks := [display_name(a) for a in asked if getattr(a, "mode", "") not in ("corruption", "missing")]:
        raise InputError(
            f"expected corruptions, got {', '.join(attacks)}. An attack on a model that adapts has to know how it adapts: "
            "measure corruptions, or evaluate the network without adaptation."
        )
    title = f"{name} + {adaptation.name}"
    adapter, clean, parts = adaptation.begin(net), [], []
    for batch in clips:
        clean.append(_answer(adapter, batch.x))
        columns = condition_columns(title, "none", "corrected", Threat.linf(), seed)
        parts.append(Rows.of(columns | prediction_columns(batch, clean[-1], clean[-1])))
    for corruption, within in product(asked, as_threats(threat)):
        adapter = adaptation.begin(net)
        columns = condition_columns(title, display_name(corruption), corruption.mode, within, seed)
        columns |= asdict(attack_info(corruption))
        for batch, before in zip(clips, clean, strict=True):
            x = corruption(None, batch.x.map(torch.clone), None, within, Seeds(seed, batch.ids))
            told = prediction_columns(batch, before, _answer(adapter, x)) | distortion(within, batch.x, x)
            parts.append(Rows.of(columns | told))
    return Rows.concat(parts)


def _answer(adapter: Adapter, x: Signals) -> Tensor:
    """The logits of a batch that the adapter may write into."""
    return adapter(x.map(torch.clone)).detach().float()
