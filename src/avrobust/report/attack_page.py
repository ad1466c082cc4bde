"""What `avrobust attack` wrote → one self-contained HTML page: the clean and the adversarial clip side by side.

Needs nothing but the core: `report.page` has figures, whose packages are an extra.
"""

import base64
import json
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from avrobust.evaluation.stats import percent
from avrobust.files import write_bytes
from avrobust.report.formatting import spaced, upright

TABLE = "predictions.json"
TYPES = {".mp4": "video/mp4", ".wav": "audio/wav", ".png": "image/png"}
FRAMES = 8  # of a clip: more of them say little


def html(folder: Path) -> str:
    """The page as text, from the table of predictions and the media beside it."""
    about: dict[str, Any] = json.loads((folder / TABLE).read_text())
    forms = {name: form(folder, name) for name in ("clean", "adversarial")}
    frames = [np.asarray(Image.open(folder / f"adversarial-{i}.png"), np.int16) for i in range(forms["clean"]["count"])]
    moved = max(
        (
            int(np.abs(frame - np.asarray(Image.open(folder / f"clean-{i}.png"), np.int16)).max())
            for i, frame in enumerate(frames)
        ),
        default=0,
    )
    content = {"about": about, "forms": forms, "moved": moved}
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("avrobust.report", "."), autoescape=True, trim_blocks=True, finalize=upright
    )
    made.filters |= {"percent": percent, "spaced": spaced}
    return made.get_template("templates/attack.html.j2").render(content)


def form(folder: Path, name: str) -> dict[str, Any]:
    """One form of the clip, clean or adversarial: its video, its audio without loss, and its first frames."""
    frames = sorted(folder.glob(f"{name}-*.png"), key=lambda file: (len(file.name), file.name))
    return {
        "video": uri(folder / f"{name}.mp4"), "audio": uri(folder / f"{name}.wav"),
        "frames": [uri(frame) for frame in frames[:FRAMES]], "count": len(frames),
    }  # fmt: skip


def uri(file: Path) -> str:
    """A media file as a data URI."""
    return f"data:{TYPES[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"


def write(folder: Path) -> Path:
    """Write the page beside the media, whole or not at all; returns its path."""
    return write_bytes(folder / "attack.html", html(folder).encode())
