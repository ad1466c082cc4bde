"""Models certified on clips, beside attacks on the same smoothed models."""

from collections.abc import Iterable
from typing import Any

from avrobust.attacks import ANYTHING
from avrobust.certificates import Certificate, Smoothed
from avrobust.evaluation.checks import described
from avrobust.evaluation.door import as_attacks
from avrobust.evaluation.evaluator import evaluate
from avrobust.evaluation.schema import Rows
from avrobust.types import InputError


def certify(
    model: Any,
    batches: Any,
    certificates: Any,
    attacks: Any = (),
    threat: Any = ANYTHING,
    *,
    seed: Any = 0,
    name: str = "model",
) -> Rows:
    """Certified accuracy of the models that `certificates` make of `model`, and what `attacks` on these leave correct.

    The first bounds the robust accuracy of a smoothed model from below, the second from above; `rows.flags()` has an alarm
    where they cross.  `attacks` search within `threat`, as in `evaluate`; usually `Threat.l2(...)`, on its subsets.

    It costs `select + draws` passes of each clip per certificate, 1,100 by default, and per attack and subset as many as
    it has steps times `Smoothed.copies`, forth and back.  Raises `InputError` as `evaluate` does.

    >>> import torch
    >>> from avrobust import AV, PGD, Batch, Threat, certify
    >>> from avrobust.certificates import Gaussian
    >>> model = lambda x: torch.stack([x.audio.sum(1), x.visual.sum((1, 2, 3, 4)) - 6], 1)
    >>> x = AV(audio=torch.full((8, 8), 0.05), visual=torch.full((8, 1, 3, 2, 2), 0.5))
    >>> rows = certify(model, Batch(x, torch.zeros(8).long()), Gaussian(audio=0.05, visual=0.05), PGD(), Threat.l2(0.1, 0.1))
    >>> print(rows.table().splitlines()[5])
    model  Gaussian, audio 0.05, visual 0.05  audio l2 0.1                 2         0.0 % of 8 [0.0, 32.4]      100.0 % of 8 [67.6, 100.0]  —
    """
    made = as_certificates(certificates)
    on = [Smoothed(attack, certificate) for certificate in made for attack in (as_attacks(attacks) if attacks else ())]
    return evaluate(model, batches, [*made, *on], threat, seed=seed, name=name)


def as_certificates(given: Any) -> list[Certificate]:
    """A list of certificates, of one or of several.  Raises `InputError` for anything else."""
    every = list(given) if isinstance(given, Iterable) else [given]
    if not every or not all(isinstance(one, Certificate) for one in every):
        raise InputError(
            f"expected a certificate or several, got {described(given)}. Give avr.certificates.Gaussian(audio=0.02, visual=0.25)."
        )
    return every
