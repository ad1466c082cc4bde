"""The audit finds what was planted, and nothing on a clean set."""

import errno
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from avrobust.data import layouts
from avrobust.data.audit import audit, sha256
from avrobust.data.manifest import Entry, Manifest
from avrobust.media import write_mp4, write_wav


def clip(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    write_mp4(
        path,
        rng.uniform(-0.5, 0.5, 4410).astype(np.float32),
        rng.integers(0, 256, (4, 32, 32, 3), np.uint8),
        11025,
        10.0,
    )


@pytest.fixture
def clean(tmp_path) -> Manifest:
    entries = []
    for n, (label, split) in enumerate((label, split) for label in ("cat", "dog") for split in ("train", "test")):
        clip(tmp_path / label / f"{n}.mp4", n)
        entries.append(
            Entry(
                f"{label}/{n}",
                label,
                split,
                Path(label, f"{n}.mp4"),
                sha256=sha256(tmp_path / label / f"{n}.mp4"),
            )
        )
    return Manifest(tmp_path, tuple(entries), name="pets")


def test_nothing_is_found_on_a_clean_set(clean):
    found = audit(clean, progress=False)
    nothing = (
        found.shared,
        found.related,
        found.repeated,
        found.copies,
        found.missing,
        found.unreadable,
        found.changed,
    )
    assert not any(nothing)
    assert found.summary().splitlines() == [
        "pets: 4 clips",
        "  train: you have 2 of 2 clips; 2 classes, 1 in each class",
        "  test: you have 2 of 2 clips; 2 classes, 1 in each class",
    ]


def test_everything_planted_is_found(clean):
    root = clean.root
    shutil.copy(root / "cat/0.mp4", root / "dog/copy.mp4")
    shutil.copy(root / "cat/0.mp4", root / "dog/cut-video-1_000010.mp4")
    with (root / "dog/cut-video-1_000010.mp4").open("ab") as file:
        file.write(b"\0" * 8)
    clip(root / "dog/cut-video-1_000020.mp4", 9)
    (root / "dog/empty.mp4").touch()
    write_wav(root / "dog/sound.wav", np.zeros(100, np.float32), 8000)
    planted = [
        Entry("dog/copy", "dog", "test", Path("dog/copy.mp4")),
        Entry("cat/0", "cat", "val", Path("cat/0.mp4")),
        Entry("cat/0", "cat", "val", Path("cat/0.mp4")),
        Entry("dog/cut1", "dog", "train", Path("dog/cut-video-1_000010.mp4")),
        Entry("dog/cut2", "dog", "test", Path("dog/cut-video-1_000020.mp4")),
        Entry("dog/gone", "dog", "test", Path("dog/gone.mp4")),
        Entry("dog/empty", "dog", "train", Path("dog/empty.mp4")),
        Entry("dog/sound", "dog", "train", Path("dog/sound.wav")),
        replace(clean.entries[3], id="dog/edited", sha256="0" * 64),
    ]
    found = audit(replace(clean, entries=clean.entries + tuple(planted)), progress=False)
    assert found.shared == {("train", "val"): ("cat/0",)}
    assert found.repeated == {"val": ("cat/0",)}
    assert found.related == {("train", "test"): ("cut-video-1",)}
    assert [{e.id for e in group} for group in found.copies] == [{"cat/0", "dog/copy"}]
    assert found.missing == {"test": ("dog/gone",)}
    assert found.unreadable.keys() == {"dog/empty", "dog/sound"}
    assert "no picture" in found.unreadable["dog/sound"]
    assert found.changed == ("dog/edited",)

    text = found.summary()
    assert "LEAK: 1 clip (cat/0) in both train and val" in text
    assert "LEAK: clips of 1 video (cut-video-1) in both train and test" in text
    assert "LEAK: files of 4 rows (cat/0, cat/0, cat/0, …) in train and val and test are the same" in text
    assert "test: you have 5 of 6 clips; 2 classes, 1 (cat) to 5 (dog) a class" in text
    assert "classes: none in val of 1 class (dog)" in text


def test_numbers_that_folders_repeat_are_no_leak(tmp_path):
    (tmp_path / "clips.csv").write_text("video,label,split\ntrain/dog/000.mp4,dog,train\ntest/cat/000.mp4,cat,test\n")
    assert not audit(Manifest.read(tmp_path / "clips.csv"), progress=False).related


def test_a_disk_that_fails_ends_no_audit(clean, monkeypatch):
    monkeypatch.setattr("avrobust.data.audit.probe", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    found = audit(clean, progress=False)
    assert len(found.unreadable) == len(clean)
    assert all("Input/output error" in reason for reason in found.unreadable.values())


def test_a_folder_without_numbered_frames_is_no_picture(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v/cover.jpg").touch()
    write_wav(tmp_path / "v.wav", np.zeros(100, np.float32), 8000)
    found = audit(Manifest(tmp_path, (Entry("v", "dog", "test", Path("v"), Path("v.wav")),)), progress=False)
    assert found.unreadable["v"].endswith("v: has no picture")


def test_the_leaks_of_the_published_lists(real_data):
    folder = real_data / "lists/AV-Robustness-CVPR21"
    found = audit(layouts.ave(folder), progress=False)
    assert {pair: len(ids) for pair, ids in found.shared.items()} == {
        ("train", "test"): 8,
        ("train", "val"): 10,
    }
    assert {"Acoustic_guitar/-9_5_2i4igQ"} <= set(found.shared["train", "test"])
    assert {split: len(ids) for split, ids in found.repeated.items()} == {"train": 27, "val": 1}
    assert "LEAK: 8 clips" in found.summary()
    for clean in (layouts.music, layouts.kinetics_sounds):
        found = audit(clean(folder), progress=False)
        assert not (found.shared or found.repeated or found.related)


def test_used_once_the_published_lists_leak_no_more(real_data):
    lists = layouts.ave(real_data / "lists/AV-Robustness-CVPR21")
    found = audit(lists.unique(), progress=False)
    assert not (found.shared or found.repeated or found.related)
    assert sum(found.counts["test"].values()) == 402


def test_how_much_of_a_list_is_there(real_data, tmp_path):
    lists = real_data / "lists/AV-Robustness-CVPR21"
    test = layouts.music(lists).select("test").entries
    for e in test[:96]:
        (tmp_path / e.video).parent.mkdir(exist_ok=True)
        shutil.copy(real_data / "media_samples/bbb_1s_vp8_vorbis.webm", (tmp_path / e.video).with_suffix(".webm"))
    found = audit(layouts.music(lists, tmp_path), progress=False)
    assert "test: you have 96 of 104 clips" in found.summary()
    assert "train: you have 0 of 312 clips" in found.summary()
    assert len(found.copies[0]) == 96


def test_real_sets_are_clean(real_data):
    for name in ("grid_s1_words", "instruments_av"):
        whole = Manifest.read(real_data / name / "manifest.csv")
        found = audit(replace(whole, entries=whole.entries[::20]), progress=False)
        assert not (found.shared or found.related or found.missing or found.unreadable or found.copies)
