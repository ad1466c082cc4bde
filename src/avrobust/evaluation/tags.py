"""Accuracy by where the class of a clip can be perceived: it is audible, visible, or both.

Tags belong to a clip and one of its classes, as VGGSounder publishes them: `Manifest.tags` and `Store.tags` hold them, rows do
not.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from avrobust.data.entry import TAGS
from avrobust.evaluation.measures import LabelRanking
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.stats import Estimate, among

Tags = Mapping[str, Mapping[str, str]]  # clip → class → tag
UNTAGGED = "untagged"


def by_tag(rows: Rows, tags: Tags, classes: Sequence[str]) -> dict[str, Rows]:
    """The rows of clips whose true class is audible, visible, or both; and the untagged ones, where there are any.

    `classes` are the names of the labels' numbers, such as `store.classes`.  Raises ValueError for a label without a name.

    >>> from avrobust.facts import Budget
    >>> seen = {"clip": ["a", "b"], "label": [0, 1], "status": "ok", "correct_clean": True, "correct": [True, False]}
    >>> rows = Rows.of(seen | {"model": "m", "seed": 0, "attack": "none", "subset": "clean"} | Budget().columns())
    >>> parts = by_tag(rows, {"a": {"dog": "both"}, "b": {"cat": "audible"}}, ["dog", "cat"])
    >>> {tag: str(part.accuracy()) for tag, part in parts.items()}
    {'audible': '0.0 % of 1 [0.0, 79.3]', 'both': '100.0 % of 1 [20.7, 100.0]'}
    """
    labels = rows.data["label"].to_pylist()
    if labels and max(label or 0 for label in labels) >= len(classes):
        raise ValueError(f"expected names of {max(labels) + 1} classes, got {len(classes)}. Give those of the data.")
    clips = rows.data["clip"].to_pylist()
    found = [
        tags.get(clip, {}).get(classes[label], UNTAGGED) if label is not None else UNTAGGED
        for clip, label in zip(clips, labels, strict=True)
    ]
    masks = {tag: [tag == other for other in found] for tag in (*TAGS, UNTAGGED) if tag in found}
    return {tag: Rows(rows.data.filter(pa.array(mask)), rows.about) for tag, mask in masks.items()}


def recall_by_tag(rows: Rows, tags: Tags, classes: Sequence[str]) -> dict[str, Estimate]:
    """Of multi-label clips: of the labels with a tag, the share that the model still finds.

    A label is found above the threshold of the task; a clip counts once in the interval, however many labels it has.  Labels
    without a tag are "untagged".  `rows` are of one model.  Raises ValueError for rows of another task.
    """
    answered = rows.where(status="ok")
    if not len(answered):
        return {}
    measures = rows.measures(answered.data["model"][0].as_py())
    if not isinstance(measures, LabelRanking):
        raise ValueError(
            f"expected rows of multi-label clips, got those of a task that measures {type(measures).__name__}. Use by_tag."
        )
    scores, targets = (np.array(answered.data[name].to_pylist()) for name in ("scores", "targets"))
    if targets.shape[1] != len(classes):
        raise ValueError(f"expected names of {targets.shape[1]} classes, got {len(classes)}. Give those of the data.")
    known = [tags.get(clip, {}) for clip in answered.data["clip"].to_pylist()]
    tagged = np.array([[of.get(name, UNTAGGED) for name in classes] for of in known])
    having = {tag: (targets > 0.5) & (tagged == tag) for tag in (*TAGS, UNTAGGED)}
    finite = np.not_equal(answered.column("finite"), False)  # unless it is said otherwise
    found = (scores > measures.threshold) & finite[:, None]
    return {tag: among(found.T, of.T) for tag, of in having.items() if of.any()}


def tag_table(rows: Rows, tags: Tags, classes: Sequence[str]) -> str:
    """Robust accuracy by tag, per model, attack and budget, as text; each with its count and 95 % interval.

    Under the attack "none" it is the clean accuracy.  Of multi-label clips it is `recall_by_tag`.
    """
    return "\n".join(rows.lines([_numbers(cell, tags, classes) for cell in rows.cells()]))


def _numbers(cell: Rows, tags: Tags, classes: Sequence[str]) -> Mapping[str, Estimate]:
    if isinstance(cell.measures(cell.data["model"][0].as_py()), LabelRanking):
        return recall_by_tag(cell, tags, classes)
    return {tag: part.accuracy() for tag, part in by_tag(cell, tags, classes).items()}
