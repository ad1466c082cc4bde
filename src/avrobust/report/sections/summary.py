"""The answer in one sentence, and the numbers behind it: clean accuracy, and the worst case by attacked modality."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avrobust.evaluation.conditions import shared
from avrobust.evaluation.stats import MISSING, Estimate, percent
from avrobust.facts import Budget
from avrobust.report.claims import Claim
from avrobust.report.formatting import MODEL, WHEN, listing
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.sections import robustness, task
from avrobust.report.sections.claims import claims
from avrobust.report.tables import accuracy, clips_differ, success

# By claim, what is attacked, and whether it says that integration helps (1) or hurts (-1).
ASKED = {"clean": ("clean", 1), "A": ("A", -1), "V": ("V", -1), "company": ("AV", 1)}
QUESTION = {
    "compared": "Does audio-visual integration strengthen or weaken robustness when audio, video, or both are attacked?",
    "alone": "How accurate does this model stay when audio, video, or both are attacked?",
    "task": "What is left of this model's answers when audio, video, or both are attacked?",
}
NOT_TRIED = "was not tested"


@dataclass(frozen=True)
class Tile:
    """One of the numbers at the top of the page, and a unimodal model's on the same clips to read it against."""

    subset: str
    budget: Budget | None
    ours: Estimate
    success: Estimate
    against: str
    other: Estimate


def tiles(run: Run) -> list[Tile]:
    """The subject clean, and in the worst case over attacks on audio, visual, both."""
    unimodal = {kind: accuracy(run.clean(run.model(kind))) for kind in ("A", "V")}
    better = "A" if unimodal["A"].value > unimodal["V"].value else "V"
    against = MISSING if run.alone else unimodal[better]
    found = [Tile("clean", None, accuracy(run.clean(run.subject)), MISSING, better, against)]
    level = run.levels[-1] if run.levels else {}
    other = {"A": "V", "V": "A"}
    for s, predictions in run.worst_case_at(level).items():
        clean = run.clean(run.model(other[s])) if s in other and not run.alone else None
        both = shared(clean, predictions) if clean and predictions else None
        against = accuracy(both[0]) if both else MISSING
        found.append(Tile(s, level[s], accuracy(predictions), success(predictions), other.get(s, ""), against))
    return found


def headline(run: Run) -> str:
    """The answer, or which alarms forbid one: those about the study, or about a model that the answer is about."""
    about = {"", *(run.model(kind) for kind in MODEL)}
    void = list(dict.fromkeys(f.name for f in run.flags if f.level == "alarm" and f.model in about))
    if void and run.table:
        return f"No answer: these alarms make the numbers unreliable ({listing(void)})."
    if not run.classifies:
        return task.sentence(run)
    compared = "" if run.alone else answer(claims(run), robustness.tables(run))
    return f"{clean_sentence(run)} {compared}".strip()


def clean_sentence(run: Run) -> str:
    """Clean and worst-case accuracy of the subject; nothing where either is missing."""
    clean, *attacked = tiles(run)
    if not clean.ours.n or not any(t.ours.n for t in attacked):
        return ""
    parts = [f"{percent(t.ours.value)} % {WHEN[t.subset]}" for t in attacked if t.ours.n]
    return (
        f"The {MODEL[run.kind(run.subject or '')]} model classifies {percent(clean.ours.value)} % of the clean clips correctly, and in the worst "
        f"case {listing(parts)}."
    )


def answer(found: Sequence[Claim], defenses: Sequence[robustness.Table] = ()) -> str:
    """Where integration helps, where it hurts, and where these clips cannot tell.

    Where a run did not ask that, which defenses are more robust.
    """
    by_name = {c.name: c for c in found}
    groups: dict[str, list[str]] = {}
    for name, (subset, helps) in ASKED.items():
        groups.setdefault(outcome([helps * k.sign for k in by_name[name].comparisons]), []).append(WHEN[subset])
    if list(groups) == [NOT_TRIED]:
        return defenses[0].words if defenses else "This run does not compare audio-visual with unimodal models yet."
    parts = [f"{verb} {listing(places)}" for verb, places in groups.items()]
    return f"Audio-visual integration {'; it '.join(parts)}."


def outcome(signs: Sequence[int]) -> str:
    """What integration does, from its comparisons with the unimodal models: better 1, worse -1, unknown 0.

    >>> outcome([1, 1]), outcome([0]), outcome([1, 0]), outcome([1, -1])
    ('helps', 'makes no clear difference', 'beats only the weaker unimodal model', 'is behind the better unimodal model')
    """
    agreed = {1: "helps", -1: "hurts", 0: "makes no clear difference"}
    if not signs:
        return NOT_TRIED
    if len(set(signs)) == 1:
        return agreed[signs[0]]
    return "is behind the better unimodal model" if -1 in signs else "beats only the weaker unimodal model"


def data(run: Run) -> Mapping[str, Any]:
    question = "task" if not run.classifies else "alone" if run.alone else "compared"
    return {
        "question": QUESTION[question], "answer": headline(run), "tiles": tiles(run) if run.classifies else [],
        "clips_differ": clips_differ(run), "subject": MODEL[run.kind(run.subject or "")],
    }  # fmt: skip


SECTION = Section("summary", "Summary", data)
