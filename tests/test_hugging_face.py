"""Hugging Face datasets become manifests: media undecoded, classes in their order, splits by their names."""

import sys
from pathlib import Path

import numpy as np
import pytest

import avrobust as avr
from avrobust.data import hugging_face
from avrobust.data.entry import ManifestError
from avrobust.data.manifest import Manifest
from avrobust.data.prepare import prepare
from avrobust.media import ClipSpec, decode, encode_mp4, encode_png, encode_wav

SPEC = ClipSpec(seconds=0.5, rate=8000, fps=4, size=16)
RNG = np.random.default_rng(0)
WAVES = [encode_wav(RNG.uniform(-0.5, 0.5, 4000).astype(np.float32), 8000) for _ in range(4)]
PICTURES = [encode_png(RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8)) for _ in range(4)]
MOVIE = encode_mp4(np.zeros(8000, np.float32), np.full((8, 32, 32, 3), 90, np.uint8), 8000, 8.0)


def media(data: list, suffix: str) -> list:
    return [{"bytes": part, "path": f"part{n}.{suffix}"} for n, part in enumerate(data)]


def test_a_dataset_of_sounds_and_images(tmp_path):
    hf = pytest.importorskip("datasets")
    columns = {
        "sound": media(WAVES, "wav"),
        "picture": media(PICTURES, "png"),
        "kind": [1, 0, 1, 1],
        "who": list("abca"),
    }
    whole = hf.Dataset.from_dict(columns)
    whole = whole.cast_column("sound", hf.Audio(sampling_rate=16000)).cast_column("picture", hf.Image())
    whole = whole.cast_column("kind", hf.ClassLabel(names=["tuba", "cello"]))
    parts = hf.DatasetDict({"train": whole.select([0, 1]), "validation": whole.select([2]), "test": whole.select([3])})
    names = {"audio": "sound", "visual": "picture", "label": "kind"}
    manifest = avr.data.from_hf(parts, tmp_path / "out", keep=["who"], **names)
    assert manifest.classes == ("tuba", "cello")
    assert [(e.split, e.label, e.extra["who"]) for e in manifest.entries] == [
        ("train", "cello", "a"), ("train", "tuba", "b"), ("val", "cello", "c"), ("test", "cello", "a"),
    ]  # fmt: skip
    assert Manifest.read(tmp_path / "out/manifest.csv", classes=manifest.classes).entries == manifest.entries
    store = prepare(manifest, SPEC, tmp_path / "store", workers=1, progress=False)
    assert len(store) == 4 and store.label(manifest.entries[0].id) == 1
    (tmp_path / "0.wav").write_bytes(WAVES[0])
    (tmp_path / "0.png").write_bytes(PICTURES[0])
    own = decode(tmp_path / "0.png", SPEC, audio=tmp_path / "0.wav")
    assert (store["train/000000"].wave == own.wave).all() and (store["train/000000"].frames == own.frames).all()

    parts.save_to_disk(str(tmp_path / "saved"))
    again = avr.data.from_hf(tmp_path / "saved", tmp_path / "again", **names)
    assert [e.label for e in again.entries] == [e.label for e in manifest.entries]


def test_a_dataset_of_videos_with_several_labels(tmp_path):
    hf = pytest.importorskip("datasets")
    rows = {"clip": media([MOVIE, MOVIE], "mp4"), "kinds": [[1, 0], []], "name": ["x", "y"]}
    kinds = hf.Features(
        {"clip": hf.Video(), "kinds": hf.List(hf.ClassLabel(names=["dog", "cat"])), "name": hf.Value("string")}
    )
    manifest = avr.data.from_hf(
        hf.Dataset.from_dict(rows).cast(kinds), tmp_path / "out", visual="clip", label="kinds", ids="name", split="test"
    )
    assert [(e.id, e.label, e.audio) for e in manifest.entries] == [("x", ("cat", "dog"), None), ("y", (), None)]
    store = prepare(manifest, SPEC, tmp_path / "store", workers=1, progress=False)
    assert [store.label(id) for id in store.ids("test")] == [(1.0, 1.0), (0.0, 0.0)]


def test_rows_of_bytes_paths_and_nothing(tmp_path):
    (tmp_path / "a.mp4").write_bytes(MOVIE)
    rows = [{"v": MOVIE, "y": 3}, {"v": str(tmp_path / "a.mp4"), "y": 3}, {"v": None, "y": 12}]
    manifest = avr.data.from_hf(rows, tmp_path / "out", visual="v", label="y", split="test")
    assert manifest.classes == ("12", "3")
    store = prepare(manifest, SPEC, tmp_path / "store", workers=1, progress=False)
    assert store.ids() == ("test/000000", "test/000001")
    assert [id for id, _, _ in store.failures] == ["test/000002"]


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ([{"v": b"", "y": 1}], {"label": "z"}, "expected a column 'z', got 'v', 'y'"),
        ([{"v": b"", "y": 1}], {"split": None}, r"expected the split of the clips, got 'none'\. Give split='train' or"),
        ({"unlabelled": [{"v": b"", "y": 1}]}, {}, "expected splits called train, .* got 'unlabelled'"),
        ({"validation": [], "dev": []}, {}, "expected one split that is 'val', got 'validation' and 'dev'"),
        ([{"v": "http://x/a.mp4", "y": 1}], {}, r"clip 'test/000000': expected media in the dataset or on this disk"),
        ([{"v": np.zeros(3), "y": 1}], {}, "expected a column with the feature Audio, Video or Image, .* got ndarray"),
        ([{"v": b"", "y": None}], {}, "expected a class as text or a whole number, got None"),
        ([], {}, "expected at least one clip, got none"),
        ([{"v": b"", "y": 1, "start": 2}], {"keep": ["start"]}, "called otherwise than a table's own, got 'start'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_dataset_is_said(tmp_path, rows, options, says):
    with pytest.raises(ManifestError, match=says):
        avr.data.from_hf(rows, tmp_path / "out", **{"visual": "v", "label": "y", "split": "test"} | options)


def test_nothing_is_written_through_a_link_to_a_file_of_the_user(tmp_path):
    files = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for file in files:
        file.write_text(file.name)
    hugging_face._link(files[0], tmp_path / "out/0.mp4")
    with pytest.raises(FileExistsError):
        hugging_face._link(files[1], tmp_path / "out/0.mp4")
    assert [file.read_text() for file in files] == ["a.mp4", "b.mp4"]


def test_a_folder_with_files_is_not_written_into_and_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "there").touch()
    with pytest.raises(ManifestError, match="expected a new folder"):
        avr.data.from_hf([], tmp_path, visual="v", label="y")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"expected the package datasets, .* pip install \"avrobust\[hub\]\""):
        avr.data.from_hf("someone/clips", Path(tmp_path, "new"), visual="v", label="y")
