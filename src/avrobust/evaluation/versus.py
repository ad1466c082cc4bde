"""Two models on the same clips: by attack and budget, both accuracies and their paired difference."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from avrobust.evaluation.comparison import Paired, holm, p_value, paired
from avrobust.evaluation.conditions import Condition, Predictions, by_mode, shared, survivors, tabulate
from avrobust.evaluation.flags import OVER_BUDGET, Flag
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.stats import Estimate, among, columns, estimate
from avrobust.facts import Budget

WORST = "worst case"
SIGNIFICANT = 0.05


class Pair(NamedTuple):
    """One number of both models."""

    first: Estimate
    second: Estimate


@dataclass(frozen=True)
class Contest:
    """Both models under one attack within one budget, on the clips that both have.

    `success`: of the clips that a model classifies correctly when clean, the share that the attack turns wrong.  `gap` is
    the first's accuracy minus the second's: its interval holds at 95 % for all conditions at once (Bonferroni), its p is
    that of the exact McNemar test, corrected for their number (Holm).
    """

    attack: str
    subset: str
    budget: Budget
    accuracy: Pair
    success: Pair
    gap: Paired

    @property
    def better(self) -> int:
        """Which one is more accurate: the first 1, the second -1, 0 where chance may explain it."""
        return 0 if not self.gap.p < SIGNIFICANT else 1 if self.gap.difference > 0 else -1


@dataclass(frozen=True)
class Versus:
    """Two models on the same clips: `contests` by condition, clean first, attacks after that, the worst case last.

    `clips` counts those that both have, `only` those that one of them has.  `apart` names the conditions of one of them.
    """

    names: tuple[str, str]
    contests: tuple[Contest, ...]
    clips: int
    only: tuple[int, int]
    apart: tuple[tuple[str, ...], tuple[str, ...]]
    flags: tuple[tuple[Flag, ...], tuple[Flag, ...]]

    @property
    def doubts(self) -> list[str]:
        """What limits the comparison, as sentences."""
        found = []
        if any(self.only):
            lacking = " and ".join(f"{n} of {name} only" for n, name in zip(self.only, self.names, strict=True) if n)
            found.append(f"Compared on the {self.clips} clips that both have; {lacking} are left out.")
        for name, missing in zip(self.names, self.apart, strict=True):
            if missing:
                more = f" and {len(missing) - 3} more conditions" if len(missing) > 4 else ""
                found.append(f"Only {name} has rows of {'; '.join(missing[:3] if more else missing)}{more}.")
        return found

    @property
    def answer(self) -> str:
        """In one sentence, by the worst case over attacks, or by the only attack."""
        final = {c.subset: c for c in self.contests if c.subset != "clean"}  # the last of each: the worst case
        words = {"A": "audio", "V": "video", "AV": "both modalities"}
        parts = {sign: [words[s] for s, c in final.items() if c.better == sign] for sign in (1, -1, 0)}
        verbs = {1: f"{self.names[0]} is more robust", -1: f"{self.names[1]} is more robust", 0: "No clear difference"}
        said = [f"{verbs[sign]} with {' or '.join(found)} attacked." for sign, found in parts.items() if found]
        return " ".join(said) or "No attack ran on both models."

    def table(self) -> str:
        """The conditions as text, one a line; then what raises doubt."""
        lines = [("attack", "budget", *self.names, "difference", "p")]
        for c in self.contests:
            gap = f"{100 * c.gap.difference:+.1f} [{100 * c.gap.low:+.1f}, {100 * c.gap.high:+.1f}]"
            both = (str(c.accuracy.first), str(c.accuracy.second))
            lines.append((c.attack, c.budget.attacked, *both, gap, p_value(c.gap.p)))
        text = columns(lines)
        raised = [
            f"{flag.level} ({name}): {flag.text}"
            for name, flags in zip(self.names, self.flags, strict=True)
            for flag in flags
            if flag.level != "note"
        ]
        return "\n".join([*text, "", self.answer, *self.doubts, *raised])


def compare(first: Rows, second: Rows, names: tuple[str, str] | None = None) -> Versus:
    """Compare two models, each of the only model in its rows, on the clips that both have, paired clip by clip.

    Conditions are compared where the attack, its settings and both budgets are the same.  `names` are for display.
    Raises `ValueError` for rows of several models, for clips with two labels, and where no clip is in both.

    >>> rows = {
    ...     model: Rows.of(
    ...         {"model": model, "seed": 0, "attack": "none", "mode": "corrected", "subset": "clean", "eps_audio": 0.0, "eps_visual": 0.0,
    ...          "norm_audio": "linf", "norm_visual": "linf", "unit_audio": "linear", "unit_visual": "linear", "label": 0, "status": "ok",
    ...          "clip": [str(i) for i in range(100)], "correct": [i < right for i in range(100)], "correct_clean": True}
    ...     )
    ...     for model, right in (("late", 90), ("early", 75))
    ... }
    >>> versus = compare(rows["late"], rows["early"])
    >>> print(versus.contests[0].gap, versus.contests[0].better)
    +15.0 points [+7.3, +22.1], p < 0.001, n = 100 1
    """
    both = (first, second)
    given = [set(rows.data["model"].to_pylist()) for rows in both]
    for models in given:
        if len(models) != 1:
            raise ValueError(
                f"expected rows of one model on each side, got {', '.join(sorted(models)) or 'none'}. Choose one: "
                "rows.where(model='...'), or on the command line --models FIRST SECOND."
            )
    for rows in both:
        if rows.about.get("measures"):
            raise ValueError(
                "expected models that give one class per clip, got rows of another task. Compare what rows.table() prints."
            )
    tables = [{_key(c): p for c, p in by_mode(tabulate(rows.data))[0].items()} for rows in both]
    _check_labels(*(t.values() for t in tables))
    keys = [key for key in tables[0] if key in tables[1] and tables[0][key].info == tables[1][key].info]
    pairs = {key: _matched(tables[0][key], tables[1][key]) for key in keys}
    if not pairs or not all(a.clips for a, _ in pairs.values()):
        raise ValueError(
            "expected the same clips and at least one condition on both sides, got none in common. Evaluate both models on "
            "the same clips, with the same attacks and budgets."
        )
    everyone = [{clip for p in t.values() for clip in p.clips} for t in tables]
    contests = [_contest(key, *pair) for key, pair in (pairs | _worst(pairs)).items()]
    ps = holm([c.gap.p for c in contests])
    adjusted = [replace(c, gap=replace(c.gap.as_one_of(len(contests)), p=p)) for c, p in zip(contests, ps, strict=True)]
    order = {"clean": 0, "A": 1, "V": 2, "AV": 3}
    adjusted.sort(key=lambda c: (order[c.subset], c.budget, c.attack == WORST))
    return Versus(
        names or _names(*(next(iter(models)) for models in given)),
        tuple(adjusted),
        len(everyone[0] & everyone[1]),
        (len(everyone[0] - everyone[1]), len(everyone[1] - everyone[0])),
        tuple(tuple(_title(key) for key in t if key not in pairs) for t in tables),  # type: ignore[arg-type]
        (first.flags(), second.flags()),
    )


class Key(NamedTuple):
    """A condition, whichever model it is of."""

    attack: str
    subset: str
    budget: Budget


def _key(c: Condition) -> Key:
    return Key(c.attack, c.subset, c.budget)


def _title(key: Key) -> str:
    return f"{key.attack} within {key.budget.attacked}" if key.subset != "clean" else "clean clips"


def _names(first: str, second: str) -> tuple[str, str]:
    return (first, second) if first != second else (f"{first} (first)", f"{second} (second)")


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


def _matched(a: Predictions, b: Predictions) -> tuple[Predictions, Predictions]:
    """Both on the same clips; of a single seed each, whichever it is."""
    if len(a.seeds) == len(b.seeds) == 1:
        b = replace(b, seeds=a.seeds)
    one, other = shared(a, b)
    return one, other


def _worst(pairs: Mapping[Key, tuple[Predictions, Predictions]]) -> dict[Key, tuple[Predictions, Predictions]]:
    """By subset and budget, the worst case over the attacks that kept their budget, where there are several."""
    found: dict[Key, tuple[Predictions, Predictions]] = {}
    for subset, budget in dict.fromkeys((key.subset, key.budget) for key in pairs if key.subset != "clean"):
        inside = [p for key, p in pairs.items() if (key.subset, key.budget) == (subset, budget) and not _left(*p)]
        if len(inside) > 1:
            found[Key(WORST, subset, budget)] = (survivors([a for a, _ in inside]), survivors([b for _, b in inside]))
    return found


def _left(*both: Predictions) -> bool:
    """Whether the attack left its budget on any clip."""
    return any(bool((p[f"used_{m}"] > OVER_BUDGET).any()) for p in both for m in ("audio", "visual"))


def _contest(key: Key, a: Predictions, b: Predictions) -> Contest:
    def pair(number: Callable[[Predictions], Estimate]) -> Pair:
        return Pair(number(a), number(b))

    return Contest(
        *key,
        pair(lambda p: estimate(p["correct"])),
        pair(lambda p: among(~p["correct"], p["correct_clean"])),
        paired(a["correct"], b["correct"]),
    )
