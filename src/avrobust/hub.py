"""Checkpoints on the Hugging Face hub, as "hf://owner/name": fetched when one is opened, into the hub's own cache."""

import re
from pathlib import Path

from avrobust.extras import needs

NET = "net.safetensors"  # the checkpoint in a repository, or in a folder
ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?")


def is_address(text: Path | str) -> bool:
    """Whether this is an address on the hub rather than a path.

    >>> is_address("hf://someone/net"), is_address("models/net.safetensors")
    (True, False)
    """
    return str(text).startswith("hf:/")


def local(place: Path | str) -> Path:
    """The checkpoint's file on this machine: that of a folder, or of "hf://owner/name", fetched where it is not here yet.

    "hf://owner/name@revision" is a branch, a tag or a commit of it.  Of a repository, one file is fetched, and it is a
    safetensors file: nothing in it is run.  Raises `ValueError` for another address, and `OSError` where it cannot be had.
    """
    if not is_address(place):
        return Path(place, NET) if Path(place, NET).is_file() else Path(place)
    if not (found := ADDRESS.fullmatch(str(place))):
        raise ValueError(
            f"expected hf://owner/name or hf://owner/name@revision, got {str(place)!r}. Write it like that."
        )
    with needs("hub"):
        from huggingface_hub import hf_hub_download
    try:
        return Path(hf_hub_download(found["repo"], NET, revision=found["revision"]))
    except OSError as error:
        reason = " ".join(str(error).split())
        raise OSError(
            f"{place}: expected a repository with {NET}, here in the cache or on the hub, got: {reason} Check the name, "
            "sign in where it is private (hf auth login), or download it on a machine that is online and give that folder."
        ) from error
