"""What was done, as facts: typed values that rows carry, so that nothing is read back out of names.  Needs no torch."""

from dataclasses import dataclass

ALONG_THE_GRADIENT = ("FGSM", "PGD", "MIM", "APGD")


@dataclass(frozen=True)
class AttackInfo:
    """The facts of an attack; of one that somebody else wrote nothing is known, and nothing expected.

    `family`: "FGSM", "PGD", "MIM", "APGD", "Square", "AVAutoAttack", or "" for somebody else's.  `objective`: what it
    raises, for display; `on_answer`: whether that is about which class the model answers.  `source`: the model that its
    clips were made for, "" for the model at hand.  `variant`: "quantized" for clips that a file can hold, "alternating" where modalities move in turn.
    """

    family: str = ""
    steps: int = 0
    restarts: int = 1
    objective: str = ""
    on_answer: bool = False
    source: str = ""
    variant: str = ""

    @property
    def single_step(self) -> bool:
        """Whether it takes one step along the gradient."""
        return self.family in ALONG_THE_GRADIENT and self.steps == 1

    @property
    def climbs(self) -> bool:
        """Whether it is one search along the gradient of the model at hand, after another answer."""
        return self.family in ALONG_THE_GRADIENT and self.on_answer and not self.source

    @property
    def strongest(self) -> bool:
        """Whether it is the worst case over all searches on the model at hand."""
        return self.family == "AVAutoAttack" and not self.source and not self.variant

    @property
    def plain(self) -> bool:
        """Whether it is its family's own search: the usual objective, on the model at hand, no variant."""
        usual = "margin" if self.family == "Square" else "cross_entropy"
        return bool(self.family) and not (self.source or self.variant) and self.objective in ("", usual)
