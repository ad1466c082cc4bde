"""Reasons to doubt the numbers of an evaluation, found in its rows and in probes of its models.

Each flag has its section in docs/flags.md.  A flag rises on evidence, not on noise: comparisons are paired on the same
clips, and where a rule compares many pairs its p values are corrected for their number (Holm).
"""

from collections.abc import Callable, Iterable

from avrobust.evaluation.flags.attacks import (
    OVER_BUDGET,
    adaptive_beats_plain,
    attack_did_not_move,
    gradient_free_beats_gradients,
    joint_weaker_than_part,
    left_its_budget,
    not_monotone,
    single_step_beats_iterative,
    stays_above_chance,
    steps_ran_out,
    transfer_beats_white_box,
)
from avrobust.evaluation.flags.certificates import certificate_broken, certificate_overclaims
from avrobust.evaluation.flags.evidence import LEVELS, SIGNIFICANT, Evidence, Flag, Level
from avrobust.evaluation.flags.measurement import (
    clean_near_chance,
    clips_unreadable,
    few_clips,
    localises_no_better_than_the_centre,
    not_finite,
    one_seed,
    only_single_step,
    unfinished,
)
from avrobust.evaluation.flags.models import (
    attacked_otherwise,
    crafted_in_low_precision,
    depends_on_batch,
    gradient_misleads,
    gradient_vanishes,
    ignored_modality,
    probed_alone,
    random_outputs,
    suspicion_hides,
)

__all__ = ["LEVELS", "OVER_BUDGET", "RULES", "SIGNIFICANT", "Evidence", "Flag", "Level", "flags"]

RULES: tuple[Callable[[Evidence], Iterable[Flag]], ...] = (
    unfinished,
    few_clips,
    clips_unreadable,
    clean_near_chance,
    one_seed,
    only_single_step,
    single_step_beats_iterative,
    not_monotone,
    stays_above_chance,
    left_its_budget,
    not_finite,
    joint_weaker_than_part,
    attack_did_not_move,
    gradient_free_beats_gradients,
    transfer_beats_white_box,
    steps_ran_out,
    adaptive_beats_plain,
    ignored_modality,
    probed_alone,
    random_outputs,
    depends_on_batch,
    gradient_vanishes,
    suspicion_hides,
    gradient_misleads,
    crafted_in_low_precision,
    attacked_otherwise,
    localises_no_better_than_the_centre,
    certificate_broken,
    certificate_overclaims,
)


def flags(seen: Evidence) -> tuple[Flag, ...]:
    """All flags, gravest first."""
    found = [flag for rule in RULES for flag in rule(seen)]
    return tuple(sorted(found, key=lambda flag: LEVELS.index(flag.level)))
