"""The README's examples, run with the package as it is installed: `make dist` calls it away from the checkout."""

import re
import sys
import time
from importlib.metadata import metadata

start = time.perf_counter()
import avrobust as avr  # noqa: E402, timed

took, modules = time.perf_counter() - start, len(sys.modules)

import torch  # noqa: E402
from their_model import make  # noqa: E402

from nets import clips, network  # noqa: E402

assert "site-packages" in avr.__file__, f"expected the installed package, got {avr.__file__}"
my_net, wave, frames, y = make()
names = {
    "avr": avr, "torch": torch, "my_net": my_net, "wave": wave, "frames": frames, "y": y,
    "net": network(), "training_batches": [clips(12)],
}  # fmt: skip
blocks = re.findall(r"```python\n(.*?)```", metadata("avrobust").get_payload(), re.S)
assert blocks
for block in blocks:
    exec(block, names)
loaded = {name.partition(".")[0] for name in sys.modules}
heavy = loaded & {"transformers", "accelerate", "sklearn", "matplotlib", "gradio", "ray", "datasets"}
assert not heavy, f"the README's examples import {sorted(heavy)}"
print(f"{len(blocks)} examples of the README run; import avrobust: {took * 1e3:.1f} ms, {modules} modules")
