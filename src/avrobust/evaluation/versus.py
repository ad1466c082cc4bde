"""Two or more models on the same clips: by attack and budget, their accuracies and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from avrobust.evaluation.comparison import Paired, holm, p_value
from avrobust.evaluation.comparison import paired as difference
from avrobust.evaluation.conditions import Condition, Predictions, by_mode, shared, survivors, tabulate
from avrobust.evaluation.flags import OVER_BUDGET, Flag
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.stats import Estimate, among, columns, estimate
from avrobust.facts import Budget

WORST = "worst case"
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Contest:
    """All models under one attack within one budget, on the clips that all have; numbers in the order of the models.

    `success`: of the clips that a model classifies correctly when clean, the share that the attack turns wrong.  `gaps`
    are the accuracies of the second model and of those after it minus the first's: their intervals hold at 95 % for all
    of a comparison at once (Bonferroni), their p values are those of exact McNemar tests, corrected for their number
    (Holm).  There are none where the models have no clip in common.  `inside`: the attack kept its budget on every clip.
    """

    attack: str
    subset: str
    budget: Budget
    accuracy: tuple[Estimate, ...]
    success: tuple[Estimate, ...]
    gaps: tuple[Paired, ...]
    inside: bool = True

    @property
    def better(self) -> tuple[int, ...]:
        """By gap: 1 where that model is more accurate than the first, -1 where it is less, 0 where chance may explain it."""
        return tuple(0 if not gap.p < SIGNIFICANT else 1 if gap.difference > 0 else -1 for gap in self.gaps)


@dataclass(frozen=True)
class Versus:
    """Models on the same clips: `contests` by condition, clean first, attacks after that, the worst case last.

    `clips` counts those that all have, 0 where each is on clips of its own; `only` those of each that others lack.
    `apart` names the conditions that not all have.
    """

    names: tuple[str, ...]
    contests: tuple[Contest, ...]
    clips: int
    only: tuple[int, ...]
    apart: tuple[tuple[str, ...], ...]
    flags: tuple[tuple[Flag, ...], ...]

    @property
    def doubts(self) -> list[str]:
        """What limits the comparison, as sentences."""
        found = []
        if not self.clips:
            found.append(
                "The models have no clip in common: each accuracy is over other clips, and no difference is tested."
            )
        elif any(self.only):
            lacking = " and ".join(f"{n} of {name}" for n, name in zip(self.only, self.names, strict=True) if n)
            found.append(f"Compared on the {self.clips} clips that all have; {lacking} are left out.")
        for name, missing in zip(self.names, self.apart, strict=True):
            if missing:
                more = f" and {len(missing) - 3} more conditions" if len(missing) > 4 else ""
                found.append(
                    f"Not all have rows of {'; '.join(missing[:3] if more else missing)}{more}, as {name} has."
                )
        return found

    @property
    def answer(self) -> str:
        """Each model against the first in one sentence, by the worst case over attacks, or by the only attack that kept its budget.

        None where an alarm makes the numbers unreliable.
        """
        if void := dict.fromkeys(f.name for flags in self.flags for f in flags if f.level == "alarm"):
            return f"No answer: these alarms make the numbers unreliable ({', '.join(void)})."
        # The last of each: the worst case within the largest budget.
        final = {c.subset: c for c in self.contests if c.subset != "clean" and c.inside}
        if not final:
            return "No attack that kept its budget ran on all models."
        if not self.clips:
            return "The models were attacked on different clips."
        return " ".join(self._against(i, other, final) for i, other in enumerate(self.names[1:]))

    def _against(self, place: int, other: str, final: Mapping[str, Contest]) -> str:
        words = {"A": "audio", "V": "video", "AV": "both modalities"}
        parts = {sign: [words[s] for s, c in final.items() if c.better[place] == sign] for sign in (1, -1, 0)}
        first = self.names[0]
        verbs = {
            1: f"{other} is more robust than {first}",
            -1: f"{first} is more robust than {other}",
            0: f"No clear difference between {first} and {other}",
        }
        return " ".join(f"{verbs[sign]} with {' or '.join(found)} attacked." for sign, found in parts.items() if found)

    def table(self) -> str:
        """The conditions as text, one a line; then what raises doubt."""
        others = self.names[1:] if self.clips else ()
        lines = [
            ("attack", "budget", *self.names, *(head for name in others for head in (f"{name} − {self.names[0]}", "p")))
        ]
        for c in self.contests:
            gaps = (
                (f"{100 * g.difference:+.1f} [{100 * g.low:+.1f}, {100 * g.high:+.1f}]", p_value(g.p)) for g in c.gaps
            )
            lines.append((c.attack, c.budget.attacked, *map(str, c.accuracy), *(text for gap in gaps for text in gap)))
        raised = [
            f"{flag.level} ({name}): {flag.text}"
            for name, flags in zip(self.names, self.flags, strict=True)
            for flag in flags
            if flag.level != "note"
        ]
        return "\n".join([*columns(lines), "", self.answer, *self.doubts, *raised])


def compare(*every: Rows, names: Sequence[str] = ()) -> Versus:
    """Compare two or more models, each of the only model in its rows, with the first: paired clip by clip.

    Conditions are compared where the attack, its settings and both budgets are the same, on the clips that all have;
    where they have none in common, accuracies stand beside each other without a test.  `names` are for display.
    Raises `ValueError` for rows of several models, for clips with two labels, and where no condition is in all.

    >>> rows = {
    ...     model: Rows.of(
    ...         {"model": model, "seed": 0, "attack": "none", "mode": "corrected", "subset": "clean", "eps_audio": 0.0, "eps_visual": 0.0,
    ...          "norm_audio": "linf", "norm_visual": "linf", "unit_audio": "linear", "unit_visual": "linear", "label": 0, "status": "ok",
    ...          "clip": [str(i) for i in range(100)], "correct": [i < right for i in range(100)], "correct_clean": True}
    ...     )
    ...     for model, right in (("early", 75), ("late", 90))
    ... }
    >>> versus = compare(rows["early"], rows["late"])
    >>> print(versus.contests[0].gaps[0], versus.contests[0].better)
    +15.0 points [+7.3, +22.1], p < 0.001, n = 100 (1,)
    """
    if len(every) < 2:
        raise ValueError(f"expected two models or more, got {len(every)}. Give the rows of another one.")
    given = [set(rows.data["model"].to_pylist()) for rows in every]
    for models in given:
        if len(models) != 1:
            raise ValueError(
                f"expected rows of one model on each side, got {', '.join(sorted(models)) or 'none'}. Choose one: "
                "rows.where(model='...'), or on the command line --models."
            )
    for rows in every:
        if rows.about.get("measures"):
            raise ValueError(
                "expected models that give one class per clip, got rows of another task. Compare what rows.table() prints."
            )
    tables = [{_key(c): p for c, p in by_mode(tabulate(rows.data))[0].items()} for rows in every]
    _check_labels(*(t.values() for t in tables))
    keys = [key for key in tables[0] if all(key in t and t[key].info == tables[0][key].info for t in tables)]
    if not keys:
        raise ValueError(
            "expected at least one condition that all models have, got none in common. Evaluate them with the same attacks "
            "and budgets."
        )
    clips = [{clip for p in t.values() for clip in p.clips} for t in tables]
    common = set.intersection(*clips)
    side = {key: [t[key] for t in tables] for key in keys}
    if common:
        side = {key: _matched(found) for key, found in side.items()}
        side = {key: found for key, found in side.items() if found[0].clips}
    contests = [_contest(key, found, paired=bool(common)) for key, found in (side | _worst(side)).items()]
    order = {"clean": 0, "A": 1, "V": 2, "AV": 3}
    return Versus(
        _names(names or [next(iter(models)) for models in given]),
        tuple(sorted(_adjusted(contests), key=lambda c: (order[c.subset], c.budget, c.attack == WORST))),
        len(common),
        tuple(len(own - common) for own in clips),
        tuple(tuple(_title(key) for key in t if key not in side) for t in tables),
        tuple(
            tuple(f for f in rows.flags() if f.model in {"", *models})
            for rows, models in zip(every, given, strict=True)
        ),
    )


def _adjusted(contests: Sequence[Contest]) -> list[Contest]:
    """Intervals and p values made fair to their number: all of them are one family of questions."""
    gaps = [gap for c in contests for gap in c.gaps]
    fair = iter([replace(g.as_one_of(len(gaps)), p=p) for g, p in zip(gaps, holm([g.p for g in gaps]), strict=True)])
    return [replace(c, gaps=tuple(next(fair) for _ in c.gaps)) for c in contests]


class Key(NamedTuple):
    """A condition, whichever model it is of."""

    attack: str
    subset: str
    budget: Budget


def _key(c: Condition) -> Key:
    return Key(c.attack, c.subset, c.budget)


def _title(key: Key) -> str:
    return f"{key.attack} within {key.budget.attacked}" if key.subset != "clean" else "clean clips"


def _names(models: Sequence[str]) -> tuple[str, ...]:
    """What to call them: by their place too, where two are called the same."""
    return tuple(m if models.count(m) == 1 else f"{m} ({i})" for i, m in enumerate(models, start=1))


def _check_labels(*sides: Any) -> None:
    found: dict[str, int] = {}
    for p in (p for side in sides for p in side):
        for clip, label in zip(p.clips, p["label"][0].astype(float), strict=True):
            if label != label:  # of another task than one class per clip
                continue
            if found.setdefault(clip, int(label)) != int(label):
                raise ValueError(
                    f"expected one label for the clip '{clip}', got {found[clip]} and {int(label)}. Evaluate both models on the "
                    "same clips, with the same classes in the same order."
                )


def _matched(found: Sequence[Predictions]) -> list[Predictions]:
    """All on the same clips and seeds; where they have no seed in common, of as many seeds each, whichever these are."""
    if not set.intersection(*(set(p.seeds) for p in found)):
        if len({len(p.seeds) for p in found}) > 1:
            raise ValueError(
                f"expected a seed that all models have, or as many seeds of each, got {' and '.join(str(p.seeds) for p in found)}. "
                "Evaluate them with the same seeds."
            )
        found = [replace(p, seeds=found[0].seeds) for p in found]
    return [*shared(*found)]


def _worst(side: Mapping[Key, Sequence[Predictions]]) -> dict[Key, list[Predictions]]:
    """By subset and budget, the worst case over the attacks that kept their budget, where there are several."""
    worst: dict[Key, list[Predictions]] = {}
    for subset, budget in dict.fromkeys((key.subset, key.budget) for key in side if key.subset != "clean"):
        inside = [p for key, p in side.items() if (key.subset, key.budget) == (subset, budget) and not _left(p)]
        if len(inside) > 1:
            worst[Key(WORST, subset, budget)] = [survivors(own) for own in zip(*inside, strict=True)]
    return worst


def _left(found: Sequence[Predictions]) -> bool:
    """Whether the attack left its budget on any clip."""
    return any(bool((p[f"used_{m}"] > OVER_BUDGET).any()) for p in found for m in ("audio", "visual"))


def _contest(key: Key, found: Sequence[Predictions], *, paired: bool) -> Contest:
    return Contest(
        *key,
        tuple(estimate(p["correct"]) for p in found),
        tuple(among(~p["correct"], p["correct_clean"]) for p in found),
        tuple(difference(p["correct"], found[0]["correct"]) for p in found[1:]) if paired else (),
        not _left(found),
    )
