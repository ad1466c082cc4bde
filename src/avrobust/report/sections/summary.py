"""The question that was asked, and the answer in one sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from avrobust.evaluation.stats import percent
from avrobust.report.claims import Claim
from avrobust.report.formatting import MODEL, WHEN, listing
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.sections import modality, robustness, task
from avrobust.report.sections.claims import claims

# By claim, what is attacked, and whether it says that integration helps (1) or hurts (-1).
ASKED = {"clean": ("clean", 1), "A": ("A", -1), "V": ("V", -1), "company": ("AV", 1)}
QUESTION = {
    "compared": "Does audio-visual integration strengthen or weaken robustness when audio, visual or both inputs are attacked?",
    "alone": "How accurate does this model stay when audio, visual or both inputs are attacked?",
    "task": "What is left of this model's answers when audio, visual or both inputs are attacked?",
}
NOT_TRIED = "was not tested"
NOT_COMPARED = "This run does not compare audio-visual with unimodal models yet."


def headline(run: Run) -> str:
    """The answer, or which alarms forbid one: those about the study, or about a model that the answer is about."""
    if void := alarms(run):
        return f"No answer: these alarms make the numbers unreliable ({listing(void)})."
    if not run.classifies:
        return task.sentence(run)
    found = clean_sentence(run) if run.alone else answer(claims(run), robustness.tables(run))
    return "" if run.record.section and found == NOT_COMPARED else found  # it asks something else


def alarms(run: Run) -> list[str]:
    """The alarms that void what a run says in a sentence."""
    about = {"", *(run.model(kind) for kind in MODEL)}
    return list(dict.fromkeys(f.name for f in run.flags if f.level == "alarm" and f.model in about and run.table))


def clean_sentence(run: Run) -> str:
    """Clean and worst-case accuracy of the subject; nothing where either is missing."""
    row = modality.subject(run)
    if row is None or not row.clean.n or not any(e.n for e in row.attacked.values()):
        return ""
    parts = [f"{percent(e.value)} % {WHEN[s]}" for s, e in row.attacked.items() if e.n]
    return (
        f"The {MODEL[row.kind]} model classifies {percent(row.clean.value)} % of the clean clips correctly, and in the "
        f"worst case {listing(parts)}."
    )


def answer(found: Sequence[Claim], defenses: Sequence[robustness.DefenseTable] = ()) -> str:
    """Where integration helps, where it hurts, and where these clips cannot tell.

    Where a run did not ask that, which defenses are more robust.
    """
    by_name = {c.name: c for c in found}
    groups: dict[str, list[str]] = {}
    for name, (subset, helps) in ASKED.items():
        groups.setdefault(outcome([helps * k.sign for k in by_name[name].comparisons]), []).append(WHEN[subset])
    if list(groups) == [NOT_TRIED]:
        return defenses[0].words if defenses else NOT_COMPARED
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
    usual = QUESTION["task" if not run.classifies else "alone" if run.alone else "compared"]
    own = run.record.question if run.record.section else None
    return {"question": own or usual, "answer": headline(run)}


SECTION = Section("summary", "Summary", data, folds=False)
