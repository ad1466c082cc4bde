"""What attacks cost: gradients with respect to signals, as cheap as the model at hand allows.  Knows no attack by name.

Six savings, all of them exact or checked but for low precision:
- weights are frozen: no gradient is computed for them (`surrogate`);
- BatchNorm is folded into the convolution before it, equal to rounding, verified on an example (`folding`);
- a stream that the threat leaves alone is computed once, however many steps follow (`cache`);
- the gradient at the clean clips is computed once per stream, whatever attacks, budgets and subsets begin there (`cache`);
- gradients are computed in bfloat16 where that is asked for (`surrogate`);
- a search may hold many clips, and the network takes as many of them as it has room for (`chunks`).
"""

from avrobust.engine.cache import beginning, crossed, embedded, pinned, there
from avrobust.engine.chunks import Room, cat, joined
from avrobust.engine.gradients import checked, gradient, look, shift, slope
from avrobust.engine.outcome import Looked, check_value, listening, outcome
from avrobust.engine.refusals import GradientError
from avrobust.engine.surrogate import Precision, crafting
from avrobust.engine.victim import Streams, exact, some

__all__ = [
    "GradientError",
    "Looked",
    "Precision",
    "Room",
    "Streams",
    "beginning",
    "cat",
    "check_value",
    "checked",
    "crafting",
    "crossed",
    "embedded",
    "exact",
    "gradient",
    "joined",
    "listening",
    "look",
    "outcome",
    "pinned",
    "shift",
    "slope",
    "some",
    "there",
]
