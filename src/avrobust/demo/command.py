"""`avrobust demo`."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import tyro

from avrobust.cli.options import Device, Maybe, Packages, parse
from avrobust.demo.builtin import cache_folder
from avrobust.demo.work import Models, checkpoints_of
from avrobust.devices import device
from avrobust.extras import needs

ABOUT = """Open a page in the browser: attack one clip, see and hear what comes of it. Needs the extra avrobust[demo].

examples:
  avrobust demo                                               # a small network, trained on first use: about a minute
  avrobust demo --model models/mine/net.safetensors
  avrobust demo --run runs/quick                              # all models of a study

The page answers this machine only, unless --host says otherwise. Nothing is fetched, sent or kept.
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    model: Annotated[Maybe[Path], tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Checkpoint to attack."""
    run: Annotated[Maybe[Path], tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of a study: all its models can be chosen."""
    host: str = "127.0.0.1"
    """Address to answer at; 0.0.0.0 lets other machines in, whoever they are."""
    port: Maybe[int] = None
    """Port to answer at; default: the first free one from 7860."""
    device: Device = None
    cache: Maybe[Path] = None
    """Folder where the built-in network is kept; default: avrobust in the user's cache folder."""
    allow: Packages = ()
    """Packages that a checkpoint's own network and feature defense may be imported from, which runs their code."""


def main(argv: Sequence[str]) -> None:
    """Parse, serve the page until Ctrl-C, delete what it left."""
    options = parse(Options, argv, "demo", ABOUT)
    models = Models(
        checkpoints_of(options.model, options.run),
        options.cache or cache_folder(),
        device(options.device),
        allow=options.allow,
    )
    signal.signal(signal.SIGTERM, _end)
    with (
        tempfile.TemporaryDirectory(prefix="avrobust-demo-") as folder,
        served(models, Path(folder), host=options.host, port=options.port) as page,
    ):
        page.block_thread()


@contextmanager
def served(
    models: Models, folder: Path, *, host: str = "127.0.0.1", port: int | None = None, **settings: Any
) -> Iterator[Any]:
    """The page, answering at an address while the block runs; `folder` is where uploads and other files of its visitors lie.

    Raises `MissingExtraError` that says how to install Gradio where it is missing.
    """
    # Before Gradio is imported: it would ask its makers for the newest version, and report its use.
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", GRADIO_TEMP_DIR=str(folder))
    with needs("demo"):
        import gradio as gr
    from avrobust.demo.events import Server
    from avrobust.demo.page import FONT, LARGEST_UPLOAD, STYLE, build

    server = Server(models, folder, **settings)
    page = build(server).queue(max_size=16)
    page.launch(
        server_name=host, server_port=port, share=False, prevent_thread_lock=True, quiet=True, theme=gr.themes.Base(font=FONT),
        css_paths=STYLE, footer_links=[], run_history=False, enable_monitoring=False, mcp_server=False, ssr_mode=False, pwa=False,
        max_file_size=LARGEST_UPLOAD, show_error=True,
    )  # fmt: skip
    print(f"{page.local_url}  (Ctrl-C stops it)", file=sys.stderr, flush=True)
    try:
        yield page
    finally:
        server.jobs.end()
        page.close(verbose=False)


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
