"""How audible and how visible attacks are, and what kinds of budgets cost and gain by that."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from avrobust.evaluation import matched
from avrobust.evaluation.conditions import Predictions
from avrobust.evaluation.matched import HEARD, SEEN, Ladder, Matched
from avrobust.evaluation.measures import success
from avrobust.evaluation.stats import Estimate, resampled
from avrobust.report import charts, table
from avrobust.report.figures import Figure
from avrobust.report.formatting import ATTACKED, anchor, decibel, joined, listing
from avrobust.report.run import SUBSETS, Run
from avrobust.report.section import Section
from avrobust.report.table import Cell, Column, Line, Table

# By modality: heading, and columns of rows with their names; the peak is that of the perturbation.
COLUMNS = {
    "audio": (("linf_audio", "peak, dBFS"), ("snr_db", "SNR, dB"), ("segsnr_db", "segmental SNR, dB"), ("mask_db", "above mask, dB"), ("nmr_db", "NMR, dB")),
    "visual": (("linf_visual", "largest change, grey levels"), ("psnr_db", "PSNR, dB"), ("ssim", "SSIM"), ("delta_e", "delta E")),
}  # fmt: skip
MODALITIES = {"audio": "A", "visual": "V"}


def measured(run: Run) -> list[Predictions]:
    """The subject's conditions at the budgets of the tables; where there are several kinds of budgets, all of them."""
    mine = [p for c, p in run.table.items() if c.model == run.subject and c.subset != "clean" and p["correct"].size]
    wanted = {budget for level in run.levels for budget in level.values()}
    kinds = {(p.condition.subset, matched.kind(p.condition.budget)) for p in mine}
    several = {s for s in SUBSETS if sum(subset == s for subset, _ in kinds) > 1}
    order = {attack: i for i, attack in enumerate(run.infos)}
    found = [p for p in mine if p.condition.subset in several or p.condition.budget in wanted]

    def place(p: Predictions) -> tuple[object, ...]:
        c, own = p.condition, matched.kind(p.condition.budget)
        return SUBSETS.index(c.subset), order[c.attack], own != matched.EVEN, own, c.budget

    return sorted(found, key=place)


def distances(every: Sequence[Predictions], modality: str) -> Table | None:
    """Medians over clips with their intervals, of one modality, and how often the attack succeeds."""
    names = [(column, name) for column, name in COLUMNS[modality] if any(_known(p[column]) for p in every)]
    body: list[Line] = []
    for p in every:
        c = p.condition
        if MODALITIES[modality] in c.subset:
            cells = [_median(p, column) for column, _ in names]
            body.append([c.attack, c.budget.attacked, *cells, table.share(success(p))])
    if not body:
        return None
    heads: list[Column | str] = [
        "Attack",
        "Budget",
        *(Column(name, "median over clips") for _, name in names),
    ]
    below = ""
    if modality == "audio" and any(column == "mask_db" for column, _ in names):
        below = (
            "Above mask: by how much the loudest frequency exceeds the clip's masking threshold. NMR, the noise-to-mask ratio, "
            "adds up the power in each critical band: above 0 dB the perturbation is heard, if the clip's loudest frequency is at 96 dB SPL."
        )
    return table.table(f"{modality.capitalize()} perturbations", [*heads, "Attack success"], body, below=below)


def _known(values: np.ndarray) -> bool:
    return bool((~np.isnan(values.astype(float))).any())


def _median(p: Predictions, column: str) -> Cell:
    values = p[column].astype(float)
    if not _known(values):
        return table.DASH
    if column == "linf_audio":
        with np.errstate(divide="ignore"):
            values = 20 * np.log10(values)
    if column == "linf_visual":
        values = 255 * values
    e = _estimated(values)
    shown = partial(_shown, column)
    small = (f"of {e.n} [{shown(e.low)}, {shown(e.high)}]",)
    return Cell(shown(e.value), small, table.Number(e.value, e.low, e.high, e.n, e.seeds))


def _estimated(values: np.ndarray) -> Estimate:
    if not np.isfinite(
        values[~np.isnan(values)]
    ).all():  # an unchanged or a silent clip: no arithmetic with its distance
        middle = float(np.nanmedian(np.clip(values, -1e9, 1e9)))
        value = math.copysign(math.inf, middle) if abs(middle) > 1e8 else middle
        if math.isinf(value):
            return Estimate(value, value, value, values.shape[1], len(values), False)
        values = np.clip(values, -1e3, 1e3)
    return resampled([partial(matched.weighted_median, v) for v in values], values.shape[1], share=False)


def _shown(column: str, value: float) -> str:
    if column in ("ssim", "delta_e"):
        return f"{value:.3f}".replace("-", "−")
    return decibel(value)


Compared = tuple[str, str, Matched]  # a kind of budget against linf, by the column of a measure


def compared(every: Sequence[Ladder], measures: Sequence[tuple[str, str, float]]) -> list[Compared]:
    """Kinds of budgets against linf, where both succeed as often, and where both are perceived as much."""
    return [
        (other.kind, measure[0], matched.matched(base, other, measure))
        for base, other in matched.pairs(every)
        for measure in measures
        if all(_known(p[measure[0]]) for p in (*base.rungs, *other.rungs))
    ]


def comparisons(found: Sequence[Compared], title: str) -> Table | None:
    """A line for each comparison."""
    if not found:
        return None
    body: list[Line] = [
        [kind, m.measure, *_at_success(m, column), *_at_distance(m, column)] for kind, column, m in found
    ]
    same, as_loud = "at the same success", "perceived as much"
    heads: list[Column | str] = [
        "Budget", "Measure", Column("success", same), Column("linf", same), Column("this", same), Column("difference", same),
        Column("at", as_loud), Column("success, points more", as_loud),
    ]  # fmt: skip
    below = (
        "Rates and medians between budgets along straight lines; compared in the middle of what both kinds reach, with 95 % "
        "intervals over clips. A dash: the two do not overlap, on every seed."
    )
    return table.table(title, heads, body, below=below)


def words(found: Sequence[Compared], who: str) -> str:
    """What other kinds of budgets gain where they fool as many clips, by the first measure."""
    first = [(kind, column, m) for kind, column, m in found if m.measure == found[0][2].measure and m.difference.n]
    if not first:
        return ""
    told = [
        f"{_shown(column, e.value)} [{_shown(column, e.low)}, {_shown(column, e.high)}] within {kind}"
        for kind, column, m in first
        for e in [m.difference]
    ]
    m = first[0][2]
    return f"{who}, difference from linf at the same success ({m.measure}, of {m.difference.n} clips): {listing(told)}"


def _at_success(m: Matched, column: str) -> list[Cell]:
    shown = partial(_shown, column)
    if not m.difference.n:
        return [table.DASH] * 4
    e = m.difference
    difference = Cell(
        shown(e.value), (f"of {e.n} [{shown(e.low)}, {shown(e.high)}]",), table.Number(e.value, e.low, e.high, e.n)
    )
    ends = (table.number(value, shown(value)) for value in (m.first, m.second))
    return [table.percentage(m.success), *ends, difference]


def _at_distance(m: Matched, column: str) -> list[Cell]:
    return [table.number(m.distance, _shown(column, m.distance)), table.points(m.gain if m.gain.n else None)]


def figure(every: Sequence[Ladder], subset: str, attack: str, measure: tuple[str, str, float]) -> Figure | None:
    """Attack success over what is perceived, a line for each kind of budget."""
    column, name, _ = measure
    rows: list[dict[str, Any]] = []
    for ladder in every:
        for p in ladder.rungs:
            middle = _estimated(p[column].astype(float)).value if _known(p[column]) else math.nan
            if math.isfinite(middle):
                point = {"budget": ladder.kind, "size": p.condition.budget.attacked, name: round(middle, 3)}
                rows.append(point | charts.shares(success(p), charts.SUCCESS))
    kinds = list(dict.fromkeys(row["budget"] for row in rows))
    if len(kinds) < 2:
        return None
    x = {"field": name, "type": "quantitative", "scale": {"zero": False}, "axis": {"title": f"median {name}"}}
    spec = charts.lines(x, ["budget", "size", name, *charts.SUCCESS, "clips"], charts.looks(dict.fromkeys(kinds, "AV")), "budget", title="attack success (%)", names=charts.SUCCESS)  # fmt: skip
    title = f"{ATTACKED[subset]}, {attack}"
    caption = (
        f"Attack success of {attack} over the median {name}, within budgets of several kinds; bands are 95 % intervals."
    )
    return Figure(
        anchor(f"perception {attack} {subset}"), title, f"{title}: {', '.join(kinds)}.", rows, spec, caption=caption
    )


def data(run: Run) -> Mapping[str, Any] | None:
    every = measured(run) if run.subject else []
    far = [t for modality in MODALITIES if (t := distances(every, modality)) is not None]
    if not far:
        return None
    figures: list[Figure] = []
    tables: list[Table] = []
    answers: dict[str, str] = {}
    for subset, measures in (("A", HEARD), ("V", SEEN)):
        of_attack = matched.ladders(run.table, run.subject or "", subset)
        for attack in sorted(of_attack, key=lambda a: run.infos[a].single_step):
            found = compared(of_attack[attack], measures)
            who = joined(attack, ATTACKED[subset].lower())
            if made := comparisons(found, joined("Kinds of budgets compared", who)):
                tables.append(made)
                answers.setdefault(subset, words(found, who))  # the iterative attack's
            if drawn := figure(of_attack[attack], subset, attack, measures[0]):
                figures.append(drawn)
    result = "; ".join(filter(None, answers.values())) or _sizes(every)
    return {"tables": [*tables, *far], "figures": figures, "result": result}


def _sizes(every: Sequence[Predictions]) -> str:
    """How audible and how visible the first attacks are."""
    told: dict[str, str] = {}
    for subset, column, name, unit in (("A", "nmr_db", "noise-to-mask ratio", " dB"), ("V", "ssim", "SSIM", "")):
        for p in every:
            if p.condition.subset == subset and _known(p[column]):
                where = ATTACKED[subset].lower()
                told.setdefault(subset, f"{p.condition.attack}, {where}: median {name} {_median(p, column).text}{unit}")
    return "; ".join(told.values())


SECTION = Section("perception", "How visible and audible are the attacks?", data)
