"""The small plane of one clip: inside which pairs of audio and visual budgets does the attack fool the model?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from avrobust.demo.budgets import AUDIO, VISUAL, Sliders
from avrobust.evaluation.budget_grid import BudgetGrid, evaluate_budgets
from avrobust.evaluation.evaluator import Evaluator
from avrobust.evaluation.one_clip import AttackedClip
from avrobust.facts import Budget
from avrobust.report.figures import INK, Figure
from avrobust.report.formatting import size
from avrobust.types import Attack, Batch, Model

LEVELS = 4  # steps of each budget, and 0


@dataclass(frozen=True)
class Cell:
    """The model's answer to the clip attacked within one pair of budgets; `how` it is known, see `evaluation.frontier`."""

    budget: Budget
    correct: bool
    predicted: str
    how: str


def plane(
    model: Model, clip: AttackedClip, attack: Attack, sliders: Sliders, seed: int, tell: Callable[[float, str], object]
) -> list[Cell]:
    """Every pair of budgets up to those of the sliders, audio budget by audio budget: is the clip misclassified within it?

    A modality that is not attacked gets the budget with which its slider starts.  A few attacks settle all pairs.
    """
    usual = Sliders(AUDIO[sliders.norm].value, VISUAL[sliders.norm].value, sliders.norm)
    both = replace(sliders, audio=usual.audio if sliders.audio is None else sliders.audio)
    both = replace(both, visual=usual.visual if sliders.visual is None else sliders.visual)
    threats = BudgetGrid(both.threat(clip.x), levels=LEVELS).cells
    label = torch.tensor([clip.label], device=clip.x.audio.device)
    done = 0

    def advance(decided: int) -> None:
        nonlocal done
        done += decided
        tell(done / len(threats), f"pairs of budgets: {done} of {len(threats)}")

    evaluator = Evaluator(model, [Batch(clip.x, label, ("clip",))])
    rows = evaluate_budgets(evaluator, attack, threats, seed=seed, advance=advance).rows
    answers = (rows.column(name).to_pylist() for name in ("correct", "pred", "how"))
    return [
        Cell(threat.budget, correct, clip.classes[clip.label if correct else predicted], how)
        for threat, correct, predicted, how in zip(threats, *answers, strict=True)
    ]


def figure(cells: Sequence[Cell]) -> Figure:
    """The plane: the audio budget to the right, the visual one upwards, in each cell the class that the model names."""

    def name(modality: str, budget: Budget) -> str:
        part = budget.audio if modality == "audio" else budget.visual
        return size(part, modality).number if part.eps else "0"

    def unit(modality: str) -> str:
        top = max((getattr(c.budget, modality) for c in cells), key=lambda part: part.eps)
        return size(top, modality).unit

    rows = [
        {"audio": name("audio", c.budget), "visual": name("visual", c.budget), "prediction": c.predicted.replace("_", " "), "answer": "correct" if c.correct else "misclassified"}
        for c in cells
    ]  # fmt: skip
    audio, visual = (list(dict.fromkeys(str(row[m]) for row in rows)) for m in ("audio", "visual"))
    x = {
        "field": "audio",
        "type": "nominal",
        "sort": audio,
        "title": f"audio budget ({unit('audio')})",
        "axis": {"labelAngle": 0, "domain": False, "ticks": False},
    }
    y = {
        "field": "visual",
        "type": "nominal",
        "sort": visual[::-1],
        "title": f"visual budget ({unit('visual')})",
        "axis": {"domain": False, "ticks": False},
    }
    colour = {
        "field": "answer",
        "type": "nominal",
        "scale": {"domain": ["correct", "misclassified"], "range": ["var(--good)", "var(--visual)"]},
        "legend": {"title": None},
    }
    tiles = {
        "mark": {"type": "rect", "opacity": 0.28, "cornerRadius": 3},
        "encoding": {"x": x, "y": y, "color": colour},
    }
    text = {
        "mark": {"type": "text", "fontSize": 11, "color": INK},
        "encoding": {"x": x, "y": y, "text": {"field": "prediction"}},
    }
    fooled = sum(not c.correct for c in cells)
    alt = f"Of {len(cells)} pairs of budgets, the model is fooled within {fooled}."
    return Figure("plane", "Budgets that fool this clip", alt, rows, {"layer": [tiles, text]}, (560, 300), live=False)
