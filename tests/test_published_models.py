"""Published models: their checkpoints' names and shapes, their answers computed another way, and attacks on each of them."""

import pytest
import torch
from torch import nn

import avrobust as avr
from avrobust import AV, Batch, engine
from avrobust.engine.recognise import BESIDE_ALL
from avrobust.files import CheckpointError
from avrobust.models import published

TINY = published.CavMaeSize(width=16, heads=2, separate=2, joint=1, frames=64)
RATE = 16_000


def clips(n: int = 4, frames: int = 2) -> AV:
    g = torch.Generator().manual_seed(0)
    wave = (torch.rand(n, RATE // 2, generator=g) - 0.5) * torch.linspace(0.2, 1, n)[:, None]
    pictures = torch.rand(n, frames, 3, 40, 56, generator=g) * 0.5 + torch.linspace(0, 0.5, n).view(-1, 1, 1, 1, 1)
    return AV(audio=wave, visual=pictures)


def cav_mae(**settings):
    torch.manual_seed(0)
    net = published.CavMae(5, published.cav_mae_inputs(RATE, frames=64), TINY, **settings).eval()
    for name, p in net.named_parameters():
        if "norm" in name or "mlp_head" in name:
            nn.init.normal_(p, 1.0, 0.3)  # no normalisation is another's, and classes differ
    return net


# What `CAVMAEFT(label_dim, modality_specific_depth=11)` of YuanGongND/cav-mae has, by name.
def cav_mae_checkpoint(classes: int) -> dict[str, tuple[int, ...]]:
    norm, shapes = {"weight": (768,), "bias": (768,)}, {}

    def put(name: str, parts: dict[str, tuple[int, ...]]) -> None:
        shapes.update({f"{name}.{leaf}": shape for leaf, shape in parts.items()})

    for kind, colours, places in (("a", 1, 512), ("v", 3, 196)):
        put(f"patch_embed_{kind}.proj", {"weight": (768, colours, 16, 16), "bias": (768,)})
        shapes |= {f"modality_{kind}": (1, 1, 768), f"pos_embed_{kind}": (1, places, 768)}
    for kind, depth in (("a", 11), ("v", 11), ("u", 1)):
        for block in (f"blocks_{kind}.{i}" for i in range(depth)):
            for which in ("norm1", "norm1_a", "norm1_v", "norm2", "norm2_a", "norm2_v"):
                put(f"{block}.{which}", norm)
            put(f"{block}.attn.qkv", {"weight": (2304, 768), "bias": (2304,)})
            put(f"{block}.attn.proj", {"weight": (768, 768), "bias": (768,)})
            put(f"{block}.mlp.fc1", {"weight": (3072, 768), "bias": (3072,)})
            put(f"{block}.mlp.fc2", {"weight": (768, 3072), "bias": (768,)})
    for which in ("norm", "norm_a", "norm_v", "mlp_head.0"):
        put(which, norm)
    put("mlp_head.1", {"weight": (classes, 768), "bias": (classes,)})
    return shapes


def tensors(shapes, prefix: str = "module."):
    """One number in each tensor, so that the file is small; another in each."""
    return {
        f"{prefix}{name}": torch.full((1,), i / 1000).expand(shape) for i, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize(("classes", "prefix"), [(309, "module."), (527, "")])
def test_a_cav_mae_checkpoint_loads_by_its_names(classes, prefix, tmp_path):
    given = tensors(cav_mae_checkpoint(classes), prefix)
    torch.save(given, tmp_path / "vgg.pth")
    net = published.cav_mae(tmp_path / "vgg.pth", classes, rate=RATE)
    assert not net.training
    assert all(torch.equal(tensor, given[prefix + name]) for name, tensor in net.state_dict().items())
    assert len(given) == len(net.state_dict()) == 478


class Code:
    def __reduce__(self):
        return print, ("it ran",)


def refused():
    fine = cav_mae_checkpoint(309)
    pretrained = {name: shape for name, shape in fine.items() if "mlp_head" not in name}
    yield (
        "other classes",
        tensors(cav_mae_checkpoint(527)),
        r"'mlp_head.1.weight' is \(527, 768\) instead of \(309, 768\)",
    )
    yield (
        "pretraining",
        tensors(pretrained | {"decoder_embed.weight": (512, 768)}),
        "'mlp_head.0.weight' is missing",
    )
    yield "another network", {"module.fc.weight": torch.zeros(2, 2)}, "got those of another network: .* and 476 more"
    yield "more than tensors", {"epoch": 3}, "'epoch' is a int"
    yield "code", Code(), "a pickle that would run"


@pytest.mark.parametrize(("held", "message"), [pytest.param(*case, id=name) for name, *case in refused()])
def test_another_cav_mae_checkpoint_is_refused(held, message, tmp_path, capsys):
    torch.save(held, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=f"(?s)other.pth: expected .*{message}.*(Give|Save|save)"):
        published.cav_mae(tmp_path / "other.pth", 309, rate=RATE)
    assert not capsys.readouterr().out


def test_a_cav_mae_checkpoint_that_is_not_there(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"none.pth: expected a checkpoint of CAV-MAE, got no such file. Download"
    ):
        published.cav_mae(tmp_path / "none.pth", 309, rate=RATE)
    with pytest.raises(ValueError, match="expected a mode of multimodal, audioonly, videoonly, got 'audio'"):
        cav_mae(mode="audio")


def by_torch(block, norms: str):
    """The same block by PyTorch's own layer."""
    layer = nn.TransformerEncoderLayer(16, 2, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    state = block.state_dict()
    told = {"self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj.": "attn.proj.", "linear1.": "mlp.fc1."}
    told |= {"linear2.": "mlp.fc2.", "norm1.": f"norm1{norms}.", "norm2.": f"norm2{norms}."}
    layer.load_state_dict({new + leaf: state[old + leaf] for new, old in told.items() for leaf in ("weight", "bias")})
    return layer.eval()


@pytest.mark.parametrize(("mode", "norms"), [("multimodal", ""), ("audioonly", "_a"), ("videoonly", "_v")])
@torch.no_grad()
def test_cav_mae_computed_by_torchs_layers(mode, norms):
    net, x = cav_mae(mode=mode), clips(2, frames=1)
    ours = dict(net.named_parameters())
    pictures = net.inputs["audio"](x.audio).transpose(1, 2)[:, None], net.inputs["visual"](x.visual)[:, 0]
    streams = []
    for kind, picture in zip("av", pictures, strict=True):
        weight = ours[f"patch_embed_{kind}.proj.weight"].flatten(1)
        patches = nn.functional.unfold(picture, 16, stride=16).transpose(1, 2)
        z = patches @ weight.T + ours[f"patch_embed_{kind}.proj.bias"]
        z = z + ours[f"pos_embed_{kind}"] + ours[f"modality_{kind}"]
        for block in net.get_submodule(f"blocks_{kind}"):
            z = by_torch(block, "")(z)
        streams.append(z)
    z = {"": torch.cat(streams, 1), "_a": streams[0], "_v": streams[1]}[norms]
    z = by_torch(net.get_submodule("blocks_u.0"), norms)(z)
    expected = net.mlp_head(net.get_submodule(f"norm{norms}")(z).mean(1))
    assert expected.std() > 1e-3
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
@torch.no_grad()
def test_cav_mae_answers_the_mean_probability_over_frames(multi_label):
    net, x = cav_mae(multi_label=multi_label), clips(2, frames=3)
    probabilities = torch.sigmoid if multi_label else nn.functional.softmax
    each = [probabilities(net(AV(x.audio, x.visual[:, [i]])), **({} if multi_label else {"dim": 1})) for i in range(3)]
    found = probabilities(net(x), **({} if multi_label else {"dim": 1}))
    torch.testing.assert_close(found, torch.stack(each).mean(0), rtol=1e-4, atol=1e-6)


# Each, and the modality that it ignores.
MODELS = {
    "cav-mae": (cav_mae, None),
    "cav-mae, multi-label": (lambda: cav_mae(multi_label=True), None),
    "cav-mae, audio": (lambda: cav_mae(mode="audioonly"), "visual"),
    "cav-mae, video": (lambda: cav_mae(mode="videoonly"), "audio"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_published_model_is_attacked_as_two_streams(name):
    (make, ignored), batch = MODELS[name], Batch(clips(), torch.arange(4))
    net = make()
    victim = engine.as_victim(net, batch.x)
    assert isinstance(victim, engine.TwoStream) and victim.embeds is not BESIDE_ALL
    assert torch.equal(net(batch.x), net.decide(net.embed(batch.x)))
    threat = avr.Threat.linf(audio=0.02, visual="8/255")
    _, grad = engine.gradient(engine.surrogate(net, batch.x), avr.objectives.margin, batch.x, batch.label, threat)
    for modality, g in grad.items():
        assert (g.flatten(1).abs().amax(1) > 0).all() == (modality != ignored)
    rows = avr.evaluate(net, [batch], [avr.PGD(steps=2)], [threat]).where(attack="PGD-2")
    for modality in ("audio", "visual"):
        used = torch.tensor(rows.column(f"used_{modality}"))
        assert len(used) == 4 and used.max() <= 1 + 1e-5 and (used.min() > 0.5 or modality == ignored)
