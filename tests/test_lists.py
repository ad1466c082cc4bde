"""Published lists of YouTube clips: recognised by their first row, their files found, what is wrong named with its line."""

import json
from pathlib import Path

import pytest

from avrobust.data import lists
from avrobust.data.audit import audit
from avrobust.data.entry import ManifestError
from avrobust.data.manifest import Manifest
from avrobust.data.source import Source

ID = "3qesirWAGt4"
VGGSOUNDER = f"""video_id,label,modality,background_music,static_image,voice_over
{ID}_000030,"male speech, man speaking",A,True,False,False
{ID}_000030,playing timpani,AV,True,False,False
--i-y1v8Hy8_000000,child singing,V,False,True,False
"""
AUDIOSET = f"""# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=20371, num_segs=20371, num_unique_labels=527, num_positive_labels=51804
# YTID, start_seconds, end_seconds, positive_labels
{ID}, 30.000, 40.000, "/m/09x0r,/t/dd00088"
--aE2O5G5WE, 0.000, 10.000, "/m/03fwl"
"""
CLASSES = """index,mid,display_name
0,/m/09x0r,"Speech"
1,/t/dd00088,"Gush"
2,/m/03fwl,"Goat"
3,/m/07qlwh6,"Bleat, of goats"
"""


def folder(root: Path, media: tuple[str, ...] = (), **files: str) -> Path:
    for name, text in files.items():
        (root / f"{name}.csv").write_text(text)
    for name in media:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_vggsounder_has_several_labels_and_where_each_is_perceived(tmp_path):
    root = folder(tmp_path, (f"video/{ID}_000030.mp4",), vggsounder=VGGSOUNDER)
    manifest = Source(root).manifest()
    first, second = manifest.entries
    assert (first.id, first.split, first.source) == (f"{ID}_000030", "test", ID)
    assert first.video == Path(f"video/{ID}_000030.mp4") and second.video == Path("--i-y1v8Hy8_000000.mp4")
    assert first.label == ("male speech, man speaking", "playing timpani") and first.tags == ("audible", "both")
    assert second.label == ("child singing",) and second.tags == ("visible",)
    assert manifest.tags[first.id] == {"male speech, man speaking": "audible", "playing timpani": "both"}
    assert first.extra["background_music"] == "True"
    assert manifest.multilabel and manifest.classes == ("child singing", "male speech, man speaking", "playing timpani")
    text = audit(manifest, workers=1, progress=False).summary()
    assert "missing: 1 clip (--i-y1v8Hy8_000000) of test" in text
    assert "test: 0 of 2 clips readable; 3 classes of 1 clip" in text


def test_a_table_of_classes_gives_their_order_and_other_labels_are_refused(tmp_path):
    names = 'index,mid,display_name\n0,v0,"playing timpani"\n1,v1,"male speech, man speaking"\n2,v2,child singing\n3,v3,mimicry\n'
    root = folder(tmp_path, vggsounder=VGGSOUNDER, classes=names)
    assert Source(root).manifest().classes == (
        "playing timpani",
        "male speech, man speaking",
        "child singing",
        "mimicry",
    )
    folder(root, vggsounder=VGGSOUNDER + "--i-y1v8Hy8_000000,yodelling,V,False,True,False\n")
    with pytest.raises(
        ManifestError, match=r"vggsounder\.csv line 5: expected a label of the 4 classes .* got 'yodelling'"
    ):
        Source(root).manifest()


def test_audioset_is_multi_label_in_the_order_of_its_classes(tmp_path):
    train = AUDIOSET.replace(ID, "zzzzzzzzzzz").replace("--aE2O5G5WE", "yyyyyyyyyyy")
    media = (f"clips/{ID}_30.mp4", "zzzzzzzzzzz_30.000_40.000.mkv", "yyyyyyyyyyy.webm")
    root = folder(tmp_path, media, eval_segments=AUDIOSET, balanced_train_segments=train, class_labels_indices=CLASSES)
    manifest = Source(root).manifest()
    assert manifest.classes == ("Speech", "Gush", "Goat", "Bleat, of goats")
    assert [(e.split, e.label, e.video.as_posix()) for e in manifest.entries] == [
        ("train", ("Speech", "Gush"), "zzzzzzzzzzz_30.000_40.000.mkv"),
        ("train", ("Goat",), "yyyyyyyyyyy.webm"),
        ("test", ("Speech", "Gush"), f"clips/{ID}_30.mp4"),
        ("test", ("Goat",), "--aE2O5G5WE_000000.mp4"),
    ]
    assert len(Source(root / "eval_segments.csv").manifest()) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"eval_segments": AUDIOSET.replace("/m/03fwl", "/m/unknown")}, r"eval_segments\.csv line 5: expected a label .* got '/m/unknown'"),
        ({"eval_segments": AUDIOSET + "x, 1, 2\n"}, r"eval_segments\.csv line 6: expected id, start, end, labels"),
        ({"class_labels_indices": CLASSES + "4,x\n"}, r"class_labels_indices\.csv line 6: expected index,mid,display_name"),
        ({"vggsounder": VGGSOUNDER}, r"expected lists of one dataset, got eval_segments\.csv and vggsounder\.csv"),
        ({"eval_segments": "", "mini": AUDIOSET}, r"mini\.csv line 4: expected a list called balanced_train_segments\.csv or"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_audioset_is_said(tmp_path, change, says):
    root = folder(tmp_path, **{"eval_segments": AUDIOSET, "class_labels_indices": CLASSES} | change)
    with pytest.raises(ManifestError, match=says):
        Source(root).manifest()


def test_audioset_needs_the_names_of_its_classes(tmp_path):
    with pytest.raises(ManifestError, match=r"expected the names of the classes in .*class_labels_indices\.csv"):
        lists.read(folder(tmp_path, eval_segments=AUDIOSET) / "eval_segments.csv")


@pytest.mark.parametrize("name", ["{}_30", "{}_000030", "{}_000030_000040", "{}_30.0_40.0", "{}"])
def test_files_are_named_as_people_name_them(tmp_path, name):
    vggsound = f"{ID},30,playing timpani,train\n{ID},50,playing timpani,test\n"
    other = (f"other/{ID}_51.mp4", "other/VID20240130_142501.mp4")
    root = folder(tmp_path, (f"video/{name.format(ID)}.mp4", *other), vggsound=vggsound)
    first, second = Source(root).manifest().entries
    assert first.video == Path("video", f"{name.format(ID)}.mp4")
    assert (root / second.video).exists() == (name == "{}")


def test_a_table_that_says_youtube_id_is_no_list_of_kinetics_and_a_list_is_read_again_as_written(tmp_path):
    table = folder(tmp_path, clips=f"video,label,split,youtube_id\na.mp4,dog,train,{ID}\n") / "clips.csv"
    assert Source(table).manifest() == Manifest.read(table)
    assert Source(table).manifest().entries[0].source == ID
    listed = Source(
        folder(tmp_path, list=f"label,youtube_id,time_start,time_end,split\ndog,{ID},30,40,validate\n") / "list.csv"
    )
    listed.manifest().write(tmp_path / "again.csv")
    assert Source(tmp_path / "again.csv").manifest().entries == listed.manifest().entries
    without = folder(tmp_path, list=f"label,youtube_id,time_start,time_end\ndog,{ID},30,40\n") / "list.csv"
    with pytest.raises(ManifestError, match="expected a column 'video', got label, youtube_id"):
        Source(without).manifest()


def test_a_folder_of_classes_stays_one_beside_a_table_of_two_columns(tmp_path):
    root = folder(tmp_path, ("dog/a.mp4", "cat/b.mp4"), durations="a.mp4,3.2\nb.mp4,4.0\n")
    assert Source(root).manifest().classes == ("cat", "dog")
    assert Source(root / "durations.csv").manifest().classes == (
        "3.2",
        "4.0",
    )  # VGGSound's own list of test clips looks so


def test_multi_label_tables_are_read_as_written(tmp_path):
    manifest = Source(folder(tmp_path, vggsounder=VGGSOUNDER)).manifest()
    manifest.write(tmp_path / "sub.csv")
    again = Manifest.read(tmp_path / "sub.csv", classes=manifest.classes)
    assert again.entries == manifest.entries
    with pytest.raises(ManifestError, match=r"sub\.csv line 3: expected a label of the 2 classes"):
        Manifest.read(tmp_path / "sub.csv", classes=manifest.classes[1:])
    text = (tmp_path / "sub.csv").read_text()
    for old, new, says in (
        ("audible;both", "audible;heard", "expected audible, visible, both for each of 2 labels, got audible, heard"),
        ("audible;both", "both", "for each of 2 labels, got both"),
        ("playing timpani", "male speech, man speaking", "expected every label of a clip once"),
    ):
        (tmp_path / "sub.csv").write_text(text.replace(old, new))
        with pytest.raises(ManifestError, match=rf"sub\.csv line 2: .*{says}"):
            Manifest.read(tmp_path / "sub.csv")


def test_a_multi_label_clip_may_be_of_no_class_and_is_not_mixed_with_others(tmp_path):
    (tmp_path / "a.csv").write_text("video,labels,split\na.mp4,dog;cat,test\nb.mp4,,test\n")
    manifest = Manifest.read(tmp_path / "a.csv")
    assert [e.label for e in manifest.entries] == [("dog", "cat"), ()]
    one = Source(tmp_path / "a.csv", classes="dog").manifest()
    assert [e.label for e in one.entries] == [("dog",)]
    (tmp_path / "b.csv").write_text("video,label,split\na.mp4,dog,test\n")
    with pytest.raises(ManifestError, match="expected clips of one class each or multi-label clips, got both"):
        Manifest(tmp_path, (*manifest.entries, *Manifest.read(tmp_path / "b.csv").entries))


XML = "<annotation><participant>{}</participant></annotation>"
BOX = "<bbox><class>1</class><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bbox>"


def test_flickr_soundnet_takes_the_places_on_which_two_annotators_agree(tmp_path):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "frames").mkdir()
    for id, given in {
        "111": ((0, 0, 128, 128), (64, 64, 256, 256), (192, 192, 256, 256)),
        "222": ((0, 0, 10, 10), (20, 20, 40, 40), (50, 50, 60, 60)),
    }.items():
        (tmp_path / f"Annotations/{id}.xml").write_text(XML.format("".join(BOX.format(*box) for box in given)))
    folder(tmp_path, flickr_test="111\n", flickr_test_plus_silent="111,111,sounding\n111,333,non-sounding\n")
    agreed, apart, silent = Source(tmp_path).manifest().entries
    assert (agreed.split, agreed.box) == ("test", (0.25, 0.25, 1.0, 1.0))
    assert (agreed.video, agreed.audio) == (Path("frames/111.jpg"), Path("audio/111.wav"))
    assert (apart.split, apart.box) == ("train", None) and apart.extra["boxes"].count(";") == 2
    assert (silent.id, silent.label, silent.box, silent.source) == ("111+333", "non-sounding", None, "111")
    (tmp_path / "flickr_test.csv").write_text("444\n")
    with pytest.raises(
        ManifestError, match=r"flickr_test\.csv: expected annotations of every listed clip, got none of 444"
    ):
        Source(tmp_path).manifest()
    (tmp_path / "Annotations/111.xml").write_text("<annotation><bbox>")
    with pytest.raises(ManifestError, match=r"111\.xml: expected boxes of annotators"):
        Source(tmp_path).manifest()


def test_vgg_ss_as_distributed(tmp_path):
    rows = [
        {"file": f"{ID}_000030", "class": "tap dancing", "bbox": [[0.5, 0.4, 0.625, 0.75], [0.25, 0, 0.375, 0.25], [0.1, 1.0, 0.2, 1.0]]},
        {"file": "--i-y1v8Hy8_000000", "class": "airplane", "bbox": [[-0.01, 0.1, 1.02, 0.9]]},
    ]  # fmt: skip
    (tmp_path / "vggss.json").write_text(json.dumps(rows))
    first, second = Source(tmp_path).manifest().entries
    assert (first.label, first.box, first.source) == ("tap dancing", (0.25, 0.0, 0.625, 0.75), ID)
    assert first.extra["boxes"] == "0.5 0.4 0.625 0.75; 0.25 0.0 0.375 0.25; 0.1 1.0 0.2 1.0"
    assert second.box == (0.0, 0.1, 1.0, 0.9)
    (tmp_path / "vggss.json").write_text(json.dumps([{"file": "a", "class": "b", "bbox": [[1, 2]]}]))
    with pytest.raises(ManifestError, match=r"vggss\.json: expected a json list"):
        Source(tmp_path).manifest()
