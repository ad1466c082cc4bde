"""The audit finds what was planted, and nothing on a clean set."""

import errno
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from avrobust.data import layouts
from avrobust.data.audit import audit, sha256
from avrobust.data.entry import Entry
from avrobust.data.manifest import Manifest
from avrobust.data.shortcuts import sample, shortcuts
from avrobust.media import write_mp4, write_png, write_wav
from avrobust.papers.tian2021 import lists as paper_lists
from movies import mux
from stubborn import damaged


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
    found = audit(clean, workers=1, progress=False)
    nothing = (
        found.shared_clips,
        found.shared_videos,
        found.repeated,
        found.copies,
        found.missing,
        found.unreadable,
        found.changed,
        found.unreadable_classes,
        found.shortcuts,
    )
    assert not any(nothing)
    assert found.clean
    assert found.summary().splitlines() == [
        "pets: 4 clips",
        "  train: 2 of 2 clips readable; 2 classes of 1 clip",
        "  test: 2 of 2 clips readable; 2 classes of 1 clip",
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
    found = audit(replace(clean, entries=clean.entries + tuple(planted)), workers=1, progress=False)
    assert found.shared_clips == {("train", "val"): ("cat/0",)}
    assert found.repeated == {"val": ("cat/0",)}
    assert found.shared_videos == {("train", "test"): ("cut-video-1",)}
    assert [{e.id for e in group} for group in found.copies] == [{"cat/0", "dog/copy"}]
    assert found.missing == {"test": ("dog/gone",)}
    assert found.unreadable.keys() == {"dog/empty", "dog/sound"}
    assert "no video stream" in found.unreadable["dog/sound"]
    assert found.changed == ("dog/edited",)
    assert not found.clean

    text = found.summary()
    assert "LEAK: 1 clip (cat/0) in both train and val" in text
    assert "LEAK: clips of 1 video (cut-video-1) in both train and test" in text
    assert "LEAK: identical files in train and val and test: 4 rows (cat/0, cat/0, cat/0, …)" in text
    assert "test: 5 of 6 clips readable; 2 classes of 1 (cat) to 5 (dog) clips" in text
    assert "classes: val has no clip of 1 class (dog)" in text


def test_what_cannot_be_read_is_not_had(clean):
    (clean.root / "cat/0.mp4").write_bytes(b"")
    (clean.root / "cat/1.mp4").unlink()
    text = audit(clean, workers=1, progress=False).summary()
    assert "train: 1 of 2 clips readable" in text
    assert "test: 1 of 2 clips readable" in text
    assert "unreadable: cat/0: " in text
    assert "CLASS LOST: train has no readable clip of 1 class (cat)" in text
    assert "missing: 1 clip (cat/1) of test" in text


def test_why_a_file_gives_no_sound_is_said(clean):
    write_wav(clean.root / "s.wav", np.zeros(8000, np.float32), 8000)
    data = bytearray((clean.root / "s.wav").read_bytes())
    data[24:28] = (1).to_bytes(4, "little")
    (clean.root / "s.wav").write_bytes(data)
    entry = replace(clean.entries[0], audio=Path("s.wav"))
    reason = audit(replace(clean, entries=(entry,)), workers=1, progress=False).unreadable["cat/0"]
    assert "s.wav: its audio has 1 Hz, expected 1000 to 768000 Hz" in reason


def clips_of(folder: Path, count: int, change, *, codec: str = "flac") -> Manifest:
    """Clips of noise of two classes; `change(wave, frames, options)` is done to those of one."""
    rng = np.random.default_rng(0)
    for n in range(count):
        for label in ("real", "fake"):
            wave, frames, options = rng.uniform(-0.3, 0.3, 11025), rng.integers(0, 256, (8, 32, 32, 3), np.uint8), {}
            wave *= rng.uniform(0.5, 1.0)
            if label == "fake":
                wave, frames, options = change(wave, frames)
            (folder / label).mkdir(parents=True, exist_ok=True)
            mux(
                folder / label / f"{n}.mp4",
                "mpeg4",
                options.pop("audio", codec),
                wave,
                frames,
                **{"rate": 11025} | options,
            )
    return layouts.folder(folder)


SHORTCUTS = {
    "duration of leading silence": lambda wave, frames: (np.r_[np.zeros(441), wave[441:]], frames, {}),
    "duration of trailing silence": lambda wave, frames: (np.r_[wave[:-441], np.zeros(441)], frames, {}),
    "duration": lambda wave, frames: (np.r_[wave, wave[:1500]], frames, {}),
    "loudness": lambda wave, frames: (wave / 5, frames, {}),
    "audio codec": lambda wave, frames: (wave, frames, {"audio": "pcm_s16le"}),
    "sample rate": lambda wave, frames: (np.repeat(wave, 2), frames, {"rate": 22050}),
    "frame size": lambda wave, frames: (wave, np.repeat(frames, 2, axis=1), {}),
    "frame rate": lambda wave, frames: (wave, frames, {"times": [n / 20 for n in range(8)]}),
}  # fmt: skip


@pytest.mark.parametrize("fact", SHORTCUTS)
def test_one_number_that_tells_the_classes_apart_is_found(tmp_path, fact):
    found = audit(clips_of(tmp_path, 12, SHORTCUTS[fact]), workers=1, progress=False)
    assert fact in {shortcut.name for shortcut in found.shortcuts}
    assert f"SHORTCUT: {fact} alone predicts the class: 24 of 24 clips" in found.summary()
    assert not found.clean


def test_classes_that_are_made_alike_have_no_shortcut(tmp_path):
    found = audit(clips_of(tmp_path, 20, lambda wave, frames: (wave, frames, {})), workers=1, progress=False)
    assert found.shortcuts == ()
    assert found.sampled == 40


def facts_of(labels: str, values: list[float | str]) -> list:
    return [(Entry(str(n), label, "train", Path(f"{n}.mp4")), {"fact": value}) for n, (label, value) in enumerate(zip(labels, values, strict=True))]  # fmt: skip


def test_a_number_that_says_nothing_is_no_shortcut():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(200):  # numbers, few numbers, words; classes of one size and of several
        labels = "".join(rng.permutation(list("aabbccccdddd" * 5)))
        kinds = (rng.random(60), rng.integers(0, 3, 60).astype(float), rng.choice(["h264", "vp9"], 60))
        found += sum(len(shortcuts(facts_of(labels, list(values)))) for values in kinds)
    assert found <= 2  # of 600, at one in a thousand


def test_one_class_among_many_is_found():
    labels = "abcdefghij" * 6
    values = ["vp9" if label == "d" else "h264" for label in labels]
    (found,) = shortcuts(facts_of(labels, values))
    assert str(found) == "fact alone predicts which clips are 'd': 60 of 60 clips"


def test_clips_of_one_recording_do_not_tell_of_each_other():
    rng = np.random.default_rng(0)
    entries, loud = [], rng.random(10)
    for video in range(10):  # ten recordings of ten clips each, each recording of its own loudness
        for n in range(10):
            path = Path(f"{video:011d}_{n:06d}.mp4")
            entries.append((Entry(f"{video}/{n}", "ab"[video % 2], "train", path), {"loudness": float(loud[video])}))
    assert shortcuts(entries) == ()


def test_a_sample_is_of_each_class_alike_and_by_names_alone():
    entries = [Entry(f"{label}{n}", label, "train", Path(f"{label}{n}.mp4")) for label, count in (("a", 900), ("b", 40), ("c", 300)) for n in range(count)]  # fmt: skip
    chosen = sample(entries, 120)
    assert Counter(e.label for e in chosen) == {"a": 40, "b": 40, "c": 40}
    assert {e.id for e in sample(entries[::-1], 120)} == {e.id for e in chosen}


def test_a_file_that_two_splits_share_is_a_leak_whatever_the_table_calls_its_recordings(tmp_path):
    write_wav(tmp_path / "s.wav", np.full(800, 0.5), 8000)
    for n in range(3):
        write_png(tmp_path / f"{n}.png", np.full((8, 8, 3), n / 4))

    def clip(n, split, recording):
        return Entry(f"{n}", "dog", split, Path(f"{n}.png"), Path("s.wav"), extra={"recording": recording})

    def found(*clips):
        return audit(Manifest(tmp_path, clips), workers=1, progress=False)

    leak = found(clip(0, "train", "a"), clip(1, "test", "b"), clip(2, "test", "c"))
    assert not leak.clean and "LEAK: identical files in train and test: 3 rows (0, 1, 2)" in leak.summary()
    assert found(clip(0, "train", "a"), clip(1, "train", "b")).copies == ()  # within a split it may be meant
    one = found(clip(0, "train", "a"), clip(1, "test", "a"))
    assert one.copies == () and one.shared_videos == {("train", "test"): ("a",)}


def test_a_sha256_in_capitals_is_one_and_a_folder_has_none(clean):
    files, root = [clean.root / e.video for e in clean.entries[:2]], clean.root
    write_png(root / "frames/1.png", np.zeros((8, 8, 3)))
    write_wav(root / "s.wav", np.full(800, 0.5), 8000)
    rows = [f"{file.relative_to(root)},,cat,train,{sha256(file).upper()}" for file in files]
    rows += [f"frames,s.wav,cat,train,{'0' * 64}"]
    (root / "t.csv").write_text("\n".join(["video,audio,label,split,sha256", *rows]) + "\n")
    found = audit(Manifest.read(root / "t.csv"), workers=1, progress=False)
    assert found.changed == ("frames",) and not found.unreadable


def test_numbers_that_folders_repeat_are_no_leak(tmp_path):
    (tmp_path / "clips.csv").write_text("video,label,split\ntrain/dog/000.mp4,dog,train\ntest/cat/000.mp4,cat,test\n")
    assert not audit(Manifest.read(tmp_path / "clips.csv"), workers=1, progress=False).shared_videos


def test_a_disk_that_fails_ends_no_audit(clean, monkeypatch):
    monkeypatch.setattr("avrobust.data.examine.probe", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    found = audit(clean, workers=1, progress=False)
    assert len(found.unreadable) == len(clean)
    assert all("Input/output error" in reason for reason in found.unreadable.values())


def test_a_file_that_kills_or_hangs_its_process_costs_one_clip(clean, monkeypatch):
    monkeypatch.setattr("avrobust.data.audit.examine", damaged)
    monkeypatch.setattr("avrobust.data.audit.TIME_LIMIT", 2.0)
    found = audit(clean, workers=2, progress=False)
    root = clean.root / "cat"
    assert found.unreadable == {
        "cat/0": f"{root / '0.mp4'}: opening killed its process",
        "cat/1": f"{root / '1.mp4'}: opening took longer than 2 s",
    }
    assert found.sampled == 2


def test_a_folder_without_numbered_frames_is_no_picture(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v/cover.jpg").touch()
    write_wav(tmp_path / "v.wav", np.zeros(100, np.float32), 8000)
    found = audit(Manifest(tmp_path, (Entry("v", "dog", "test", Path("v"), Path("v.wav")),)), workers=1, progress=False)
    assert found.unreadable["v"].endswith("v: has no numbered frames")


def test_the_leaks_of_the_published_lists(real_data):
    folder = real_data / "lists/AV-Robustness-CVPR21"
    found = audit(paper_lists.ave(folder), workers=1, progress=False)
    assert {pair: len(ids) for pair, ids in found.shared_clips.items()} == {
        ("train", "test"): 8,
        ("train", "val"): 10,
    }
    assert {"Acoustic_guitar/-9_5_2i4igQ"} <= set(found.shared_clips["train", "test"])
    assert {split: len(ids) for split, ids in found.repeated.items()} == {"train": 27, "val": 1}
    assert "LEAK: 8 clips" in found.summary()
    for clean in (paper_lists.music, paper_lists.kinetics_sounds):
        found = audit(clean(folder), workers=1, progress=False)
        assert not (found.shared_clips or found.repeated or found.shared_videos)


def test_used_once_the_published_lists_leak_no_more(real_data):
    lists = paper_lists.ave(real_data / "lists/AV-Robustness-CVPR21")
    found = audit(lists.unique(), workers=1, progress=False)
    assert not (found.shared_clips or found.repeated or found.shared_videos)
    assert sum(found.counts["test"].values()) == 402


def test_how_much_of_a_list_is_there(real_data, tmp_path):
    lists = real_data / "lists/AV-Robustness-CVPR21"
    test = paper_lists.music(lists).select("test").entries
    for e in test[:96]:
        (tmp_path / e.video).parent.mkdir(exist_ok=True)
        shutil.copy(real_data / "media_samples/bbb_1s_vp8_vorbis.webm", (tmp_path / e.video).with_suffix(".webm"))
    found = audit(paper_lists.music(lists, tmp_path), workers=1, progress=False)
    assert "test: 96 of 104 clips readable" in found.summary()
    assert "train: 0 of 312 clips readable" in found.summary()
    assert len(found.copies[0]) == 96


def test_real_sets_are_clean(real_data):
    for name in ("grid_s1_words", "instruments_av"):
        whole = Manifest.read(real_data / name / "manifest.csv")
        found = audit(replace(whole, entries=whole.entries[::20]), workers=1, progress=False)
        assert not (found.shared_clips or found.shared_videos or found.missing or found.unreadable or found.copies)
