"""Accuracy by where a class can be perceived: every clip counts once, each number has its count and interval."""

import pytest
import torch

import avrobust as avr
from avrobust.evaluation.tags import by_tag, recall_by_tag, tag_table

CLASSES = ("dog", "cat")
TAGS = {
    "a": {"dog": "audible", "cat": "visible"},
    "b": {"cat": "visible"},
    "c": {"dog": "both"},
    "d": {"dog": "visible"},  # the label of the rows, cat, is none of its labels
}


def rows() -> avr.Rows:
    """A model that looks at the sound alone: right on clip a, b and d."""
    wave = torch.tensor([[0.5] * 8, [-0.5] * 8, [-0.5] * 8, [-0.5] * 8, [-0.5] * 8])
    frames = torch.full((5, 1, 3, 4, 4), 0.5)
    batch = avr.Batch(avr.AV(wave, frames), torch.tensor([0, 1, 0, 1, 1]), ("a", "b", "c", "d", "e"))
    net = lambda x: torch.stack([x.audio.sum(1), -x.audio.sum(1)], 1) + 0 * x.visual.sum((1, 2, 3, 4))[:, None]  # noqa: E731
    return avr.evaluate(net, batch, [avr.FGSM()], avr.Threat.linf(audio=0.01, visual="4/255"))


def test_each_clip_is_in_one_part():
    found = rows()
    parts = by_tag(found, TAGS, CLASSES)
    clean = {
        tag: (found.value, found.n) for tag, part in parts.items() for found in [part.where(subset="clean").accuracy()]
    }
    assert clean == {"audible": (1, 1), "visible": (1, 1), "both": (0, 1), "untagged": (1, 2)}
    assert sum(map(len, parts.values())) == len(found)


def test_the_table_has_a_line_per_attack_and_budget():
    head, clean, *others = tag_table(rows(), TAGS, CLASSES).splitlines()
    assert head.split() == ["model", "attack", "budget", "audible", "visible", "both", "untagged"]
    assert "100.0 % of 1 [20.7, 100.0]  100.0 % of 1 [20.7, 100.0]  0.0 % of 1 [0.0, 79.3]  100.0 % of 2" in clean
    assert len(others) == 3 and all("of 1" in line and "FGSM" in line for line in others)


def test_of_several_labels_it_is_the_share_of_labels_that_are_found():
    wave, frames = torch.tensor([[0.5] * 8, [-0.5] * 8, [0.5] * 8]), torch.full((3, 1, 3, 4, 4), 0.5)
    y = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    net = lambda x: torch.stack([x.audio.mean(1), x.visual.mean((1, 2, 3, 4)) - 0.45], 1)  # noqa: E731
    batch = avr.Batch(avr.AV(wave, frames), y, ("a", "b", "c"))
    found = avr.evaluate(
        net, batch, [avr.FGSM()], avr.Threat.linf(audio=0.01, visual="50/255"), task=avr.tasks.MultiLabel()
    )
    clean = recall_by_tag(found.where(subset="clean"), TAGS, CLASSES)
    assert {tag: (number.value, number.n) for tag, number in clean.items()} == {
        "audible": (1, 1),
        "visible": (1, 2),
        "both": (1, 1),
    }
    seen = recall_by_tag(found.where(subset="V"), TAGS, CLASSES)
    assert {tag: number.value for tag, number in seen.items()} == {"audible": 1, "visible": 0, "both": 1}
    assert "0.0 % of 2" in tag_table(found, TAGS, CLASSES)
    with pytest.raises(ValueError, match="expected names of 2 classes, got 3"):
        recall_by_tag(found, TAGS, (*CLASSES, "bird"))


def test_labels_without_a_name_are_refused():
    with pytest.raises(ValueError, match=r"expected names of 2 classes, got 1\. Give those of the data"):
        by_tag(rows(), TAGS, CLASSES[:1])
