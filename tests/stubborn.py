"""What a worker process of an audit does with files that kill or hold up whoever opens them."""

import os
import time

from avrobust.data.examine import Files, Finding, examine


def damaged(files: Files) -> Finding:
    """As a decoder that one file kills and another one holds up for ever."""
    if files.video.name == "0.mp4":
        os._exit(1)
    if files.video.name == "1.mp4":
        time.sleep(3600)
    return examine(files)
