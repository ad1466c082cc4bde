"""A user's own loaders, with their parts named: taken lazily and again, what is wrong is said on the first batch."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import avrobust as avr
from avrobust.types import InputError

WAVE, IMAGE, Y = torch.linspace(-1, 1, 40).reshape(5, 8), torch.rand(5, 3, 4, 4), torch.tensor([0, 1, 2, 0, 1])
FRAMES = IMAGE[:, None]


class Clips(torch.utils.data.Dataset):
    """As many people have them: a dict for each clip."""

    made = 0

    def __init__(self, wave=WAVE, image=IMAGE, y=Y) -> None:
        self.wave, self.image, self.y = wave, image, y

    def __len__(self) -> int:
        return len(self.wave)

    def __getitem__(self, i: int) -> dict:
        self.made += 1
        return {"wav": self.wave[i], "image": self.image[i], "y": self.y[i], "file": f"{i}.mp4", "sr": 16000 + (i == 4)}


def same(found) -> None:
    batch = avr.Batch.join(found)
    assert torch.equal(batch.x.audio, WAVE) and torch.equal(batch.x.visual, FRAMES) and torch.equal(batch.label, Y)


def with_frames(d):
    return d["image"][:, None]


def test_dicts_tuples_and_objects_are_taken_by_name_position_and_function():
    loader = DataLoader(Clips(), batch_size=2)
    named = avr.batches(loader, audio="wav", visual=with_frames, label="y", ids="file")
    same(named)
    assert [b.ids for b in named] == [("0.mp4", "1.mp4"), ("2.mp4", "3.mp4"), ("4.mp4",)]
    same(avr.batches(DataLoader(TensorDataset(Y, FRAMES, WAVE), batch_size=2), audio=2, visual=1, label=0))
    same(avr.batches([SimpleNamespace(a=WAVE, v=FRAMES, y=Y)], audio="a", visual="v", label="y"))
    same(avr.batches([{"a": WAVE.numpy(), "v": FRAMES.numpy(), "y": Y.tolist()}], audio="a", visual="v", label="y"))


def test_batches_are_made_when_they_are_needed_and_again_in_each_pass():
    clips = Clips()
    named = avr.batches(DataLoader(clips, batch_size=2), audio="wav", visual=with_frames, label="y")
    assert clips.made == 2
    for passes in (1, 2):
        same(named)
        assert clips.made == 2 + 5 * passes


def test_the_harness_takes_them():
    torch.manual_seed(0)
    weights = torch.randn(8 + 48, 3)
    net = lambda x: torch.cat([x.audio.flatten(1), x.visual.flatten(1)], 1) @ weights.to(x.audio)  # noqa: E731
    named = avr.batches(DataLoader(Clips(), batch_size=2), audio="wav", visual=with_frames, label="y", ids="file")
    rows = avr.evaluate(net, named, [avr.FGSM()], avr.Threat.linf(audio=0.01, visual="4/255"))
    assert set(rows.column("clip")) == {f"{i}.mp4" for i in range(5)}


def test_labels_of_several_classes_stay_as_they_are():
    y = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    (batch,) = avr.batches([(WAVE, FRAMES, y)], audio=0, visual=1, label=2)
    assert torch.equal(batch.label, y)


NAMES = {"audio": "wav", "visual": with_frames, "label": "y"}


@pytest.mark.parametrize(
    ("loader", "names", "says"),
    [
        (DataLoader(Clips(), 2), NAMES | {"audio": "wave"}, r"expected audio at 'wave' in a batch, got a dict of 'wav' Tensor \(2, 8\), 'image'"),
        (DataLoader(Clips(), 2), NAMES | {"visual": "image"}, r"visual should be shaped \(b t 3 h w\), got \(2, 3, 4, 4\)\. A single frame"),
        (DataLoader(Clips(), 2), NAMES | {"visual": lambda d: d["image"].nothing}, r"expected visual at <function .*AttributeError"),
        (DataLoader(Clips(wave=WAVE[:, None]), 2), NAMES, r"audio should be shaped \(b n\), got \(2, 1, 8\)\. Give wave\[:, 0\]"),
        (DataLoader(Clips(wave=4 * WAVE), 5), NAMES, r"audio should lie in \[-1, 1\], got \[-4, 4\]"),
        (DataLoader(Clips(image=(255 * IMAGE).byte()), 2), NAMES, "visual should be float32 in .* Divide 8-bit frames by 255"),
        (DataLoader(Clips(), 5), NAMES | {"rates": "sr"}, "expected audio at one sample rate, got 16000, 16001 Hz"),
        (DataLoader(Clips(), 2), NAMES | {"rates": "sr", "rate": 11025}, "got 11025, 16000 Hz"),
        (DataLoader(Clips(), 2, shuffle=True), NAMES, r"a DataLoader that shuffles\. Give shuffle=False"),
        (DataLoader(Clips(), 2, drop_last=True), NAMES, "expected every clip, got a DataLoader that leaves out the last 1"),
        (iter([(WAVE, FRAMES, Y)]), NAMES, "expected a loader that can be gone through again"),
        (Clips(), NAMES, r"got the dataset Clips\. Give DataLoader"),
        ([], NAMES, "expected a loader with clips, got an empty one"),
        ([(WAVE, FRAMES)], {"audio": 0, "visual": 1, "label": 2}, r"expected label at 2 in a batch, got a tuple of 0: Tensor \(5, 8\)"),
        ([(WAVE, FRAMES, Y[:4])], {"audio": 0, "visual": 1, "label": 2}, "expected a label for each clip, got 5 clips and 4 labels"),
        ([(WAVE, FRAMES, np.array(["dog"] * 5))], {"audio": 0, "visual": 1, "label": 2}, "label should be a tensor or an array"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_on_the_first_batch(loader, names, says):
    with pytest.raises(InputError, match=says):
        avr.batches(loader, **names)
