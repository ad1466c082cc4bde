"""Whether adversarial clips stay inside their budget and the signals' range, whichever attack made them."""

import torch

from avrobust.threat import Ball, Threat
from avrobust.types import Signals


class BudgetError(ValueError):
    """An adversarial clip lies outside what its threat allows."""


def check(threat: Threat, x: Signals, adversarial: Signals, ids: tuple[str, ...], attack: str) -> None:
    """Refuse adversarial clips that leave the budget, the range, or the number line.

    Raises `BudgetError` that names the first offending clip and the number of them.
    """
    for name in ("audio", "visual"):
        ball: Ball = getattr(threat, name)
        clean, adv = getattr(x, name), getattr(adversarial, name)
        if adv.shape != clean.shape:
            raise BudgetError(
                f"{attack} returned {name} of shape {tuple(adv.shape)}, expected {tuple(clean.shape)}. Return signals shaped as the clean ones."
            )
        if not adv.isfinite().all():
            i = int((~adv.isfinite()).flatten(1).any(1).nonzero()[0])
            raise BudgetError(
                f"{attack} returned {name} that is not finite, first on clip '{ids[i]}'. Look for a division by a zero "
                "gradient in it, and for sqrt, log, norm or a division at 0 in the model, whose gradient is not finite there."
            )
        if adv.dtype != clean.dtype:
            raise BudgetError(
                f"{attack} returned {name} in {adv.dtype}, expected {clean.dtype}. Craft in any precision, return the clean signal's."
            )
        if not ball.active:
            if not torch.equal(adv, clean):
                raise BudgetError(f"{attack} changed {name}, whose budget is 0. Return x.{name} itself.")
            continue
        # In double precision, so that the check itself adds no rounding.
        size = ball.distance(adv, clean)
        allowed = ball.allowed(clean)
        if (over := size > allowed).any():
            i = int(over.argmax())
            raise BudgetError(
                f"{attack} left its {name} budget on clip '{ids[i]}': {ball.norm} = {size[i]:.4g}, allowed {ball.eps:.4g} "
                f"({int(over.sum())} of {len(ids)} clips). Project after every step: delta = threat.map(Ball.project, delta, x)."
            )
        if (out := (adv < ball.low) | (adv > ball.high)).any():
            i = int(out.flatten(1).any(1).nonzero()[0])
            raise BudgetError(
                f"{attack} left the range [{ball.low:g}, {ball.high:g}] of {name} on clip '{ids[i]}': "
                f"[{float(adv[i].min()):.4g}, {float(adv[i].max()):.4g}]. Clamp x + delta, as Ball.project does."
            )
