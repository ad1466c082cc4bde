"""Tables and layouts: what a manifest reads, what it refuses, and how clips are divided."""

import json
from collections import Counter
from pathlib import Path

import pytest

from avrobust.cli import main
from avrobust.data import layouts, selection
from avrobust.data import lists as published
from avrobust.data.entry import SPLITS, Entry, ManifestError
from avrobust.data.manifest import Manifest
from avrobust.data.source import Source
from avrobust.papers.tian2021 import lists as paper_lists

HEADER = "id,label,split,audio,video,bbox"


def table(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def lists(folder: Path, suffix: str = "", **rows: list[str]) -> Path:
    for split in SPLITS:
        lines = [f"/{clip}.wav,/{clip}.mp4,82\n" for clip in rows.get(split, ["dog/z" + split])]
        (folder / f"{split}{suffix}.csv").write_text("".join(lines))
    return folder


def test_written_and_read_again_is_the_same(tmp_path):
    entries = (
        Entry("a", "dog", "train", Path("x/a.mp4")),
        Entry(
            'b, "odd"',
            "cat",
            "val",
            Path("b.jpg"),
            Path("b.wav"),
            0.1,
            1 / 3,
            (0.1, 0.2, 0.3, 1.0),
            "ab" * 32,
            {"place": "Zürich, CH"},
        ),
    )
    manifest = Manifest(tmp_path, entries, ("dog", "cat"), "pets")
    manifest.write(tmp_path / "pets.csv")
    assert Manifest.read(tmp_path / "pets.csv", classes=("dog", "cat")) == manifest


def test_a_column_that_would_be_read_as_another_is_not_written(tmp_path):
    for name in ("start", "split", "label", "labels", "tags", "bbox"):
        clip = Entry("a", "dog", "train", Path("a.mp4"), extra={name: "0.5"})
        with pytest.raises(ManifestError, match=f"got '{name}'. Rename it, for example to 'their_{name}'"):
            Manifest(tmp_path, (clip,)).write(tmp_path / "a.csv")
    path = table(tmp_path, "a.mp4,dog,7,train", header="video,species,labels,split")
    assert Manifest.read(path, label="species").entries[0].extra == {}


def test_columns_can_be_chosen(tmp_path):
    path = table(tmp_path, "k,say,v.mp4,two,1.5,1.75", header="id,kind,video,digit,from,to")
    (entry,) = Manifest.read(path, label="digit", start="from", end="to").entries
    assert (entry.label, entry.split, entry.start, entry.end) == ("two", "train", 1.5, 1.75)
    assert entry.extra == {"kind": "say"}


def test_a_table_without_splits_is_divided_and_one_whose_splits_are_named_is_not(tmp_path):
    lines = [f"k{n},dog,v{n}.mp4" for n in range(10)]
    manifest = Manifest.read(table(tmp_path, *lines, header="id,label,video"))
    assert manifest.divided and manifest.splits.startswith("6 train, 2 val, 2 test clips, divided at random")
    path = table(tmp_path, *(f"{line},test" for line in lines), header="id,label,video,part")
    named = Manifest.read(path, split="part")
    assert not named.divided and named.splits == "0 train, 0 val, 10 test clips"
    with pytest.raises(ManifestError, match="expected a column 'subset', got id, label, video, part"):
        Manifest.read(path, split="subset")


@pytest.mark.parametrize("column, cells", [("Split", "ab"), ("subset", ("Training", "")), ("fold", ("train", "eval"))])
def test_splits_in_a_column_of_another_name_are_not_divided_anew(tmp_path, column, cells):
    lines = [f"v{n}.mp4,dog,{cells[n % 2]}" for n in range(10)]
    with pytest.raises(ManifestError, match=f"got '{column}', which names splits. Give split='{column}'"):
        Manifest.read(table(tmp_path, *lines, header=f"video,label,{column}"))


def test_a_sound_in_the_same_file_is_no_second_file_and_ids_come_from_paths(tmp_path):
    path = table(tmp_path, "dog,train,a/v.mp4,a/v.mp4", "dog,train,b/v.mp4,b/v.wav", header="label,split,video,audio")
    first, second = Manifest.read(path).entries
    assert (first.id, first.audio) == ("a/v", None)
    assert (second.id, second.audio) == ("b/v", Path("b/v.wav"))


@pytest.mark.parametrize("cell", ["0.1 0.2 0.3 0.4", "[0.1, 0.2, 0.3, 0.4]", "0.1;0.2;0.3;0.4"])
def test_boxes_are_read_as_people_write_them(tmp_path, cell):
    (entry,) = Manifest.read(table(tmp_path, f'k,dog,train,,v.mp4,"{cell}"')).entries
    assert entry.box == (0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            ["a,dog,train,,a.mp4,", "a,dog,test,,b.mp4,"],
            "line 3: expected every id once, got 'a' again (first on line 2)",
        ),
        (["a,dog,train,,../a.mp4,"], "line 2: expected a path inside the manifest's folder, got '../a.mp4'"),
        (["a,dog,train,/etc/passwd,a.mp4,"], "line 2: expected a path inside the manifest's folder"),
        (["a,dog,train,,,"], "line 2: expected a path, got an empty cell"),
        (["a,,train,,a.mp4,"], "line 2: expected an id and a label"),
        (["a,cow,train,,a.mp4,"], "line 2: expected a label of the 2 classes (cat, dog), got 'cow'"),
        (["a,dog,dev,,a.mp4,"], "line 2: expected split to be one of train, val, test, got 'dev'"),
        (["a,dog,train,,a.mp4,1 2 x 4"], "line 2: expected a number, got 'x'"),
        (["a,dog,train,,a.mp4,0.1 0.2"], "line 2: expected a box of four numbers"),
        (["a,dog,train,,a.mp4,10 20 30 40"], "line 2: expected a box x0 y0 x1 y1"),
        (["a,dog,train,,a.mp4,,"], "line 2: expected 6 cells"),
        ([], "expected at least one clip, got only a header"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path, rows, says):
    path = table(tmp_path, *rows)
    with pytest.raises(ManifestError) as caught:
        Manifest.read(path, classes=("cat", "dog"))
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(("start", "end"), [("nan", ""), ("-1", ""), ("2", "1"), ("soon", "")])
def test_times_that_are_none_are_refused(tmp_path, start, end):
    path = table(tmp_path, f"dog,train,a.mp4,{start},{end}", header="label,split,video,start,end")
    with pytest.raises(ManifestError, match="line 2: expected"):
        Manifest.read(path)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_tables_of_spreadsheets(tmp_path, separator):
    rows = ["id,label,split,video,bbox", "a,dog,train,v/a.mp4,0 0 1 1", "", 'b,"d og",test,v/b.mp4,']
    (tmp_path / "clips.csv").write_text("\ufeff" + "\r\n".join(rows).replace(",", separator), encoding="utf-8")
    first, second = Manifest.read(tmp_path / "clips.csv").entries
    assert (first.label, first.video, first.box) == ("dog", Path("v/a.mp4"), (0, 0, 1, 1))
    assert (second.label, second.split) == ("d og", "test")


def test_a_comma_in_a_number_and_in_a_table_of_commas(tmp_path):
    path = table(tmp_path, "a.mp4;dog;train;0,5", header="video;label;split;start")
    with pytest.raises(ManifestError, match=r"line 2: expected a number, got '0,5'\. .* a point in place of the comma"):
        Manifest.read(path)
    with pytest.raises(ManifestError, match="expected a column 'video' and 'label', got file, split, kind"):
        Manifest.read(table(tmp_path, "a.mp4;train;dog", header="file;split;kind"))


def test_columns_stand_once(tmp_path):
    path = table(tmp_path, "a,dog,train,a.mp4,cat", header="id,label,split,video,label ")
    with pytest.raises(ManifestError, match="expected every column once, got 'label' again"):
        Manifest.read(path)
    (entry,) = Manifest.read(table(tmp_path, "a,dog,train,a.mp4,,", header="id,label,split,video,,")).entries
    assert entry.extra == {}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("dog,train,a.mp4,1e15,", "expected 0 <= start < end in seconds"),
        ("dog,train,a.mp4,0,1e300", "expected 0 <= start < end in seconds"),
        ("dog,train,a\0.mp4,0,", "which no file can have"),
    ],
)
def test_times_and_paths_are_checked_where_they_are_read(tmp_path, row, says):
    with pytest.raises(ManifestError, match=rf"manifest\.csv line 2: .*{says}"):
        Manifest.read(table(tmp_path, row, header="label,split,video,start,end"))


def test_lists_of_others_are_checked_too(tmp_path):
    path = table(tmp_path, "dog,abcdefghijk,0,inf,train", header="label,youtube_id,time_start,time_end,split")
    with pytest.raises(ManifestError, match=r"manifest\.csv line 2"):
        published.read(path)
    path.write_text("")
    with pytest.raises(ManifestError, match="expected at least one clip"):
        published.read(path)


def test_a_missing_column_a_missing_file_and_another_encoding(tmp_path):
    with pytest.raises(ManifestError, match="expected a column 'video' and 'digit', got id, label, split"):
        Manifest.read(table(tmp_path, "a,dog,train", header="id,label,split"), label="digit")
    with pytest.raises(ManifestError, match=r"nothing\.csv: expected a csv table"):
        Manifest.read(tmp_path / "nothing.csv")
    (tmp_path / "latin.csv").write_bytes("label,split,video\nM\xfccke,train,a.mp4\n".encode("latin-1"))
    with pytest.raises(ManifestError, match="UTF-8"):
        Manifest.read(tmp_path / "latin.csv")
    (tmp_path / "one.mp4").write_bytes(b"\0\0\0\x20ftypisom\xff")
    with pytest.raises(ManifestError, match=r"one\.mp4: .* give videos as a folder of <class>/<video>\.mp4"):
        Source(tmp_path / "one.mp4").manifest()


def test_training_on_a_table_of_test_clips_says_what_there_is(tmp_path):
    manifest = Manifest.read(table(tmp_path, "a,dog,test,,a.mp4,", "b,cat,test,,b.mp4,"))
    with pytest.raises(ManifestError, match=r"expected clips in train, got none \(there are 2 test\)"):
        manifest.select("train")
    assert manifest.select("test").classes == ("cat", "dog")


def test_repeats_are_kept_for_an_audit_and_settled_for_use(tmp_path):
    path = table(tmp_path, "a,dog,test,,a.mp4,", "a,dog,train,,a.mp4,", "b,dog,train,,b.mp4,", "b,dog,train,,b.mp4,")
    manifest = Manifest.read(path, repeats=True)
    assert len(manifest) == 4
    assert manifest.repeated() == ("a", "b")
    assert [(e.id, e.split) for e in manifest.unique().entries] == [("a", "test"), ("b", "train")]
    assert [e.id for e in manifest.unique("rename").entries] == ["a", "a#2", "b", "b#2"]


def test_a_division_is_per_class_by_video_and_by_seed_alone():
    def clip(label: str, n: int, at: int) -> Entry:
        return Entry(f"{label}{n}/{at}", label, "train", Path(label, f"{label}{n:06d}xx_{at:06d}_{at + 10:06d}.mp4"))

    entries = tuple(clip(label, n, at) for label in ("cat", "dog") for n in range(20) for at in (0, 10))
    manifest = Manifest(Path("d"), entries).divide(seed=1)
    assert Counter((e.label, e.split) for e in manifest.entries) == {
        (label, split): n for label in ("cat", "dog") for split, n in zip(SPLITS, (24, 8, 8), strict=True)
    }
    splits_of = {e.source: set() for e in manifest.entries}
    for e in manifest.entries:
        splits_of[e.source].add(e.split)
    assert len(splits_of) == 40
    assert all(len(splits) == 1 for splits in splits_of.values())

    backwards = Manifest(Path("d"), entries[::-1]).divide(seed=1)
    assert {e.id: e.split for e in backwards.entries} == {e.id: e.split for e in manifest.entries}
    other = Manifest(Path("d"), entries).divide(seed=2)
    assert other.entries != manifest.entries


def test_a_phone_s_videos_are_recordings_of_their_own(tmp_path):
    for n in range(10):
        for name in (f"VID_20240130_1425{n:02d}.mp4", f"VID20240130_1425{n:02d}.mp4"):
            (tmp_path / "cat").mkdir(exist_ok=True)
            (tmp_path / "cat" / name).touch()
    manifest = layouts.folder(tmp_path)
    assert len({e.source for e in manifest.entries}) == 20
    assert Counter(e.split for e in manifest.entries) == {"train": 12, "val": 4, "test": 4}


def test_lists_of_youtube_ids_know_one_video_in_two_classes(tmp_path):
    lists(tmp_path, "_AVE", train=["dog/abcd_123456"], test=["cat/abcd_123456"], val=["cat/short_000010"])
    train, val, test = paper_lists.ave(tmp_path).entries
    assert (train.source, test.source, val.source) == ("abcd_123456", "abcd_123456", "short")

    (tmp_path / "vgg.csv").write_text("abcd_123456,30,dog,train\nabcd_123456,50,cat,test\n")
    assert {e.source for e in published.read(tmp_path / "vgg.csv").entries} == {"abcd_123456"}

    (tmp_path / "media/cat").mkdir(parents=True)
    (tmp_path / "media/cat/abcd_123456.mp4").touch()
    (tmp_path / "solos.json").write_text(json.dumps({"videos": {"cat": ["abcd_123456"], "dog": ["abcd_123456"]}}))
    found = layouts.folder(tmp_path / "media", listed=tmp_path / "solos.json")
    assert {e.source for e in found.entries} == {"abcd_123456"}
    found.write(tmp_path / "again.csv")
    assert {e.source for e in Manifest.read(tmp_path / "again.csv", root=tmp_path / "media").entries} == {"abcd_123456"}


def test_a_folder_of_classes_with_and_without_a_list(tmp_path):
    for name in ("cello/a.mp4", "cello/b.MKV", "cello/notes.txt", "tuba/c.webm", "tuba/.d.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    manifest = layouts.folder(tmp_path)
    assert manifest.divided and manifest.splits.endswith(
        " test clips, divided at random, as the dataset names no splits"
    )
    assert [(e.id, e.video.as_posix()) for e in manifest.entries] == [
        ("cello/a", "cello/a.mp4"),
        ("cello/b", "cello/b.MKV"),
        ("tuba/c", "tuba/c.webm"),
    ]

    listed = tmp_path / "solo.json"
    listed.write_text(json.dumps({"version": "1.0", "videos": {"cello": ["a", "gone"], "tuba": ["c"]}}))
    assert {e.id for e in layouts.folder(tmp_path, listed=listed).entries} == {
        "cello/a",
        "cello/gone",
        "tuba/c",
    }
    listed.write_text('{"videos": 3}')
    with pytest.raises(ManifestError, match=r"solo.json: expected a json list"):
        layouts.folder(tmp_path, listed=listed)


def test_files_of_one_name_in_two_containers_are_two_clips(tmp_path):
    for name in ("cat/a.mov", "cat/a.mp4", "cat/b.mp4", "dog/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = {e.id: e.video.as_posix() for e in layouts.folder(tmp_path).entries}
    assert found == {"cat/a.mov": "cat/a.mov", "cat/a.mp4": "cat/a.mp4", "cat/b": "cat/b.mp4", "dog/a": "dog/a.mp4"}

    (tmp_path / "list.json").write_text(json.dumps({"videos": {"cat": ["a"]}}))
    (one,) = layouts.folder(tmp_path, listed=tmp_path / "list.json").entries
    assert (one.id, one.video) == ("cat/a", Path("cat/a.mp4"))


@pytest.mark.parametrize("suffix", ["mts", "M2TS", "asf", "f4v", "vob", "mxf", "3g2", "m2t", "rm", "dv", "nut", "ogm"])
def test_whatever_container_ffmpeg_reads_is_a_video(tmp_path, suffix):
    (tmp_path / "cat").mkdir()
    (tmp_path / f"cat/a.{suffix}").touch()
    assert [e.id for e in layouts.folder(tmp_path).entries] == ["cat/a"]


def test_folders_without_videos(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path, tmp_path / "empty"):
        with pytest.raises(ManifestError, match="expected videos in folders named by class"):
            layouts.folder(folder)
    with pytest.raises(ManifestError, match="expected a folder, got nothing"):
        layouts.folder(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match="got neither"):
        paper_lists.published(lists(tmp_path), tmp_path / "empty")


def test_published_lists_find_frames_and_sounds_or_videos(tmp_path):
    lists(tmp_path, "_AVE", train=["dog/a"], test=["dog/b"])
    (tmp_path / "media/frames").mkdir(parents=True)
    train = paper_lists.ave(tmp_path, tmp_path / "media").entries[0]
    assert (train.id, train.video, train.audio) == (
        "dog/a",
        Path("frames/dog/a.mp4"),
        Path("audio/dog/a.wav"),
    )

    (tmp_path / "videos/dog").mkdir(parents=True)
    (tmp_path / "videos/dog/b.mkv").touch()
    *_, test = paper_lists.ave(tmp_path, tmp_path / "videos").entries
    assert (test.video, test.audio) == (Path("dog/b.mkv"), None)

    (tmp_path / "val_AVE.csv").write_text("dog,b,82\n")
    with pytest.raises(ManifestError, match=r"val_AVE.csv line 1: expected /class/id.wav"):
        paper_lists.ave(tmp_path)
    with pytest.raises(ManifestError, match=r"train_kinetics.csv: expected a list"):
        paper_lists.kinetics_sounds(tmp_path)


def test_ave_as_distributed(tmp_path):
    for split, rows in {
        "train": "Church bell&RUhOCu3LNXM&good&0&10\nChurch bell&RUhOCu3LNXM&good&0&10\n",
        "val": "Male speech&--5zANFBYzQ&good&1&9\n",
        "test": "Truck&zzzzzzzzzzz&good&2&4\n",
    }.items():
        (tmp_path / f"{split}Set.txt").write_text(rows)
    manifest = Source(tmp_path).manifest()
    assert [(e.id, e.split, e.video.as_posix(), e.start, e.end, e.source) for e in manifest.entries] == [
        ("Church bell/RUhOCu3LNXM", "train", "AVE/RUhOCu3LNXM.mp4", 0, 10, "RUhOCu3LNXM"),
        ("Male speech/--5zANFBYzQ", "val", "AVE/--5zANFBYzQ.mp4", 1, 9, "--5zANFBYzQ"),
        ("Truck/zzzzzzzzzzz", "test", "AVE/zzzzzzzzzzz.mp4", 2, 4, "zzzzzzzzzzz"),
    ]
    assert len(Source(tmp_path).manifest(repeats=True)) == 4
    (tmp_path / "valSet.txt").write_text("Male speech&--5zANFBYzQ&good&9\n")
    with pytest.raises(ManifestError, match=r"valSet\.txt line 1: expected category&id&quality&start&end"):
        Source(tmp_path).manifest()


def test_crema_d_as_distributed(tmp_path):
    (tmp_path / "VideoFlash").mkdir()
    (tmp_path / "AudioWAV").mkdir()
    for actor in range(1001, 1011):
        for emotion in ("ANG", "SAD"):
            (tmp_path / f"VideoFlash/{actor}_DFA_{emotion}_XX.flv").touch()
    (tmp_path / "AudioWAV/1001_DFA_ANG_XX.wav").touch()
    manifest = Source(tmp_path).manifest()
    assert (len(manifest), manifest.classes) == (20, ("anger", "sad"))
    first = manifest.entries[0]
    assert (first.id, first.audio, first.source) == ("1001_DFA_ANG_XX", Path("AudioWAV/1001_DFA_ANG_XX.wav"), "1001")
    assert manifest.entries[1].audio is None
    actors = {split: {e.source for e in manifest.select(split).entries} for split in SPLITS}
    assert {split: len(names) for split, names in actors.items()} == {"train": 6, "val": 2, "test": 2}
    (tmp_path / "VideoFlash/thesis.flv").touch()
    with pytest.raises(ManifestError, match=r"thesis\.flv: expected <actor>_<sentence>_<emotion>_<level>\.flv"):
        Source(tmp_path).manifest()


def test_the_middle_of_a_clip_is_where_the_published_code_looks(tmp_path):
    manifest = paper_lists.published(lists(tmp_path))
    for e in selection.keep_middle(manifest, 4.0).entries:
        assert e.start + 2.0 == (82 // 2 - 0.5) / 8
    assert all(e.start == 0 for e in selection.keep_middle(manifest, 60.0).entries)


def test_the_published_lists(real_data):
    folder = real_data / "lists/AV-Robustness-CVPR21"
    sizes = {
        "music": (11, 312, 104, 104),
        "kinetics_sounds": (27, 9309, 3103, 3104),
        "ave": (28, 3339, 402, 402),
    }
    for dataset, size in sizes.items():
        manifest = getattr(paper_lists, dataset)(folder)
        assert (len(manifest.classes), *(len(manifest.select(s)) for s in SPLITS)) == size
    solos = paper_lists.published(folder)
    listed = json.loads((real_data / "lists/MUSIC_dataset/MUSIC_solo_videos.json").read_text())["videos"]
    assert {e.id for e in solos.entries} <= {f"{label}/{id}" for label, ids in listed.items() for id in ids}


def test_real_tables(real_data):
    words = Manifest.read(real_data / "grid_s1_words/manifest.csv", label="digit", start="digit_start", end="digit_end")
    assert (words.name, len(words), len(words.classes)) == ("grid_s1_words", 1000, 10)
    assert all(e.audio is None and e.end is not None and 0 < e.end - e.start < 1 for e in words.entries)
    pairs = Manifest.read(real_data / "instruments_av/manifest.csv")
    assert all(e.audio is not None and (pairs.root / e.audio).exists() for e in pairs.entries)


def test_media_may_lie_elsewhere_than_the_table(tmp_path, capsys):
    table = tmp_path / "lists" / "mine.csv"
    table.parent.mkdir()
    table.write_text("id,video,label,split\na,dog/a.mp4,dog,train\n")
    (tmp_path / "media" / "dog").mkdir(parents=True)
    assert Source(table, root=tmp_path / "media").manifest().root == tmp_path / "media"
    assert Source(table).manifest().root == table.parent
    with pytest.raises(ManifestError, match=r"expected a csv table.*leave root \(--root\) out"):
        Source(tmp_path / "media", root=tmp_path).manifest()
    (tmp_path / "media" / "dog" / "a.mp4").touch()
    main(["data", "audit", "--data", str(table)])
    assert "missing: 1 clip (a)" in capsys.readouterr().out
    main(["data", "audit", "--data", str(table), "--root", str(tmp_path / "media")])
    found = capsys.readouterr().out
    assert "missing" not in found and "a.mp4" in found  # which is empty
