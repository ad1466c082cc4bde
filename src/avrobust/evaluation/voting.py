"""Votes of a model on randomised copies of clips: what rows say of a smoothed model, clean and attacked."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from avrobust import engine
from avrobust.certificates import Certificate, Smoothed
from avrobust.certificates.base import Draws, draws_of
from avrobust.config import to_plain
from avrobust.evaluation.prepared import PreparedBatch
from avrobust.evaluation.tasks import Classification, Gallery
from avrobust.progress import steps
from avrobust.seeds import Seeds
from avrobust.types import InputError, Signals

# Copies go through the model together until they hold so many samples and pixels.
AT_ONCE, FEW = 2**22, 2**20


def vote_columns(
    attack: Certificate | Smoothed,
    judge: engine.Victim,
    clips: PreparedBatch,
    x: Signals,
    seeds: Seeds,
    gallery: Gallery,
    most: int,
) -> dict[str, Any]:
    """What rows say of the model that the certificate smooths, for the clips `x`; `most` copies at a time fit into memory.

    Of a certificate itself: the class that its selection chose, unless it abstains, and what is certified.  Of an attack:
    the class with most votes, and how far the attack went.  Raises `InputError` for models that do not classify.
    """
    if not isinstance(clips.task, Classification):
        raise InputError(
            "certificates are for models that give one class per clip, got another task. Leave the certificate out."
        )
    certificate, classes = attack.certificate, clips.clean.shape[1]
    # A victim that takes any batch chunks it; another one gets no more than it was given before, but for small clips.
    numbers = sum(s.shape[1:].numel() for s in x)
    at_once = max(1, AT_ONCE // numbers) if judge.any_batch else max(most, FEW // numbers)
    told, every = [], []
    for i in steps(len(clips), "clip"):

        def vote(draws: int, purpose: str, i: int = i) -> Int[np.ndarray, " k"]:
            one = x.map(lambda s: s[i : i + 1])
            return count_votes(judge, certificate, one, draws, draws_of(seeds, i, purpose), classes, at_once)

        label = int(clips.batch.label[i])
        counts, of_clip = (_certified if attack is certificate else _attacked)(attack, vote, label)
        every.append(counts / max(counts.sum(), 1))
        told.append(of_clip | {"finite": int(counts.sum()) == of_clip["draws"]})
    shares = torch.from_numpy(np.stack(every)).to(clips.clean)
    columns = clips.task.columns(clips.batch, clips.clean, shares, gallery)
    columns |= {name: [row[name] for row in told] for name in told[0]}
    if attack is not certificate:
        sizes = certificate.sizes(clips.batch.x, x)
        columns["distance"] = [certificate.distance(*pair) for pair in zip(*sizes, strict=True)]
    return columns | {"certificate": json.dumps(to_plain(certificate), sort_keys=True)}


Vote = Callable[[int, str], np.ndarray]


def _certified(certificate: Any, vote: Vote, label: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Cohen et al. 2019, CERTIFY: one sample chooses the class, another bounds its probability."""
    chosen = int(vote(certificate.select, "select").argmax())
    counts = vote(certificate.draws, "estimate")
    low, high = certificate.bounds(counts, chosen)
    reach = certificate.reach(low, high)
    sure = reach > 0
    return counts, {
        "draws": certificate.draws, "votes": int(counts[chosen]), "votes_label": int(counts[label]), "p_low": low, "reach": reach,
        "pred": chosen if sure else -1, "correct": sure and chosen == label,
    }  # fmt: skip


def _attacked(attack: Any, vote: Vote, label: int) -> tuple[np.ndarray, dict[str, Any]]:
    counts = vote(attack.votes, "judge")
    chosen = int(counts.argmax())
    return counts, {
        "draws": attack.votes, "votes": int(counts[chosen]), "votes_label": int(counts[label]),
        "pred": chosen if counts[chosen] else -1, "correct": chosen == label and counts[chosen] > 0,
    }  # fmt: skip


@torch.no_grad()
def count_votes(
    judge: engine.Victim, certificate: Certificate, clip: Signals, draws: int, by: Draws, classes: int, at_once: int
) -> Int[np.ndarray, " k"]:
    """How often each class is given to so many copies of a clip; an answer that is not finite is a vote for none."""
    counts = np.zeros(classes, dtype=np.int64)
    for start in range(0, draws, at_once):
        logits: Tensor = judge.output(certificate.copies(clip, min(at_once, draws - start), by)).logits
        classified = logits.argmax(1)[logits.isfinite().all(1)]
        counts += np.bincount(classified.cpu().numpy(), minlength=classes)
    return counts
