"""Draw one clip of the orchestra flipping, step by step of PGD: docs/images/flip.gif, on top of the README and the site.

avrobust study quick
python docs/animation.py runs/quick data/prepared/orchestra-...
"""

import sys
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

import avrobust as avr
from avrobust.config import from_plain
from avrobust.data.store import Store
from avrobust.evaluation.one_clip import AttackedClip, attack_clip
from avrobust.training import StoredBatches, View, load

OUT = Path(__file__).parent / "images/flip.gif"
THREAT = avr.Threat.linf(audio="-44.4 dBFS", visual="2/255")
STEPS, CLIPS = 10, 40  # clips that are looked at for one that flips late
AUDIO, RIGHT, WRONG, OTHER = "#2a9d8f", "#264653", "#e76f51", "#c8d0d4"


def after(net: avr.models.Network, batch: avr.Batch, step: int, classes: tuple[str, ...]) -> AttackedClip:
    """The clip after so many steps of one and the same search: it begins at the clean clip, and its steps are of one length."""
    attack = avr.PGD(steps=max(step, 1), step=0.25, random_start=False, keep="last")
    threat = THREAT if step else avr.Threat.linf(audio=1e-9)
    label = int(batch.label[0])
    return attack_clip(net, batch.x, attack, threat, classes=classes, label=label, id=batch.ids[0])


def draw(clips: list[AttackedClip], step: int, shown: list[int]) -> Figure:
    """One picture: frame, change of the frame, spectrogram, classes."""
    clip, clean = clips[step], clips[0]
    figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.9), width_ratios=(1, 1, 1.35, 1.3), layout="constrained")
    frame, change = (
        s[0, 0].permute(1, 2, 0).numpy() for s in (clip.adversarial.visual, clip.adversarial.visual - clean.x.visual)
    )
    axes[0].imshow(frame)
    axes[0].set_title("what the model sees", fontsize=9)
    axes[1].imshow((0.5 + 40 * change).clip(0, 1))
    axes[1].set_title("change of video × 40", fontsize=9)
    axes[2].specgram(clip.adversarial.audio[0].numpy(), NFFT=256, noverlap=192, Fs=1, cmap="magma", vmin=-110, vmax=-10)
    axes[2].set_title("what it hears (spectrogram)", fontsize=9)
    for ax in axes[:3]:
        ax.set_xticks([])
        ax.set_yticks([])
    answer = clip.answers["adversarial"].probabilities if step else clip.answers["clean"].probabilities
    best = int(answer.argmax())
    colours = [RIGHT if k == clip.label else WRONG if k == best else OTHER for k in shown]
    axes[3].barh([clip.classes[k].replace("_", " ") for k in shown], answer[shown], color=colours)
    axes[3].set_xlim(0, 1)
    axes[3].invert_yaxis()
    axes[3].tick_params(labelsize=8)
    axes[3].spines[["top", "right"]].set_visible(False)
    axes[3].set_title("probability of each class", fontsize=9)
    said = f"{clip.classes[best].replace('_', ' ')}: {'correct' if best == clip.label else 'misclassified'}"
    where = "clean" if step == 0 else f"PGD step {step} of {STEPS}"
    figure.suptitle(f"{where} · audio −44 dBFS, video 2 of 255 grey levels · {said}", fontsize=10)
    return figure


def picture(figure: Figure) -> Image.Image:
    file = BytesIO()
    figure.savefig(file, dpi=90)
    plt.close(figure)
    return Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE, colors=128)


def main(run: Path, store_at: Path) -> None:
    torch.set_num_threads(1)
    net, meta = load(run / "models/AV-0/net.safetensors")
    store, classes = Store.open(store_at), tuple(meta["classes"])
    found: list[tuple[int, list[AttackedClip]]] = []
    for batch in StoredBatches(store, "test", from_plain(meta["view"], View), 1, CLIPS):
        ends = after(net, batch, STEPS, classes)
        if ends.answers["adversarial"].success and ends.answers["clean"].probabilities[ends.label] > 0.9:
            clips = [after(net, batch, step, classes) for step in range(STEPS + 1)]
            flip = next(i for i, clip in enumerate(clips) if i and clip.answers["adversarial"].success)
            found.append((flip, clips))
    flip, clips = max(found, key=lambda each: each[0])
    last = clips[-1].answers["adversarial"].probabilities + clips[0].answers["clean"].probabilities
    shown = [int(k) for k in np.argsort(-last)[:5]]
    pictures = [picture(draw(clips, step, shown)) for step in range(STEPS + 1)]
    times = [1600, *[350] * (STEPS - 1), 2400]
    pictures[0].save(OUT, save_all=True, append_images=pictures[1:], duration=times, loop=0, optimize=True)
    print(f"{OUT}: {len(found)} of {CLIPS} clips flip; this one at step {flip}; {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
