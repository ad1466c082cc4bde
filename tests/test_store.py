"""Prepared clips: what was decoded comes back bit for bit, only what is new is decoded, nothing bad becomes zeros."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from av.container import InputContainer
from av.error import err_check

from avrobust.data import prepare as preparing
from avrobust.data import shards
from avrobust.data import store as stores
from avrobust.data.entry import Entry, ManifestError
from avrobust.data.frames import read_clip
from avrobust.data.manifest import Manifest
from avrobust.data.prepare import STOPPED, prepare
from avrobust.data.store import Store, StoreError, box_in_window
from avrobust.media import ClipSpec, MediaError, container, write_mp4, write_png, write_wav
from avrobust.media.decode import decode
from avrobust.media.errors import TEMPORARY
from avrobust.study.selftest import study
from avrobust.study.worker import Bench

SPEC = ClipSpec(seconds=0.4, rate=8000, fps=5, size=16)


def video(path: Path, seed: int, height: int = 32, width: int = 48) -> None:
    rng = np.random.default_rng(seed)
    wave = rng.uniform(-0.5, 0.5, 8000).astype(np.float32)
    write_mp4(path, wave, rng.integers(0, 256, (10, height, width, 3), np.uint8), 8000, 10.0)


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    """Four clips and three that are none: one is missing, one is empty, one has no picture."""
    root = tmp_path / "media"
    entries = []
    for n, split in enumerate(("train", "train", "val", "test")):
        video(root / f"{n}.mp4", n)
        entries.append(
            Entry(
                f"clip{n}",
                "cat" if n % 2 else "dog",
                split,
                Path(f"{n}.mp4"),
                box=(0.0, 0.25, 0.5, 1.0),
                start=0.1 * n,
            )
        )
    (root / "empty.mp4").touch()
    write_wav(root / "sound.wav", np.zeros(8000, np.float32), 8000)
    entries += [
        Entry(name, "dog", "test", Path(file))
        for name, file in (("gone", "gone.mp4"), ("empty", "empty.mp4"), ("sound", "sound.wav"))
    ]
    return Manifest(root, tuple(entries), ("dog", "cat"), "pets")


def made(manifest: Manifest, out: Path, **options) -> Store:
    return prepare(manifest, SPEC, out, workers=1, progress=False, **options)


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The names of the files that were decoded, in this process."""
    names = []

    def spy(video, *arguments, **options):
        names.append(video.name)
        return read_clip(video, *arguments, **options)

    monkeypatch.setattr(preparing, "read_clip", spy)
    return names


def test_what_was_decoded_comes_back_bit_for_bit(manifest, tmp_path):
    store = made(manifest, tmp_path / "out")
    assert store.ids() == ("clip0", "clip1", "clip2", "clip3")
    assert store.ids("train") == ("clip0", "clip1")
    for e in manifest.entries[:4]:
        got, expected = store[e.id], decode(manifest.root / e.video, SPEC, start=e.start)
        assert got.wave.dtype == np.float32
        assert got.frames.dtype == np.uint8
        assert np.array_equal(got.wave, expected.wave)
        assert np.array_equal(got.frames, expected.frames)
        assert (got.window, got.notes) == (expected.window, expected.notes)
    assert [store.label(id) for id in store.ids()] == [0, 1, 0, 1]
    assert (store.name, store.classes, store.spec, len(store)) == ("pets", ("dog", "cat"), SPEC, 4)
    assert not store["clip0"].wave.flags.owndata
    assert not store["clip0"].frames.flags.owndata


def test_what_cannot_be_decoded_has_a_reason_and_no_zeros(manifest, tmp_path):
    store = made(manifest, tmp_path / "out")
    assert store.counts("test") == (1, 4)
    assert store.counts("train") == (2, 2)
    reasons = {id: (file, reason) for id, file, reason in store.failures}
    assert reasons.keys() == {"gone", "empty", "sound"}
    assert reasons["gone"] == ("gone.mp4", "missing: gone.mp4 (No such file or directory)")
    assert "empty" in reasons["empty"][1]
    assert "no video stream" in reasons["sound"][1]
    assert "empty" not in store
    with pytest.raises(StoreError, match="clip 'empty' could not be prepared: "):
        store["empty"]
    with pytest.raises(KeyError, match="got 'nobody'"):
        store["nobody"]


def test_a_class_without_readable_clips_in_a_split_is_an_error(manifest, tmp_path):
    store = made(manifest, tmp_path / "out")
    listed = {(e.split, e.label) for e in manifest.entries}
    readable = {(e.split, e.label) for e in manifest.entries if e.id in store}
    assert {(s, label) for s in ("train", "val", "test") for label in store.unreadable_classes(s)} == listed - readable
    gone = replace(manifest, entries=tuple(e for e in manifest.entries if e.label != "cat" or e.split != "train"))
    lost = Entry("lost", "cat", "train", Path("empty.mp4"))
    store = made(replace(gone, entries=(*gone.entries, lost)), tmp_path / "out")
    assert list(store.unreadable_classes("train")) == ["cat"]
    with pytest.raises(StoreError, match=r"expected clips of 'cat' .* read: empty\.mp4: .*--classes"):
        store.require_classes("train")


def test_a_second_run_decodes_only_what_is_new(manifest, tmp_path, decoded):
    out = tmp_path / "out"
    first = made(replace(manifest, entries=manifest.entries[:2]), out)
    assert decoded == ["0.mp4", "1.mp4"]
    second = made(manifest, out)
    assert decoded[2:] == ["2.mp4", "3.mp4", "empty.mp4", "sound.wav"]
    third = made(manifest, out)
    assert len(decoded) == 6
    assert np.array_equal(first["clip1"].wave, third["clip1"].wave)
    assert second.sha256 == third.sha256 != first.sha256

    video(manifest.root / "1.mp4", 77)  # changed, so decoded again, and no other
    shutil.copy(manifest.root / "0.mp4", manifest.root / "empty.mp4")  # mended
    shutil.copy(manifest.root / "0.mp4", manifest.root / "gone.mp4")  # found
    fourth = made(manifest, out)
    assert sorted(decoded[6:]) == ["1.mp4", "empty.mp4", "gone.mp4"]
    assert fourth.counts("test") == (3, 4)
    assert not np.array_equal(first["clip1"].wave, fourth["clip1"].wave)

    later = tuple(replace(e, start=e.start + 0.05, label="cat") for e in manifest.entries[:1])
    assert made(replace(manifest, entries=later), out).label("clip0") == 1
    assert decoded[9:] == ["0.mp4"]


def test_what_may_pass_is_tried_again(manifest, tmp_path, monkeypatch):
    def unlucky(*arguments, **options):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "read_clip", unlucky)
        store = made(manifest, tmp_path / "out")
    assert not store.ids()
    assert ("clip0", "0.mp4", "cannot be opened (Too many open files)") in store.failures
    assert len(made(manifest, tmp_path / "out")) == 4


@pytest.mark.parametrize("number", sorted(TEMPORARY), ids=errno.errorcode.get)
@pytest.mark.parametrize("where", ["opening", "within"])
def test_a_disk_that_fails_for_a_while_costs_no_clip(manifest, tmp_path, monkeypatch, number, where):
    def fails(*arguments):
        err_check(-number)  # FFmpeg's errors: that of too little memory is no OSError

    def broken():
        raise OSError(number, os.strerror(number))

    class Failing:
        """A container that gives no packets."""

        __class__ = InputContainer  # for the check of types

        def __init__(self, real):
            self.real = real

        def demux(self):
            fails()

        def __getattr__(self, name):
            return getattr(self.real, name)

    clips = replace(manifest, entries=manifest.entries[:1])
    opened = container._open
    with monkeypatch.context() as patch:
        patch.setattr(container, "_open", fails if where == "opening" else lambda path: Failing(opened(path)))
        if number == errno.EIO and where == "opening":
            # Of a file that can be read, EIO says that its head is cut short.
            real = Path.open
            patch.setattr(
                Path, "open", lambda path, *a, **k: broken() if path.suffix == ".mp4" else real(path, *a, **k)
            )
        store = made(clips, tmp_path / "out")
    ((_, _, reason),) = store.failures
    assert reason == f"cannot be opened ({os.strerror(number)})"
    assert len(made(clips, tmp_path / "out")) == 1


def test_a_head_cut_short_is_no_failing_disk(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as made_by_av:
        stream = made_by_av.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 16
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))
        made_by_av.mux([*stream.encode(frame), *stream.encode(None)])
    whole = (tmp_path / "a.mkv").read_bytes()
    for size in (40, 60, 100, 200, 300):
        (tmp_path / "a.mkv").write_bytes(whole[:size])
        with pytest.raises(MediaError):
            decode(tmp_path / "a.mkv", SPEC)


def test_other_labels_and_splits_need_no_decoding(manifest, tmp_path, decoded):
    made(manifest, tmp_path / "out")
    count = len(decoded)
    swapped = tuple(replace(e, label="cat", split="val") for e in manifest.entries)
    store = made(replace(manifest, entries=swapped), tmp_path / "out")
    assert len(decoded) == count
    assert store.counts("val") == (4, 7)
    assert store.label("clip0") == 1


def test_multi_label_clips_and_their_tags_come_back(manifest, tmp_path):
    first, second, third, *_ = manifest.entries
    clips = (
        replace(first, label=("cat", "dog"), tags=("audible", "both")),
        replace(second, label=("bird",), split="train", tags=("visible",)),
        replace(third, label=(), split="train", tags=()),
    )
    single = made(manifest, tmp_path / "out").sha256
    store = made(replace(manifest, entries=clips, classes=("dog", "cat", "bird")), tmp_path / "out")
    assert [store.label(id) for id in store.ids()] == [(1.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)]
    assert store.tags == {"clip0": {"cat": "audible", "dog": "both"}, "clip1": {"bird": "visible"}}
    assert store.sha256 != single
    assert store.unreadable_classes("train") == {}


def test_another_decoder_tries_everything_again(manifest, tmp_path, decoded, monkeypatch):
    made(manifest, tmp_path / "out")
    tried = {*decoded}
    assert tried >= {"0.mp4", "empty.mp4"}
    for decoder in ((99, preparing.DECODER[1]), (preparing.DECODER[0], "99")):
        decoded.clear()
        monkeypatch.setattr(preparing, "DECODER", decoder)
        made(manifest, tmp_path / "out")
        assert {*decoded} == tried


def test_a_table_of_another_version_is_refused_and_prepared_again(manifest, tmp_path, decoded):
    out = made(manifest, tmp_path / "out").path
    count = len(decoded)
    table = pq.read_table(out / "table.parquet")
    about = json.loads(table.schema.metadata[b"avrobust"]) | {"version": 1}
    pq.write_table(table.replace_schema_metadata({"avrobust": json.dumps(about)}), out / "table.parquet")
    with pytest.raises(
        StoreError, match=r"table\.parquet: .* got one of version 1\. Prepare again; finished clips are kept"
    ):
        Store.open(out)
    made(replace(manifest, entries=manifest.entries[:4]), out)
    assert len(decoded) == count


def test_processes_give_the_same_store(manifest, tmp_path):
    alone = made(manifest, tmp_path / "one")
    side_by_side = prepare(manifest, SPEC, tmp_path / "two", workers=2, progress=False)
    assert side_by_side.sha256 == alone.sha256
    assert side_by_side.failures == alone.failures


def damaged(task: preparing.Task) -> preparing.Failure:
    """As a decoder that one file kills and another one holds up for ever."""
    if task.video.name == "0.mp4":
        os._exit(1)
    if task.video.name == "5.mp4":
        time.sleep(3600)
    return preparing.Failure(f"read {task.video.name}", True)


def test_a_file_that_kills_or_hangs_its_process_costs_one_clip(monkeypatch):
    monkeypatch.setattr(preparing, "attempt", damaged)
    monkeypatch.setattr(preparing, "time_limit", lambda task: 2.0)
    tasks = [preparing.Task(str(n), Path(f"{n}.mp4"), None, 0.0, None, SPEC) for n in range(12)]
    came = [(task.key, tuple(result)) for task, result in preparing.decoded(tasks, 2)]
    expected = {str(n): (f"read {n}.mp4", True) for n in range(12)}
    expected |= {"0": ("decoding killed its process", False), "5": ("decoding took longer than 2 s", False)}
    assert came == list(expected.items())  # in order


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_a_stopped_run_keeps_what_it_finished(manifest, tmp_path, monkeypatch, stop):
    def until_two(video, *arguments, **options):
        if video.name == "2.mp4":
            raise stop
        return read_clip(video, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "read_clip", until_two)
        with pytest.raises(stop):
            made(manifest, tmp_path / "out")
    half = Store.open(tmp_path / "out")
    assert half.ids() == ("clip0", "clip1")
    assert ("clip2", "2.mp4", STOPPED.reason) in half.failures
    whole = made(manifest, tmp_path / "out")
    assert whole.ids() == ("clip0", "clip1", "clip2", "clip3")
    assert whole.sha256 == made(manifest, tmp_path / "fresh").sha256


def test_a_killed_run_loses_at_most_a_shard_and_leaves_no_process(manifest, tmp_path):
    for n in range(4, 60):
        shutil.copy(manifest.root / "0.mp4", manifest.root / f"{n}.mp4")
    many = replace(manifest, entries=tuple(Entry(f"clip{n}", "dog", "train", Path(f"{n}.mp4")) for n in range(60)))
    many.write(manifest.root / "all.csv")
    script = tmp_path / "run.py"
    script.write_text(
        "from avrobust.data import prepare as p\nfrom avrobust.data.manifest import Manifest\nfrom avrobust.media import ClipSpec\n"
        f"p.SHARD_BYTES = 1\nif __name__ == '__main__':\n    p.prepare(Manifest.read({str(manifest.root / 'all.csv')!r}), {SPEC!r}, {str(tmp_path / 'out')!r}, workers=2)\n"
    )
    run = subprocess.Popen(
        [sys.executable, script], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.time() + 60
    while len(list((tmp_path / "out").glob(shards.PATTERN))) < 3 and run.poll() is None and time.time() < deadline:
        time.sleep(0.005)
    run.kill()
    run.wait()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob(shards.PATTERN)}
    assert len(kept) >= 3
    while time.time() < deadline:  # the workers notice that they are alone
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("workers outlived their parent")
    store = made(many, tmp_path / "out")
    assert len(store) == 60
    assert all(path.stat().st_mtime_ns == changed for path, changed in kept.items())


def test_several_shards_read_as_one_and_a_damaged_one_is_made_again(manifest, tmp_path, monkeypatch, decoded):
    monkeypatch.setattr(preparing, "SHARD_BYTES", 2 * shards.clip_bytes(SPEC))
    store = made(manifest, tmp_path / "out")
    files = sorted((tmp_path / "out").glob(shards.PATTERN))
    assert len(files) == 2
    assert store.sha256 == made(manifest, tmp_path / "other").sha256
    decoded.clear()
    os.truncate(files[0], files[0].stat().st_size // 2)
    again = made(manifest, tmp_path / "out")
    assert len(decoded) == 2
    assert again.sha256 == store.sha256
    assert len(again["clip0"].wave) == len(again["clip3"].wave) == SPEC.samples


def test_few_files_of_a_store_are_mapped_at_a_time(manifest, tmp_path, monkeypatch):
    """However many clips were read: the pages of all of them would count as the memory of the process."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not tell what is mapped")
    monkeypatch.setattr(preparing, "SHARD_BYTES", 1)
    monkeypatch.setattr(stores, "MAPPED", 2)
    store = prepare(manifest, SPEC, tmp_path / "out", workers=1, progress=False)
    assert len([*store.path.glob("*.arrow")]) == 4
    held = store["clip0"]
    digests = [shards.content(store[id]) for id in (*store.ids(), *store.ids())]
    assert digests == [store.digest(id) for id in (*store.ids(), *store.ids())]
    assert shards.content(held) == store.digest("clip0")  # what is still in use stays mapped
    del held
    assert len({line.split()[-1] for line in maps.read_text().splitlines() if str(store.path) in line}) == 2


def test_a_damaged_table_is_named_and_made_again(manifest, tmp_path, decoded):
    made(manifest, tmp_path / "out")
    count = len(decoded)
    table = tmp_path / "out/table.parquet"
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(StoreError, match=r"table\.parquet: expected a table of prepared clips"):
        Store.open(tmp_path / "out")
    assert len(made(manifest, tmp_path / "out")) == 4
    assert set(decoded[count:]) == {"empty.mp4", "sound.wav"}  # what failed is tried again, nothing else


def test_shards_open_in_whatever_reads_arrow_streams(manifest, tmp_path):
    made(manifest, tmp_path / "out")
    (file,) = (tmp_path / "out").glob(shards.PATTERN)
    table = pa.ipc.open_stream(pa.memory_map(str(file))).read_all()
    assert table.num_rows == 4
    assert {"key", "wave", "frames"} <= set(table.column_names)


def test_a_store_keeps_its_clips_though_another_study_lists_others_in_its_folder(manifest, tmp_path, monkeypatch):
    assert vars(made(manifest, tmp_path / "out")) == vars(Store.open(tmp_path / "out"))
    others = replace(manifest, entries=manifest.entries[:1], classes=("cat", "dog"))
    theirs = (made(others, tmp_path / "out").path / "table.parquet").read_bytes()
    with monkeypatch.context() as patch:  # it has written after this one
        patch.setattr(preparing, "write_bytes", lambda path, data: path.write_bytes(theirs))
        store = made(manifest, tmp_path / "out")
    bench, packed = Bench(study, tmp_path, manifest, store).resolved, pickle.dumps(store)
    for there in (store, bench.store, pickle.loads(packed)):
        assert (there.ids(), there.sha256) == (store.ids(), store.sha256) and len(store) == 4
        assert there.label("clip0") == 0 and np.array_equal(there["clip2"].frames, store["clip2"].frames)
    assert len(pickle.dumps(store)) == len(packed)  # no clips


def test_boxes_are_those_of_the_prepared_frame(manifest, tmp_path):
    store = made(manifest, tmp_path / "out")
    assert store["clip0"].window == pytest.approx((1 / 6, 0, 5 / 6, 1))  # 48 x 32, cropped to its middle
    assert store.box("clip0") == pytest.approx((0.0, 0.25, 0.5, 1.0))
    whole = prepare(manifest, replace(SPEC, fit="stretch"), tmp_path / "whole", workers=1, progress=False)
    assert whole.box("clip0") == (0.0, 0.25, 0.5, 1.0)
    assert box_in_window((0.0, 0.0, 0.1, 1.0), (0.5, 0.0, 1.0, 1.0)) is None


def test_the_sum_tells_contents_apart_and_files_not(manifest, tmp_path):
    store = made(manifest, tmp_path / "out")
    moved = tmp_path / "moved"
    shutil.copytree(manifest.root, moved)
    for path in moved.iterdir():
        os.utime(path, (1, 1))
    there = made(replace(manifest, root=moved), tmp_path / "there")
    assert there.sha256 == store.sha256
    assert [there.digest(id) for id in there.ids()] == [shards.content(store[id]) for id in store.ids()]
    relabelled = tuple(replace(e, label="dog") for e in manifest.entries)
    assert made(replace(manifest, entries=relabelled), tmp_path / "out").sha256 != store.sha256


@pytest.mark.parametrize("change", [{"box": (0.0, 0.25, 0.5, 0.9)}, {"extra": {"rival_box": "0 0 0.5 0.5"}}], ids=str)
def test_other_boxes_are_other_clips(manifest, tmp_path, decoded, change):
    store = made(manifest, tmp_path / "out")
    count = len(decoded)
    corrected = (replace(manifest.entries[0], **change), *manifest.entries[1:])
    again = made(replace(manifest, entries=corrected), tmp_path / "out")
    assert again.sha256 != store.sha256
    assert len(decoded) == count  # nothing is decoded for it
    assert made(manifest, tmp_path / "out").sha256 == store.sha256


def test_other_folders_are_left_alone(manifest, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(StoreError, match="got a folder with other files"):
        made(manifest, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(StoreError, match="got a file"):
        made(manifest, tmp_path / "mine/thesis.txt")
    with pytest.raises(StoreError, match="expected a folder of prepared clips"):
        Store.open(tmp_path / "mine")
    made(manifest, tmp_path / "out")
    with pytest.raises(StoreError, match="got a folder of clips as ClipSpec"):
        prepare(manifest, replace(SPEC, size=20), tmp_path / "out", workers=1, progress=False)
    (tmp_path / "out/table.parquet").unlink()
    with pytest.raises(StoreError, match="preparing was interrupted"):
        Store.open(tmp_path / "out")
    (tmp_path / "out/store.json").write_text(json.dumps({"spec": {"speed": 3}}))
    with pytest.raises(StoreError, match=r"store\.json: expected the ClipSpec of the clips"):
        Store.open(tmp_path / "out")


def test_a_full_disk_is_said_and_leaves_what_was_written(manifest, tmp_path, monkeypatch):
    out = tmp_path / "out"
    made(replace(manifest, entries=manifest.entries[:2]), out)
    with monkeypatch.context() as patch:
        patch.setattr(preparing.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 5000, 5000))
        with pytest.raises(StoreError, match="free disk for 4 clips"):
            made(manifest, out)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards.pa.ipc, "new_stream", full)
        with pytest.raises(StoreError, match="got a full disk"):
            made(manifest, out)
    assert Store.open(out).ids() == ("clip0", "clip1")
    assert not list(out.glob(".*"))
    assert len(made(manifest, out)) == 4


def test_a_frame_that_is_overwritten_in_place_is_seen(tmp_path, decoded):
    write_wav(tmp_path / "v.wav", np.zeros(8000, np.float32), 8000)
    for n in range(8):
        write_png(tmp_path / f"v/{n + 1:06d}.png", np.zeros((16, 16, 3), np.uint8))
    manifest = Manifest(tmp_path, (Entry("a", "dog", "train", Path("v"), Path("v.wav")),))
    first = made(manifest, tmp_path / "out")
    made(manifest, tmp_path / "out")
    assert decoded == ["v"]
    whole = (tmp_path / "v").stat()
    write_png(tmp_path / "grey.png", np.full((16, 16, 3), 128, np.uint8))
    for n in range(8):
        (tmp_path / f"v/{n + 1:06d}.png").write_bytes((tmp_path / "grey.png").read_bytes())
    assert (tmp_path / "v").stat().st_mtime_ns == whole.st_mtime_ns
    assert made(manifest, tmp_path / "out")["a"].frames.mean() > first["a"].frames.mean()
    assert decoded == ["v", "v"]


def test_ids_that_repeat_must_be_settled_first(manifest, tmp_path):
    twice = replace(manifest, entries=manifest.entries[:1] * 2)
    with pytest.raises(ManifestError, match=r"Settle them with unique\(\)"):
        made(twice, tmp_path / "out")
    assert len(made(twice.unique("rename"), tmp_path / "out")) == 2


def test_numbered_frames_and_a_sound_are_a_video_of_8_frames_a_second(tmp_path):
    spec = ClipSpec(seconds=1.0, rate=8000, fps=4, size=16)
    rng = np.random.default_rng(0)
    wave = rng.uniform(-0.5, 0.5, 16000).astype(np.float32)
    for n in range(16):
        write_png(tmp_path / f"v.mp4/{n + 1:06d}.png", np.full((16, 16, 3), 10 * n, np.uint8))
    write_wav(tmp_path / "v.wav", wave, 8000)
    clip = read_clip(tmp_path / "v.mp4", spec, audio=tmp_path / "v.wav", start=0.5)
    # at 0.625, 0.875, 1.125 and 1.375 s, frames 5, 7, 9 and 11 counted from 0 have just begun
    assert clip.frames[:, 8, 8, 0].tolist() == [50, 70, 90, 110]
    assert clip.frames.shape == (4, 16, 16, 3)
    assert np.abs(clip.wave - wave[4000:12000]).max() < 1e-4
    late = read_clip(tmp_path / "v.mp4", spec, audio=tmp_path / "v.wav", start=1.5, end=1.75)
    assert late.frames[:, 8, 8, 0].tolist() == [130, 130, 130, 130]
    assert "last frame repeated from 0.250 s" in late.notes


def test_numbered_frames_keep_their_times_where_some_lack(tmp_path):
    spec = ClipSpec(seconds=0.5, rate=8000, fps=10, size=8)
    sound = write_wav(tmp_path / "v.wav", np.full(32_000, 0.1), 8000)
    for n in (1, 2, *range(11, 25)):
        write_png(tmp_path / f"v/{n:06d}.png", np.full((8, 8, 3), 10 * n, np.uint8))

    def levels(**times):
        return read_clip(tmp_path / "v", spec, audio=sound, **times).frames[:, 0, 0, 0].tolist()

    assert levels(start=1.5) == [130, 140, 150, 150, 160]
    assert levels(start=2.2) == [190, 190, 200, 210, 220]  # from 2.25 s on, where frame 19 begins
    for start, says in (
        (0.1, "has no frame 000003, inside the clip"),
        (3.0, "its frames end at 3.00 s, before the clip"),
    ):
        with pytest.raises(MediaError, match=says):
            levels(start=start)
    write_png(tmp_path / "v/12.png", np.zeros((8, 8, 3)))
    with pytest.raises(MediaError, match="several images of one number"):
        levels(start=1.5)


def test_real_words(real_data, tmp_path):
    words = Manifest.read(real_data / "grid_s1_words/manifest.csv", label="digit", start="digit_start", end="digit_end")
    few = replace(words, entries=words.entries[:12])
    store = prepare(few, ClipSpec(seconds=0.5, size=72, fps=25), tmp_path / "out", workers=1, progress=False)
    assert len(store) == 12
    assert not store.failures
    clip = store[store.ids()[0]]
    assert clip.frames.shape == (12, 72, 72, 3)
    assert 0.01 < clip.wave.std() < 1
    assert any("tiled" in note for note in clip.notes)


def test_real_files_of_every_kind(real_data, tmp_path):
    files = sorted(p for p in (real_data / "media_samples").iterdir() if p.suffix not in (".md", ".csv"))
    manifest = Manifest(real_data / "media_samples", tuple(Entry(f.name, "any", "test", Path(f.name)) for f in files))
    store = made(manifest, tmp_path / "out")
    failed = {id for id, _, _ in store.failures}
    assert {"empty.mp4", "truncated_kinetics.mp4", "ucf101_soccer_noaudio.avi", "hevc_noaudio.mp4"} <= failed
    assert {"kinetics_R6llTwEh07w.mp4", "no_duration_vp9_opus.webm", "fire2_vfr_2s.mp4"} <= set(store.ids())
    assert store.counts("test") == (len(files) - len(failed), 27)
