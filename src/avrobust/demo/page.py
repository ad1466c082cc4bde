"""The page in Gradio: what stands where, and which event does what."""

from pathlib import Path
from typing import Any

import gradio as gr

from avrobust import report
from avrobust.attacks import ATTACKS
from avrobust.data.orchestra import CLASSES
from avrobust.demo.budgets import AUDIO, AUDIO_LABEL, VISUAL, VISUAL_LABEL, Sliders
from avrobust.demo.clips import TAKES
from avrobust.demo.events import Server, meaning_of, ranges
from avrobust.demo.work import ANY, OBJECTIVES, OWN_PREDICTION, USUAL

TITLE = "avrobust: attack an audio-visual model"
INTRO = """# Attack an audio-visual model
Choose a model and a clip, say how far audio and frames may be changed, and see and hear what an attack makes of it."""
KEPT = (
    "Uploads are deleted when this page's server stops, and after an hour at the latest. Nothing leaves this machine."
)
STYLE = [Path(__file__).with_name("demo.css"), Path(report.__file__).parent / "templates/attacked_clip.css"]
FONT = ["-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Liberation Sans", "Arial", "sans-serif"]
LARGEST_UPLOAD = "1gb"  # checkpoints are large; clips are bounded by `Limits`
HOUR = 3600

# name: instrument, take, audio attacked, its budget, visual attacked, its budget, attack, steps
EXAMPLES: dict[str, list[Any]] = {
    "Violin, both attacked": ["violin", 2, True, -44, True, 2, "PGD", 20],
    "Tuba, audio attacked": ["tuba", 2, True, -44, False, 2, "APGD", 50],
    "Trumpet, frames attacked": ["trumpet", 2, False, -44, True, 8, "MIM", 20],
    "Xylophone, without gradients": ["xylophone", 2, True, -38, True, 6, "Square", 300],
}
START = '<p class="start">Choose an example or your own settings, then press <b>Attack</b>.</p>'
FORM = {"audio": "Attack the audio", "visual": "Attack the frames"}


def build(server: Server) -> gr.Blocks:
    """The page, not launched yet; see `launch`."""
    names, first = server.models.names, next(iter(EXAMPLES.values()))
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(60, HOUR)) as page:
        gr.Markdown(INTRO)
        examples = gr.Column()
        result = gr.State(None, time_to_live=HOUR)
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                with gr.Group():
                    model = gr.Dropdown(names, value=names[0], label="Model", elem_id="model")
                    with gr.Accordion("Upload a checkpoint instead", open=False):
                        checkpoint = gr.File(
                            label=".safetensors, as avrobust train writes it",
                            file_types=[".safetensors"],
                            height=140,
                            elem_id="checkpoint",
                        )
                with gr.Group():
                    upload = gr.File(
                        label="Video with sound", file_types=["video", "audio"], height=140, elem_id="clip"
                    )
                    most = f"At most {server.limits.megabytes:g} MB and {server.limits.seconds:g} s. "
                    gr.HTML(
                        f'<p class="hint">{most}Without a video, a clip of the procedural orchestra is attacked:</p>'
                    )
                    with gr.Row():
                        instrument = gr.Dropdown([*CLASSES], value=first[0], label="Instrument", min_width=120)
                        take = gr.Number(
                            first[1], label="Take", precision=0, minimum=0, maximum=TAKES - 1, min_width=90
                        )
                        start = gr.Number(0, label="From second", minimum=0, min_width=110)
                with gr.Group():
                    norm = gr.Radio(
                        [("largest change (L∞)", "linf"), ("energy (L2)", "l2")], value="linf", label="Budgets bound"
                    )
                    audio_on = gr.Checkbox(True, label=FORM["audio"], elem_id="audio-on")
                    audio = gr.Slider(
                        *AUDIO["linf"][:2],
                        step=AUDIO["linf"].step,
                        value=AUDIO["linf"].value,
                        label=AUDIO_LABEL["linf"],
                    )
                    visual_on = gr.Checkbox(True, label=FORM["visual"])
                    visual = gr.Slider(
                        *VISUAL["linf"][:2],
                        step=VISUAL["linf"].step,
                        value=VISUAL["linf"].value,
                        label=VISUAL_LABEL["linf"],
                    )
                    meaning = gr.Markdown(
                        Sliders(AUDIO["linf"].value, VISUAL["linf"].value).explained(),
                        elem_classes="budget",
                        padding=True,
                    )
                with gr.Group():
                    attack = gr.Dropdown([*ATTACKS], value="PGD", label="Attack")
                    steps = gr.Slider(1, 1000, step=1, value=20, label="Steps (of Square: queries; FGSM takes one)")
                    with gr.Accordion("Objective, true class, target, seed", open=False):
                        objective = gr.Dropdown([*OBJECTIVES], value=USUAL, label="Objective that the attack increases")
                        label = gr.Dropdown(
                            [OWN_PREDICTION],
                            value=OWN_PREDICTION,
                            label="True class",
                            allow_custom_value=True,
                            info="Of an orchestra clip, its instrument.",
                        )
                        target = gr.Dropdown([ANY], value=ANY, label="Target class", allow_custom_value=True)
                        lossless = gr.Checkbox(
                            False, label="Search among 8-bit pixels and 16-bit samples, which a lossless file can hold"
                        )
                        seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                with gr.Row():
                    go = gr.Button("Attack", variant="primary", elem_id="go")
                    stop = gr.Button("Stop", variant="stop", elem_id="stop")
                status = gr.HTML("", elem_classes="status", elem_id="status")
            with gr.Column(scale=7, min_width=320):
                shown = gr.HTML(START, elem_id="result")
                with gr.Row(visible=False) as more:
                    grid = gr.Button("Small plane: 5 × 5 pairs of budgets", elem_id="grid")
                    download = gr.DownloadButton("Download the adversarial clip (.zip, lossless)", elem_id="download")
                drawn = gr.HTML("", elem_id="plane")
        gr.Markdown(KEPT, elem_classes="budget")

        with examples:
            gr.Examples(
                [*EXAMPLES.values()], [instrument, take, audio_on, audio, visual_on, visual, attack, steps], label="Examples",
                example_labels=[*EXAMPLES], cache_examples=False, api_visibility="private", elem_id="examples",
            )  # fmt: skip
        sliders = [audio_on, audio, visual_on, visual, norm]
        at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        for part in sliders:
            part.change(meaning_of, sliders, meaning, **at_once)
        norm.change(ranges, [norm], [audio, visual], **at_once)
        everything = [
            model, checkpoint, upload, start, instrument, take, *sliders, attack, steps, objective, label, target, lossless, seed,
        ]  # fmt: skip
        work: dict[str, Any] = {"concurrency_id": "work", "concurrency_limit": 1, "api_visibility": "private"}
        for chosen in (model, checkpoint):
            chosen.change(server.classes, [model, checkpoint], [label, target, status], **work)
        cleared = go.click(lambda: "", None, [status], queue=False, api_visibility="private")
        running = cleared.then(
            server.attack,
            everything,
            [result, status, shown, drawn, more, download],
            show_progress_on=[status],
            **work,
        )
        exploring = grid.click(server.plane, [result], [drawn], **work)
        stop.click(server.stop, None, [status], queue=False, cancels=[running, exploring], api_visibility="private")
        page.load(server.classes, [model, checkpoint], [label, target, status], **work)
    return page
