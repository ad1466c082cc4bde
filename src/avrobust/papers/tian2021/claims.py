"""What only this paper claims: how its MIM compares with other attacks, and our doubt about the evidence for it."""

from avrobust.report.claims import versus
from avrobust.report.comparisons import Claim, Comparison
from avrobust.report.load import Level, Run


def mim_is_strongest(run: Run, level: Level) -> Claim:
    within = [a for a in run.modes if a not in run.outside]
    found = rivals(run, level, "MIM", "PGD", within)
    return Claim(
        "MIM",
        "MIM is the most effective attack, when it stays inside its budget.",
        tuple(found),
        every=False,
        family="attacks",
    )


def published_mim_gains(run: Run, level: Level) -> Claim:
    names = [a for a in run.modes if run.method(a) == "MIM"]
    outside = [a for a in names if a in run.outside]
    inside = [a for a in names if a not in run.outside]
    found = [
        c
        for subset in level
        for fast in outside[:1]
        for slow in inside[:1]
        for c in versus(run, level, subset, fast, slow)
    ]
    return Claim(
        "leaving",
        "The published MIM gains from leaving its budget. (Our claim, about the paper's evidence for the one above.)",
        tuple(found),
        every=False,
        family="attacks",
    )


def rivals(run: Run, level: Level, strong: str, weak: str, among: list[str]) -> list[Comparison]:
    """The first attack of one method against the first of another, on each subset."""
    first = next((a for a in among if run.method(a) == strong), None)
    second = next((a for a in among if run.method(a) == weak), None)
    if first is None or second is None:
        return []
    return [c for subset in level for c in versus(run, level, subset, first, second)]


CLAIMS = (mim_is_strongest, published_mim_gains)
