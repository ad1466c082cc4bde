"""Checkpoints between strangers: no code runs, odd headers are refused in words, and a feature defense comes back or is refused."""

import builtins
import json
import random
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from avrobust.models.configurations import IMAGES, known_settings
from avrobust.models.visual import FrameNet, from_config, pretrained, resnet18
from avrobust.models.zoo import NetSpec
from avrobust.training import CheckpointError, checkpoint, load, save
from avrobust.types import AV
from their_defense import Blend, Faded, Quantised, Settings

X = AV(
    audio=torch.rand(3, 4096, generator=torch.Generator().manual_seed(0)) - 0.5,
    visual=torch.rand(3, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small network."""
    path = tmp_path_factory.mktemp("good") / "net.safetensors"
    save(NetSpec(classes=5, width=16).build(seed=0), path, {"note": "mine"})
    return path


@pytest.fixture
def nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where anything asks a question, or where anything but the tests' own modules is imported from a new place."""

    def asked(*args: object) -> str:
        raise AssertionError("a question was asked")

    monkeypatch.setattr(builtins, "input", asked)
    monkeypatch.setattr(sys.stdin, "readline", asked, raising=False)


def rewritten(good: Path, path: Path, change: object) -> Path:
    """The checkpoint with another header: `change` edits the metadata, or is the text of it."""
    meta = checkpoint.read_meta(good)
    text = change if isinstance(change, str) else json.dumps(change(meta) or meta)
    save_file(load_file(good), path, {"avrobust": text})
    return path


def backbone(**keys: object):
    return lambda meta: meta["spec"]["backbone"].update(keys)


HOSTILE = {
    "another type, with code": backbone(model_type="deepseek_vl", auto_map={"AutoModel": "evil/repo--code.Model"}),
    "a known type, with code": backbone(auto_map={"AutoModel": "evil/repo--code.Model", "AutoConfig": "code.Config"}),
    "a text model": backbone(model_type="bert"),
    "no type": backbone(model_type=None),
    "a list for a type": backbone(model_type=["resnet"]),
    "a kernel of the hub": backbone(attn_implementation="evil/kernel"),
    "the same, inside": backbone(_attn_implementation="evil/kernel", _attn_implementation_internal="evil/kernel"),
    "trust": backbone(trust_remote_code=True),
    "a quantiser": backbone(quantization_config={"quant_method": "evil"}),
    "another library": backbone(use_timm_backbone=True, backbone="evil"),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_header_runs_no_code(good, tmp_path, nobody_asks, change):
    with pytest.raises(CheckpointError, match=r"x\.safetensors: expected the description of a network"):
        load(rewritten(good, tmp_path / "x.safetensors", change))


def test_a_folder_of_weights_runs_no_code(tmp_path, nobody_asks):
    resnet18(16).save_pretrained(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "code.py").write_text("raise AssertionError('it ran')")
    hostile = told | {
        "auto_map": {"AutoModel": "code.Model", "AutoConfig": "code.Config"},
        "attn_implementation": "e/k",
    }
    (tmp_path / "config.json").write_text(json.dumps(hostile))
    assert type(pretrained(str(tmp_path))).__module__.startswith("transformers.")
    (tmp_path / "config.json").write_text(json.dumps(hostile | {"model_type": "evil"}))
    with pytest.raises(ValueError, match=r"expected a model of type resnet, .* got 'evil'"):
        pretrained(str(tmp_path))


@pytest.mark.parametrize("kind", IMAGES)
def test_every_allowed_image_network_gives_features(kind):
    small = {"image_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    small |= {"intermediate_size": 16, "embed_dim": 8, "num_heads": [2, 2], "window_size": 2, "groups_width": 8}
    small |= {"embedding_size": 16, "hidden_sizes": [8, 8, 8, 16]}
    small |= {"depths": [1, 1] if kind in ("swin", "efficientnet-lite") else [1] * 4}
    small |= {"kernel_sizes": [3, 5], "strides": [1, 2], "expand_ratios": [1, 6]}
    net = FrameNet(from_config(known_settings({"model_type": kind} | small, IMAGES)))
    assert net.eval()(X.visual).shape == (3, 16)


def defense(name: object, **settings: object):
    return lambda meta: meta.update(feature_defense={"class": name} | settings)


ODD = {
    "not JSON": "{",
    "a list": "[1, 2]",
    "a number": "7",
    "nested deeply": '{"spec":' * 500 + "1" + "}" * 500,
    "nested without end": "[" * 100_000,
    "no description": lambda meta: meta.update(spec=None),
    "a text for a description": lambda meta: meta.update(spec="AVNet"),
    "a list for a description": lambda meta: meta.update(spec=[1]),
    "no classes": lambda meta: meta["spec"].pop("classes") and None,
    "no backbone": lambda meta: meta["spec"].pop("backbone") and None,
    "text classes": lambda meta: meta["spec"].update(classes="5"),
    "true classes": lambda meta: meta["spec"].update(classes=True),
    "many classes": lambda meta: meta["spec"].update(classes=10**12),
    "more classes than a number holds": lambda meta: meta["spec"].update(classes=10**30),
    "negative width": lambda meta: meta["spec"].update(width=-16),
    "wide": lambda meta: meta["spec"].update(width=16 * 10**9),
    "NaN": lambda meta: meta["spec"].update(classifier_std=float("nan")),
    "another fusion": lambda meta: meta["spec"].update(fusion="x" * 10**6),
    "another modality": lambda meta: meta["spec"].update(modality="T"),
    "sound alone": lambda meta: meta["spec"].update(modality="A"),
    "unknown setting": lambda meta: meta["spec"].update(evil=1),
    "text depths": backbone(depths="2222"),
    "endless depths": backbone(depths=[10**9] * 4),
    "negative depths": backbone(depths=[-2] * 4),
    "no depths": backbone(depths=[]),
    "huge features": backbone(hidden_sizes=[10**12] * 4),
    "NaN features": backbone(embedding_size=float("nan")),
    "an unknown activation": backbone(hidden_act="exec"),
    "a feature defense of text": lambda meta: meta.update(feature_defense="ExFMem"),
    "a feature defense of lists": defense(["avrobust.defenses.memory:Memory"]),
    "one of another version": lambda meta: meta.update(feature_defense={"kind": "ExFMem"}),
    "a memory without settings": defense("avrobust.defenses.memory:Memory"),
    "a memory without end": defense(
        "avrobust.defenses.memory:Memory",
        settings={"class": "avrobust.defenses.memory:ExFMem"},
        banks={
            "audio": {"zeros": [10**9, 10**9], "dtype": "float32"},
            "visual": {"zeros": [-1, 2], "dtype": "float32"},
        },
    ),
    "a memory of no numbers": defense(
        "avrobust.defenses.memory:Memory",
        settings={"class": "avrobust.defenses.memory:ExFMem"},
        banks={"audio": {"zeros": [1], "dtype": "save"}, "visual": 1},
    ),
    "other settings": defense("avrobust.defenses.memory:Memory", settings={"class": "avrobust.defenses.broken:Broken"}),
    "centres without end": defense("avrobust.defenses.pcl:Centres", classes=10**12, width=10**6),
    "a disguise of text": defense("avrobust.defenses.broken:BrokenDefense", settings={"how": "rounded", "amount": "2"}),
    "no feature defense of ours": defense("avrobust.models.audio:Conv1dNet", width=64),
    "a module of torch": defense("torch.nn.modules.linear:Linear", in_features=1, out_features=1),
    "a module of os": defense("os:system", command="true"),
    "a module without a name": defense(""),
    "settings of nothing": defense("their_defense:Faded", x={}),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD.keys())
def test_an_odd_header_is_refused_in_words(good, tmp_path, change):
    with pytest.raises(CheckpointError, match=r"x\.safetensors: expected .*\. .*") as raised:
        load(rewritten(good, tmp_path / "x.safetensors", change))
    assert len(str(raised.value)) < 1000


def test_headers_changed_at_random_load_the_same_or_are_refused(good, tmp_path):
    """Three hundred headers, each changed in one to three places; nothing but CheckpointError comes of it."""
    draws, seen = random.Random(0), {"loaded": 0, "refused": 0}
    values = [
        None,
        True,
        -1,
        0,
        10**12,
        0.5,
        float("nan"),
        float("inf"),
        "",
        "x" * 10**4,
        "resnet",
        [],
        [[]],
        {},
        {"kind": 1},
    ]
    before = load(good)[0](X)
    for number in range(300):
        meta = checkpoint.read_meta(good)
        for _ in range(draws.randint(1, 3)):
            at = draws.choice(
                [meta, meta["spec"], meta["spec"]["backbone"]]
                if isinstance(meta.get("spec"), dict) and isinstance(meta["spec"].get("backbone"), dict)
                else [meta]
            )
            key = draws.choice([*sorted(at), "another"])
            if draws.random() < 0.2:
                at.pop(key, None)
            else:
                at[key] = draws.choice(values)
        path = tmp_path / f"{number}.safetensors"
        save_file(load_file(good), path, {"avrobust": json.dumps(meta)})
        try:
            net, _ = load(path)
        except CheckpointError as error:
            assert str(path) in str(error)
            seen["refused"] += 1
        else:
            assert net(X).shape == before.shape
            seen["loaded"] += 1
        path.unlink()
    assert seen["refused"] > 100 and seen["loaded"] > 20  # what says nothing of the network may say anything


def test_weights_of_another_kind_of_number_are_refused(good, tmp_path):
    tensors = load_file(good)
    tensors["classifier.weight"] = tensors["classifier.weight"].int()
    save_file(tensors, tmp_path / "x.safetensors", {"avrobust": json.dumps(checkpoint.read_meta(good))})
    with pytest.raises(CheckpointError, match=r"'classifier.weight' is of torch.int32 instead of torch.float32"):
        load(tmp_path / "x.safetensors")


# --- feature defenses of one's own


@pytest.mark.parametrize(
    "feature_defense", [Faded(0.25), Quantised(torch.tensor([0.5, 0.25])), Blend(Settings(share=0.3, over=(0, 1)), width=128)],
    ids=lambda g: type(g).__name__,
)  # fmt: skip
def test_a_defense_of_one_s_own_comes_back(tmp_path, feature_defense):
    net = NetSpec(classes=5, width=16).build(seed=0).eval()
    bare = net(X)
    net.feature_defense = feature_defense
    with torch.no_grad():
        for number in feature_defense.state_dict().values():
            number.add_(0.125)  # with what it learnt
    save(net, tmp_path / "net.safetensors", {})
    back, _ = load(tmp_path / "net.safetensors")
    assert torch.equal(back(X), net(X)) and not torch.equal(back(X), bare)
    assert type(back.feature_defense) is type(feature_defense)


def test_a_defense_is_imported_only_where_that_is_allowed(tmp_path, monkeypatch):
    (tmp_path / "stranger_defense.py").write_text(
        "from torch import nn\nclass Half(nn.Module):\n    def forward(self, f):\n        return f.map(lambda z: z / 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import stranger_defense

    net = NetSpec(classes=5, width=16).build(seed=0).eval()
    net.feature_defense = stranger_defense.Half()
    path = tmp_path / "net.safetensors"
    save(net, path, {})
    monkeypatch.delitem(sys.modules, "stranger_defense")
    with pytest.raises(CheckpointError, match=r"allow it: allow=\('stranger_defense',\)"):
        load(path)
    assert "stranger_defense" not in sys.modules
    with pytest.raises(CheckpointError, match="allow"):
        load(path, allow=("stranger",))  # a package, not the beginning of a name
    back, _ = load(path, allow=("stranger_defense:",))
    assert torch.equal(back(X), net(X))


def test_a_defense_that_would_not_come_back_is_refused_when_it_is_saved(tmp_path):
    class Local(nn.Module):
        def forward(self, f):
            return f

    hooked, changed, other, grown = Faded(0.5), Faded(0.5), Faded(0.5), Faded(0.5)
    hooked.register_forward_hook(lambda module, args, out: out)
    changed.later = 3.0  # no argument of its constructor
    other.forward = lambda f: f
    grown.head = nn.Linear(1, 1)
    net = NetSpec(classes=5, width=16).build(seed=0)
    for feature_defense, says in (
        (Local(), "that another program can import"),
        (nn.Sequential(Faded(0.5), Faded(0.1)), "got 'torch.nn.modules.container:Sequential'"),
        (grown, "in one of them only"),
        (hooked, "has a hook"),
        (changed, "'later' would be lost or changed"),
        (other, "'forward' would be lost or changed"),
        (Blend(Settings(share=lambda: 1)), "plain settings"),
    ):
        net.feature_defense = feature_defense
        with pytest.raises(CheckpointError, match=f"net.safetensors: expected .*{says}"):
            save(net, tmp_path / "net.safetensors", {})
    assert not list(tmp_path.iterdir())


def test_a_network_that_was_changed_says_that_it_cannot_be_built_again(tmp_path):
    net = NetSpec(classes=5, width=16).build(seed=0)
    net.audio.layers[2] = nn.GELU()  # no weights: nothing else would tell
    save(net, tmp_path / "net.safetensors", {})
    with pytest.raises(CheckpointError, match="got weights alone"):
        load(tmp_path / "net.safetensors")
    assert load(tmp_path / "net.safetensors", net)[0] is net


def test_weights_go_into_a_network_with_the_defense_that_they_were_saved_with(tmp_path):
    net = NetSpec(classes=5, width=16).build(seed=0)
    net.feature_defense = Faded(0.5)
    save(net, tmp_path / "net.safetensors", {})
    with pytest.raises(CheckpointError, match=r"expected the feature defense None, got .*Faded"):
        load(tmp_path / "net.safetensors", NetSpec(classes=5, width=16).build(seed=0))
