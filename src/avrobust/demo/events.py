"""What happens when something on the page is chosen or pressed: the methods that Gradio calls, and what they tell visitors."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from avrobust.cli.model import LoadedModel
from avrobust.data.orchestra import CLASSES, Orchestra
from avrobust.demo import clips, plane
from avrobust.demo.budgets import AUDIO, AUDIO_LABEL, VISUAL, VISUAL_LABEL, Sliders
from avrobust.demo.builtin import EASY
from avrobust.demo.clips import Limits
from avrobust.demo.jobs import Jobs, Stopped
from avrobust.demo.work import ANY, BUILT_IN, OWN_PREDICTION, Models, Tell, attack_of, attacked, bundle, label_of
from avrobust.devices import out_of_memory
from avrobust.evaluation.one_clip import AttackedClip
from avrobust.report.attacked_clip import fragment
from avrobust.report.figures import Figure
from avrobust.types import Attack
from avrobust.units import Norm

EVERY_S = 0.1  # between two messages of progress


@dataclass(eq=False)
class Result:
    """What the last attack of a visitor left, for the plane and the download."""

    model: LoadedModel
    clip: AttackedClip
    attack: Attack
    sliders: Sliders
    seed: int


@dataclass(eq=False)
class Server:
    """What all visitors share: the models, the folder of temporary files, the work under way."""

    models: Models
    folder: Path
    limits: Limits = field(default_factory=Limits)
    orchestra: Orchestra = EASY
    jobs: Jobs = field(default_factory=Jobs)
    opened: dict[str, LoadedModel] = field(default_factory=dict)

    def model(self, name: str, upload: str | None, tell: Tell) -> LoadedModel:
        """A chosen model, opened once, or an uploaded one."""
        if upload is not None:
            return self.models.open(name, Path(upload), tell)
        if name not in self.opened:
            self.opened[name] = self.models.open(name, None, tell)
        return self.opened[name]

    def clip(
        self, model: LoadedModel, upload: str | None, start: float, instrument: str, take: int
    ) -> tuple[clips.Taken, str | None]:
        """What the model receives of an upload or of a clip of the orchestra, and the clip's class where it is known."""
        where = self.models.where
        if upload is not None:
            taken = clips.read(Path(upload), model.spec, model.view, start=start, limits=self.limits)
        else:
            file = clips.of_orchestra(self.orchestra, instrument, take, self.folder / "orchestra")
            taken = clips.read(file, model.spec, model.view)
        return clips.Taken(taken.name, taken.x.map(lambda s: s.to(where)), taken.said), None if upload else instrument

    def attack(
        self, model: str, checkpoint: str | None, upload: str | None, start: float | None, instrument: str, take: int,
        audio_on: bool, audio: float, visual_on: bool, visual: float, norm: Norm, attack: str, steps: int,
        objective: str, label: str, target: str, lossless: bool, seed: int, request: gr.Request, progress: Any = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:  # fmt: skip
        """Attack the chosen clip: the result, what is said of it, its picture, no plane yet, buttons, the file to download."""
        said = Told()
        with said.of(self.jobs, request, progress) as tell:
            opened = self.model(model, checkpoint, tell)
            taken, known = self.clip(opened, upload, start or 0, instrument, take)
            search, at = (
                attack_of(attack, int(steps), objective, lossless),
                sliders_at(audio_on, audio, visual_on, visual, norm),
            )
            truth, aim = label_of(label, known, opened.classes), label_of(target, None, opened.classes)
            found = attacked(opened, taken, search, at, truth, aim, int(seed), tell)
            file = bundle(found, opened.spec.rate, self.folder / f"{time.monotonic_ns()}")
            left = Result(opened, found, search, at, int(seed))
            return left, neutral(taken.said), fragment(found, opened.spec.rate), "", gr.Row(visible=True), str(file)
        return None, said.html, "", "", gr.Row(visible=False), None

    def plane(self, result: Result | None, request: gr.Request, progress: Any = gr.Progress()) -> str:  # noqa: B008
        """The small plane of the clip that was attacked last."""
        said = Told()
        with said.of(self.jobs, request, progress) as tell:
            if result is None:
                raise ValueError("expected an attacked clip, got none. Press Attack first.")
            cells = plane.plane(result.model.model, result.clip, result.attack, result.sliders, result.seed, tell)
            return drawing(plane.figure(cells))
        return said.html

    def stop(self, request: gr.Request) -> str:
        """End what this visitor started."""
        self.jobs.stop(str(request.session_hash))
        return neutral("Stopped.")

    def classes(self, model: str, checkpoint: str | None, request: gr.Request) -> tuple[Any, ...]:
        """The classes to choose from, of a model that was chosen; the built-in one need not be trained for that."""
        said, names = Told(), CLASSES
        with said.of(self.jobs, request):
            if checkpoint is not None or model != BUILT_IN:
                names = self.model(model, checkpoint, lambda share, words: None).classes
        return gr.Dropdown([OWN_PREDICTION, *names]), gr.Dropdown([ANY, *names]), said.html


def sliders_at(audio_on: bool, audio: float, visual_on: bool, visual: float, norm: Norm) -> Sliders:
    """Where the sliders stand."""
    return Sliders(audio if audio_on else None, visual if visual_on else None, norm)


def meaning_of(*at: Any) -> str:
    return sliders_at(*at).explained()


def ranges(norm: Norm) -> tuple[Any, Any]:
    """The sliders of another norm."""
    return tuple(
        gr.Slider(r.low, r.high, step=r.step, value=r.value, label=label)
        for r, label in ((AUDIO[norm], AUDIO_LABEL[norm]), (VISUAL[norm], VISUAL_LABEL[norm]))
    )


class Told:
    """What a visitor is told about work that did not end as it should: `html`, empty if it did."""

    html = ""

    @contextmanager
    def of(self, jobs: Jobs, request: gr.Request, progress: Any = None) -> Iterator[Tell]:
        """Work of this visitor: gives what takes its progress.  Errors that a user can cause end the block, not the page."""
        last = 0.0

        def tell(share: float | None, words: str) -> None:
            nonlocal last
            carry_on()
            if progress is not None and time.monotonic() - last > EVERY_S:
                last = time.monotonic()
                progress(share, desc=words)

        try:
            with jobs.work(str(request.session_hash)) as carry_on:
                yield tell
        except Stopped:
            self.html = neutral("Stopped.")
        except Exception as error:
            words = str(error) if isinstance(error, ValueError | OSError) else out_of_memory(error)
            if words is None:
                raise
            self.html = Markup('<p class="error" role="alert">{}</p>').format(words)


def neutral(words: str) -> str:
    """A remark on the page."""
    return Markup('<p class="said">{}</p>').format(words)


def drawing(figure: Figure) -> str:
    """A figure on the page."""
    return Markup('<section class="attacked"><h3>{}</h3><div class="plane" role="img" aria-label="{}">{}</div><p class="caption">{} {}</p></section>').format(
        figure.title, figure.alt, figure.drawing, figure.alt, "Each cell names the class that the model names for the clip attacked within these budgets.",
    )  # fmt: skip
