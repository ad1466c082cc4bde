"""The network, its encoders and fusions: shapes, numbers, seeds, and what they refuse."""

import json
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTConfig, ViTModel

from avrobust.config import from_plain, to_plain
from avrobust.facts import IMAGENET_MEAN, IMAGENET_STD
from avrobust.models import FUSIONS, AVNet, Conv1dNet, FrameNet, NetSpec, count_parameters
from avrobust.models.visual import pretrained, resnet18
from avrobust.types import AV, Signals

SMALL = NetSpec(classes=5, width=16)


def signals(b: int = 3, n: int = 4096, t: int = 2, size: int = 32) -> Signals:
    g = torch.Generator().manual_seed(0)
    return AV(
        audio=torch.rand(b, n, generator=g) * 2 - 1,
        visual=torch.rand(b, t, 3, size, size, generator=g),
    )


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_forward_is_classify_of_fuse_of_embed() -> None:
    net, x = SMALL.build(seed=0).eval(), signals()
    f = net.embed(x)
    assert f.audio.shape == f.visual.shape == (3, 128)
    assert net.fuse(f).shape == (3, 256)
    assert torch.equal(net(x), net.classify(net.fuse(f)))
    assert net(x).shape == (3, 5)


@pytest.mark.parametrize("modality", ["A", "V"])
def test_a_unimodal_network_does_not_depend_on_the_other_modality(modality: str) -> None:
    net, x = NetSpec(classes=5, width=16, modality=modality).build(seed=0).eval(), signals()
    absent, present = ("visual", "audio") if modality == "A" else ("audio", "visual")
    other = AV(audio=x.audio, visual=x.visual * 0) if modality == "A" else AV(audio=x.audio * 0, visual=x.visual)
    f = net.embed(x)
    assert getattr(f, absent).shape == (3, 0)
    assert getattr(f, present).shape == (3, 128)
    assert torch.equal(net(x), net(other))
    assert not torch.equal(net(x), net(signals(n=5000).map(lambda s: s * 0.5)))


def test_published_sizes() -> None:
    sound = NetSpec(classes=11, modality="A").build(seed=0)
    picture = NetSpec(classes=11, modality="V").build(seed=0)
    # 8 convolutions of kernel 3 and their normalisations; ResNet-18 without its classifier has 11,176,512.
    channels = [1, 64, 64, 128, 128, 256, 256, 512, 512]
    convolutions = sum(3 * a * b for a, b in pairwise(channels))
    assert count_parameters(sound.audio) == convolutions + 2 * sum(channels[1:])
    assert count_parameters(picture.visual) == 11_176_512
    assert sound.classifier.in_features == picture.classifier.in_features == 512


def test_sound_network_equals_the_published_1d_layout() -> None:
    """The same eight convolutions written with Conv1d, biases included, give the same features."""
    torch.manual_seed(0)
    net = Conv1dNet(width=4).eval()
    layers: list[nn.Module] = []
    for module in net.layers:
        if isinstance(module, nn.Conv2d):
            conv = nn.Conv1d(module.in_channels, module.out_channels, 3, stride=2, padding=1)
            nn.init.normal_(conv.bias)
            with torch.no_grad():
                module.weight.copy_(conv.weight.unsqueeze(2))
            layers.append(conv)
        elif isinstance(module, nn.BatchNorm2d):
            norm = nn.BatchNorm1d(module.num_features)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            module.load_state_dict(norm.state_dict())
            module.running_mean -= layers[-1].bias.detach()
            layers.append(norm)
        else:
            layers.append(nn.ReLU() if isinstance(module, nn.ReLU) else nn.MaxPool1d(2))
    published = nn.Sequential(*layers).eval()
    wave = signals(n=9000).audio
    expected = F.adaptive_max_pool1d(published(wave[:, None]), 1).flatten(1)
    torch.testing.assert_close(net(wave), expected)


def test_every_convolution_is_followed_by_its_normalisation() -> None:
    """Folding the normalisation into the convolution relies on it."""
    for parent in SMALL.build(seed=0).modules():
        children = list(parent.children())
        for child, following in zip(children, [*children[1:], None], strict=False):
            if isinstance(child, nn.Conv2d):
                assert isinstance(following, nn.BatchNorm2d)
                assert following.num_features == child.out_channels


def test_picture_network_normalises_inside_and_averages_over_frames() -> None:
    torch.manual_seed(0)
    net = FrameNet(resnet18(width=4)).eval()
    frames = signals(t=3).visual
    mean, std = (torch.tensor(c).view(3, 1, 1) for c in (IMAGENET_MEAN, IMAGENET_STD))
    by_hand = [net.backbone((frames[:, j] - mean) / std).pooler_output.flatten(1) for j in range(3)]
    torch.testing.assert_close(net(frames), torch.stack(by_hand).mean(0))
    torch.testing.assert_close(net(frames[:, :1]), by_hand[0])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fusions_match_their_formula(fusion: str) -> None:
    torch.manual_seed(0)
    fuse = FUSIONS[fusion](AV(audio=6, visual=6))
    a, v = torch.randn(4, 6), torch.randn(4, 6, 2, 3, 5) if fuse.spatial else torch.randn(4, 6)
    if fuse.spatial:
        rows = v.flatten(2)
        scale = 6**0.5 if fusion == "attention" else 1.0
        weight = torch.softmax((a[:, None] @ rows)[:, 0] / scale, dim=1)
        updated = AV(audio=a, visual=(rows * weight[:, None]).sum(2))
    elif fusion in ("concat", "sum"):
        updated = AV(audio=a, visual=v)
    elif fusion == "film":
        scale_a, shift_a = fuse.from_visual(v).split(6, dim=1)
        scale_v, shift_v = fuse.from_audio(a).split(6, dim=1)
        updated = AV(audio=a * (1 + scale_a) + shift_a, visual=v * (1 + scale_v) + shift_v)
    else:
        updated = AV(audio=a * fuse.from_visual(v).sigmoid(), visual=v * fuse.from_audio(a).sigmoid())
    beside = "concat" in fusion or fuse.spatial
    expected = torch.cat(list(updated), 1) if beside else updated.audio + updated.visual
    torch.testing.assert_close(fuse(AV(audio=a, visual=v)), expected)
    assert fuse.width == expected.shape[1]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_trains_every_weight(fusion: str) -> None:
    net = NetSpec(classes=5, width=16, fusion=fusion).build(seed=0)
    F.cross_entropy(net(signals()), torch.tensor([0, 1, 2])).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_places_keep_the_resolution_of_the_last_stage_but_one() -> None:
    for size, side in ((64, 4), (96, 6)):
        net = FrameNet(resnet18(width=4), spatial=True).eval()
        assert net(signals(t=3, size=size).visual).shape == (3, 32, 3, side, side)
    torch.manual_seed(0)
    backbone = resnet18(width=4)
    net = FrameNet(backbone, spatial=True).eval()
    frames = signals(t=3).visual
    mean, std = (torch.tensor(c).view(3, 1, 1) for c in (IMAGENET_MEAN, IMAGENET_STD))
    for j in range(3):  # each frame has its own map
        torch.testing.assert_close(net(frames)[:, :, j], backbone((frames[:, j] - mean) / std).last_hidden_state)


def test_attention_takes_the_weights_of_a_concat_network() -> None:
    concat, attention = (NetSpec(classes=5, width=16, fusion=f).build(seed=0).eval() for f in ("concat", "attention"))
    other = NetSpec(classes=5, width=16).build(seed=1).eval()
    attention.load_state_dict(other.state_dict())  # by name and shape, all of them
    x = signals(size=64)
    f = attention.embed(x)
    assert f.visual.shape == (3, 128, 2, 4, 4)
    assert torch.equal(f.audio, other.embed(x).audio)
    assert attention.classifier.in_features == concat.classifier.in_features == 256
    with torch.no_grad():
        assert not torch.allclose(attention(x), other(x))
        again = from_plain(json.loads(json.dumps(to_plain(attention.spec)))).rebuild()
        again.load_state_dict(attention.state_dict())
        assert torch.equal(again.eval()(x), attention(x))


def test_only_a_resnet_has_spatial_features() -> None:
    vit = ViTModel(
        ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32)
    )
    with pytest.raises(ValueError, match="expected a ResNet for spatial attention, got ViTModel"):
        FrameNet(vit, spatial=True)


def test_a_feature_defense_stands_between_the_encoders_and_the_fusion() -> None:
    class Half(nn.Module):
        def forward(self, f: AV[Tensor]) -> AV[Tensor]:
            return AV(audio=f.audio / 2, visual=-f.visual)

    net, x = SMALL.build(seed=0).eval(), signals()
    f, plain = net.embed(x), net(x)
    for a, b in zip(net.represent(x), f, strict=True):  # no feature defense: what the encoders give
        assert torch.equal(a, b)
    net.feature_defense = Half()
    defended = net.represent(x)
    assert torch.equal(defended.audio, f.audio / 2)
    assert torch.equal(defended.visual, -f.visual)
    assert torch.equal(net.embed(x).audio, f.audio)
    assert torch.equal(net.decide(f), plain)
    assert torch.equal(net.decide(defended), net.classify(torch.cat([f.audio / 2, -f.visual], 1)))
    assert torch.equal(net(x), net.decide(defended))
    assert not torch.equal(net(x), plain)


def test_weights_depend_on_the_seed_only() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a = weights(SMALL.build(seed=0))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    b, c = weights(SMALL.build(seed=0)), weights(SMALL.build(seed=1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["classifier.weight"], c["classifier.weight"])
    assert not torch.equal(a["audio.layers.0.weight"], c["audio.layers.0.weight"])
    key = "visual.backbone.embedder.embedder.convolution.weight"
    assert not torch.equal(a[key], c[key])


def test_classifier_starts_small() -> None:
    for std in (1e-2, 1e-4):
        net = NetSpec(classes=50, classifier_std=std).build(seed=0)
        assert net.classifier.weight.std().item() == pytest.approx(std, rel=0.02)
        assert not net.classifier.bias.any()


def test_rebuild_makes_the_same_network_from_plain_data() -> None:
    for spec in (
        SMALL,
        NetSpec(classes=5, width=16, modality="A"),
        NetSpec(classes=5, width=16, fusion="film"),
    ):
        net = spec.build(seed=3)
        again = from_plain(json.loads(json.dumps(to_plain(net.spec)))).rebuild()
        again.load_state_dict(net.state_dict())
        assert torch.equal(net.eval()(signals()), again.eval()(signals()))


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_pretrained_weights_by_folder(tmp_path, stored) -> None:  # type: ignore[no-untyped-def]
    """A folder holds any image model, in any precision; the checkpointed description no longer needs that folder."""
    torch.manual_seed(0)
    backbone = resnet18(width=32).to(stored)
    backbone.save_pretrained(tmp_path)
    net = NetSpec(classes=5, width=16, visual_weights=str(tmp_path)).build(seed=0)
    assert net.visual.width == 256
    for name, value in backbone.state_dict().items():
        assert torch.equal(
            net.visual.backbone.state_dict()[name], value.float() if value.is_floating_point() else value
        )
    assert net(signals()).dtype == torch.float32
    (tmp_path / "config.json").unlink()
    assert net.spec.rebuild().visual.width == 256


def test_pretrained_weights_that_are_not_there(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(OSError, match=r"expected the weights .*nowhere.* got: .*random ones"):
        pretrained(str(tmp_path / "nowhere"))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least 2341 samples of audio, got 2340"):
        Conv1dNet(width=4)(torch.zeros(1, 2340))
    assert Conv1dNet(width=4).eval()(torch.zeros(1, 2341)).shape == (1, 32)
    with pytest.raises(ValueError, match=r"expected a fusion of concat, sum.*got 'max'"):
        NetSpec(classes=5, fusion="max")
    with pytest.raises(ValueError, match="nothing to fuse"):
        NetSpec(classes=5, modality="A", fusion="sum")
    with pytest.raises(ValueError, match="a multiple of 16, got 24"):
        NetSpec(classes=5, width=24)
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        NetSpec(classes=1)
    with pytest.raises(ValueError, match=r"one width to add, got 3 \(audio\) and 4 \(visual\)"):
        FUSIONS["sum"](AV(audio=3, visual=4))


def test_a_network_put_together_by_hand() -> None:
    class Mean(nn.Module):
        width = 1

        def forward(self, signal: Tensor) -> Tensor:
            return signal.flatten(1).mean(1, keepdim=True)

    net = AVNet(AV(audio=Mean(), visual=Mean()), FUSIONS["sum"](AV(audio=1, visual=1)), classes=3)
    assert net(signals()).shape == (3, 3)
    assert net.spec is None
