"""What attacks cost: gradients with respect to signals, as cheap as the model at hand allows.  Knows no attack by name.

Eight savings, all of them exact or verified but for low precision:
- weights are frozen: no gradient is computed for them (`surrogate`);
- BatchNorm is folded into the convolution before it, equal to rounding, verified on an example (`folding`);
- on a CPU, weights of convolutions are laid out once as its library computes with them, not in every step (`packed`), and the
  gradient of signals is computed as a convolution forwards, equal to rounding, verified on an example (`firstlayer`);
- a stream that the threat leaves alone is computed once, however many steps follow (`twostream`);
- the gradient at the clean clips is computed once per stream, whatever attacks, budgets and subsets begin there (`cache`);
- gradients are computed in bfloat16 where that is asked for (`surrogate`);
- a search may hold many clips, and the network takes as many of them as fit into memory (`chunks`).
"""

from avrobust.engine.around import Around, Behind, FewAtOnce, Watched
from avrobust.engine.blackbox import BlackBox
from avrobust.engine.chunks import ChunkSize
from avrobust.engine.deferred import Deferred
from avrobust.engine.gradients import gradient, raw_gradient
from avrobust.engine.output import as_output
from avrobust.engine.recognise import as_judge, as_victim
from avrobust.engine.refusals import GradientError
from avrobust.engine.surrogate import Precision, surrogate
from avrobust.engine.twostream import TwoStream
from avrobust.engine.victim import ValueAndGrad, Victim, Way, check_sound, per_clip, shift, sound

__all__ = [
    "Around",
    "Behind",
    "BlackBox",
    "ChunkSize",
    "Deferred",
    "FewAtOnce",
    "GradientError",
    "Precision",
    "TwoStream",
    "ValueAndGrad",
    "Victim",
    "Watched",
    "Way",
    "as_judge",
    "as_output",
    "as_victim",
    "check_sound",
    "gradient",
    "per_clip",
    "raw_gradient",
    "shift",
    "sound",
    "surrogate",
]
