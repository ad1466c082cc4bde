"""Models that adapt themselves to corrupted clips, measured on clips whose labels they never see."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor

from avrobust.attacks.base import attack_info
from avrobust.defenses.adaptation import Adaptation, Adapter
from avrobust.evaluation.batches import CheckedBatches
from avrobust.evaluation.distortion import distortion
from avrobust.evaluation.door import as_attacks, as_batches, as_seed, as_threats
from avrobust.evaluation.prepared import condition_columns
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.tasks.classification import prediction_columns
from avrobust.models.network import Network
from avrobust.objectives import display_name
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import Attack, Channel, InputError, Signals

CORRUPTIONS = ("corruption", "missing")  # the modes of what looks at neither model nor labels


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
    nothing else: give the batches of a size and an order that the model would meet, shuffled once where classes come mixed.
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
    asked, seed = as_attacks(corruptions), as_seed(seed)
    check_corruptions(asked)
    met = AdaptingEvaluator(net, batches, adaptation, name=f"{name} + {adaptation.name}")
    return Rows.concat(
        [met.clean(seed), *(met.under(c, within, seed) for c, within in product(asked, as_threats(threat)))]
    )


def check_corruptions(attacks: Iterable[Attack | Channel]) -> None:
    """Raises `InputError` for attacks: what a model that adapts is measured under looks at neither model nor labels."""
    if searching := [display_name(a) for a in attacks if getattr(a, "mode", "") not in CORRUPTIONS]:
        raise InputError(
            f"expected corruptions, got {', '.join(searching)}. An attack on a model that adapts has to know how it adapts: "
            "measure corruptions, or evaluate the network without adaptation."
        )


class AdaptingEvaluator:
    """A network that adapts itself to the clips that it meets, in the form of `Evaluator`, for corruptions only.

    Every condition is met by a network as it was trained.
    """

    def __init__(self, net: Network, batches: Any, adaptation: Adaptation, *, name: str = "model") -> None:
        # Never joined: how a network adapts depends on the size of its batches.
        self._batches = CheckedBatches(as_batches(batches), lambda clip: 0)
        self._net, self._adaptation, self._name = net, adaptation, name

    @cached_property
    def _clean(self) -> list[Tensor]:
        """Per batch, the answers of the network that adapts to clean clips."""
        adapter = self._adaptation.begin(self._net)
        return [_answer(adapter, batch.x) for batch in self._batches]

    def clean(self, seed: int = 0) -> Rows:
        """Rows of the clean clips."""
        columns = condition_columns(self._name, "none", "corrected", Threat.linf(), seed)
        both = zip(self._batches, self._clean, strict=True)
        return Rows.concat([Rows.of(columns | prediction_columns(batch, own, own)) for batch, own in both])

    def under(self, attack: Attack, threat: Threat, seed: int = 0, *, sent: Sequence[Channel] = ()) -> Rows:
        """Rows of the clips under one corruption; channels are not measured."""
        check_corruptions([attack, *sent])
        asked: Any = attack  # needs neither a model nor labels
        columns = condition_columns(self._name, display_name(asked), asked.mode, threat, seed) | asdict(
            attack_info(asked)
        )
        adapter, parts = self._adaptation.begin(self._net), []
        for batch, before in zip(self._batches, self._clean, strict=True):
            x = asked(None, batch.x.map(torch.clone), None, threat, Seeds(seed, batch.ids))
            told = prediction_columns(batch, before, _answer(adapter, x)) | distortion(threat, batch.x, x)
            parts.append(Rows.of(columns | told))
        return Rows.concat(parts)


def _answer(adapter: Adapter, x: Signals) -> Tensor:
    """The logits of a batch that the adapter may write into."""
    return adapter(x.map(torch.clone)).detach().float()
