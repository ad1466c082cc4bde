"""Memory that is kept between steps stays with the process; what lies apart goes back when it is freed."""

import platform
import subprocess
import sys

import pytest

CODE = """
from contextlib import nullcontext
from pathlib import Path
from avrobust.allocator import apart, keep_memory

def resident():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 2**10

assert keep_memory()
for inside in (apart, nullcontext, nullcontext):
    before = resident()
    with inside():
        blocks = [b"x" * 2**25 for _ in range(2)]
    full = resident()
    del blocks
    print(round(full - before), round(resident() - before))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is set")
def test_what_lies_apart_goes_back_when_it_is_freed():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    apart, kept, again = (tuple(map(int, line.split())) for line in done.stdout.splitlines())
    assert apart[0] >= 63 and apart[1] <= 1  # MB, of 64
    assert kept[0] >= 63 and kept[1] >= 63
    assert again[0] <= 1  # what was kept is used again
