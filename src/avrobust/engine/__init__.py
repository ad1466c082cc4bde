"""What attacks cost: gradients with respect to signals, as cheap as the model at hand allows.  Knows no attack by name.

Six savings, all of them exact or checked but for low precision:
- weights are frozen: no gradient is computed for them (`surrogate`);
- BatchNorm is folded into the convolution before it, equal to rounding, verified on an example (`folding`);
- a stream that the threat leaves alone is computed once, however many steps follow (`cache`);
- the gradient at the clean clips is computed once per stream, whatever attacks, budgets and subsets begin there (`cache`);
- gradients are computed in bfloat16 where that is asked for (`surrogate`);
- a search may hold many clips, and the network takes as many of them as it has room for (`chunks`).
"""

from avrobust.engine.cache import cache_clean_gradients, cache_embeddings, fix_at, fix_unattacked, mix_modalities
from avrobust.engine.chunks import ChunkSize, cat, joined
from avrobust.engine.gradients import checked, gradient, per_clip, raw_gradient, shift, value_and_grad
from avrobust.engine.outcome import ValueAndGrad, check_value, outcome, record_logits
from avrobust.engine.refusals import GradientError
from avrobust.engine.surrogate import Precision, surrogate
from avrobust.engine.victim import TwoStream, as_victim, subset

__all__ = [
    "ChunkSize",
    "GradientError",
    "Precision",
    "TwoStream",
    "ValueAndGrad",
    "as_victim",
    "cache_clean_gradients",
    "cache_embeddings",
    "cat",
    "check_value",
    "checked",
    "fix_at",
    "fix_unattacked",
    "gradient",
    "joined",
    "mix_modalities",
    "outcome",
    "per_clip",
    "raw_gradient",
    "record_logits",
    "shift",
    "subset",
    "surrogate",
    "value_and_grad",
]
