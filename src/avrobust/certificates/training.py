"""Training for certificates: a loss on randomised copies, without which a smoothed model is hardly ever sure."""

from dataclasses import dataclass, replace

from torch import Tensor

from avrobust.certificates.base import Certificate, draws_of
from avrobust.engine.chunks import joined
from avrobust.models.network import Loss, Network, loss_at_progress
from avrobust.objectives import display_name
from avrobust.seeds import Seeds
from avrobust.types import Batch


@dataclass(frozen=True)
class Randomised:
    """`loss` on one copy of each clip, randomised as `certificate` does it; training keeps the weights that are best on such copies.

    Cohen et al. 2019 train on noise of the standard deviation that they certify with.

    >>> from avrobust.certificates import Gaussian
    >>> from avrobust.training.recipe import cross_entropy
    >>> Randomised(cross_entropy, Gaussian(audio=0.02)).name
    'randomised, Gaussian, audio 0.02'
    """

    loss: Loss
    certificate: Certificate

    @property
    def name(self) -> str:
        """Display name."""
        inner = display_name(self.loss)
        return f"randomised{'' if inner == 'cross_entropy' else f' {inner}'}, {self.certificate.name}"

    def __call__(self, net: Network, batch: Batch, seeds: Seeds) -> Tensor:
        """The loss of the batch, one number."""
        return self.loss(net, self.training_batch(net, batch, seeds), seeds)

    def at_progress(self, progress: float) -> Loss:
        """The loss when this share of training is done."""
        return replace(self, loss=loss_at_progress(self.loss, progress))

    def training_batch(self, net: Network, batch: Batch, seeds: Seeds) -> Batch:
        """The batch, each clip randomised once."""
        copies = [
            self.certificate.copies(batch.x.map(lambda s, i=i: s[i : i + 1]), 1, draws_of(seeds, i, "training"))
            for i in range(len(batch))
        ]
        return Batch(joined(copies), batch.label, batch.ids)
