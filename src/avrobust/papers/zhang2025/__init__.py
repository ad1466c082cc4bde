"""Zhang, Liang, Shimada, Xu, "Rethinking audio-visual adversarial vulnerability from temporal and modality perspectives", ICLR 2025.

arXiv 2502.11858.  No code was published.  The abstract and the authors' answers to reviewers were read; the equations of
the PDF were not: they are known from reviews that quote them.  Where these leave something open, each reading is a setting.
Two attacks, their combination, a curriculum for adversarial training, networks of the paper's kind, claims.
"""

from avrobust.papers.zhang2025.attacks import MMA, TIA, TMA
from avrobust.papers.zhang2025.objectives import TemporalAndModality, misalignment, temporal_variation

__all__ = ["MMA", "TIA", "TMA", "TemporalAndModality", "misalignment", "temporal_variation"]
