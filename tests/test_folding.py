"""Folding leaves out what it would change, layer by layer, and the network is attacked all the same."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from avrobust import AV, FGSM, PGD, Seeds, Threat, engine, evaluate
from avrobust.engine import folding
from avrobust.engine.packed import Packed
from avrobust.engine.recognise import agree
from avrobust.models.fusion import Concat
from avrobust.models.network import AVNet
from nets import clips

BATCH = clips(6)


class Stem(nn.Module):
    """A convolution, its BatchNorm and a ReLU, then `rest`."""

    def __init__(self, rest, conv=None):
        super().__init__()
        self.conv, self.norm, self.relu = conv or nn.Conv1d(1, 12, 7, 3), nn.BatchNorm1d(12), nn.ReLU()
        self.rest = rest

    def forward(self, wave):
        return self.rest(self.relu(self.norm(self.conv(wave[:, None])))).mean(2)


class PreActivation(nn.Module):
    """x + conv(relu(norm(x))): what goes into the BatchNorm goes elsewhere too."""

    def __init__(self):
        super().__init__()
        self.norm, self.conv, self.last = nn.BatchNorm1d(12), nn.Conv1d(12, 12, 3, padding=1), nn.BatchNorm1d(12)

    def forward(self, z):
        return z + self.last(self.conv(self.norm(z).relu()))


class Straight(PreActivation):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(12, 12, 1)

    def forward(self, z):
        return super().forward(self.first(z))


class Standardised(nn.Conv1d):
    def forward(self, z):
        w = self.weight - self.weight.mean((1, 2), keepdim=True)
        return nn.functional.conv1d(z, w / w.std((1, 2), keepdim=True), self.bias, self.stride)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.one, self.two = nn.Conv1d(12, 12, 1), nn.BatchNorm1d(12), nn.BatchNorm1d(12)

    def forward(self, z):
        return self.two(self.conv(self.one(self.conv(z))))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.norm = nn.Conv1d(12, 12, 1), nn.Conv1d(12, 12, 1), nn.BatchNorm1d(12)
        self.two.weight = self.one.weight

    def forward(self, z):
        return self.norm(self.two(self.one(z)))


class Between(nn.Module):
    """Something is written into what the convolution gave, before the BatchNorm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(12, 12, 1), nn.BatchNorm1d(12)

    def forward(self, z):
        return self.norm(nn.functional.relu_(self.conv(z)))


class Asked(nn.Module):
    """A BatchNorm whose numbers are used by hand."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(12, 12, 1), nn.BatchNorm1d(12)

    def forward(self, z):
        return self.norm(self.conv(z)) + self.norm.running_mean[:, None]


class ReadTwice(nn.Module):
    """What the ReLU is given is needed for a gradient."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv1d(12, 12, 1), nn.ReLU()

    def forward(self, z):
        z = self.conv(z)
        return z.square() + self.relu(z)


class Uncopied(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(12, 12, 1)

    def __deepcopy__(self, memo):
        raise TypeError("cannot pickle a handle")

    def forward(self, z):
        return self.conv(z)


class CopiesToSomethingElse(Uncopied):
    def __deepcopy__(self, memo):
        return nn.Identity()


class Noisy(nn.Module):
    def forward(self, z):
        return z + 0.1 * torch.randn_like(z)


KINDS = {
    "pre-activation": (lambda: Stem(PreActivation()), 2), "straight before": (lambda: Stem(Straight()), 2),
    "standardised": (lambda: Stem(nn.Identity(), Standardised(1, 12, 7, 3)), 0), "shared": (lambda: Stem(Shared()), 1),
    "tied": (lambda: Stem(Tied()), 2), "written between": (lambda: Stem(Between()), 1), "asked": (lambda: Stem(Asked()), 1),
    "read twice": (lambda: Stem(ReadTwice()), 1), "not copied": (lambda: Stem(Uncopied()), None),
    "another copy": (lambda: Stem(CopiesToSomethingElse()), None), "random": (lambda: Stem(Noisy()), None),
    # torch cannot copy what the first of these computes
    "weight norm, old": (lambda: Stem(nn.Identity(), weight_norm(nn.Conv1d(1, 12, 7, 3))), None),
    "weight norm": (lambda: Stem(nn.Identity(), parametrizations.weight_norm(nn.Conv1d(1, 12, 7, 3))), 0),
    "spectral norm": (lambda: Stem(nn.Identity(), parametrizations.spectral_norm(nn.Conv1d(1, 12, 7, 3))), 0),
    "affine-less": (lambda: Stem(nn.Sequential(nn.Conv1d(12, 12, 1), nn.BatchNorm1d(12, affine=False))), 2),
    # of one clip, the mean of what such a BatchNorm gives is rounding alone
    "statistics of the batch": (lambda: Stem(nn.Sequential(nn.Conv1d(12, 12, 1), nn.BatchNorm1d(12, track_running_stats=False))), 0),
}  # fmt: skip


def net_with(make):
    torch.manual_seed(0)
    see = nn.Sequential(nn.Flatten(), nn.Linear(BATCH.x.visual[0].numel(), 12))
    net = AVNet(AV(make(), see), Concat(AV(12, 12)), 4, classifier_std=1.0).eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d) and m.running_mean is not None:
            m.running_mean.uniform_(-1, 1), m.running_var.uniform_(0.2, 4)
    return net


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("packs", [True, False], ids=["packed", "as on a GPU"])
@pytest.mark.parametrize(("make", "folded"), KINDS.values(), ids=KINDS)
def test_what_folding_would_change_stays(make, folded, packs, monkeypatch):
    if not packs:
        monkeypatch.setattr(folding, "packable", lambda layer: False)
    net = net_with(make)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    norms = sum(isinstance(m, nn.BatchNorm1d) for m in net.modules())
    x, threat = BATCH.x, Threat.linf(audio=0.05, visual=0.02)
    craft = engine.surrogate(net, x.map(lambda s: s[:1]))
    if folded is None:
        assert craft.net is net
    else:
        assert craft.net is not net
        assert sum(isinstance(m, nn.BatchNorm1d) for m in craft.net.modules()) == norms - folded
        assert torch.allclose(craft(x), net(x), atol=1e-4)
    made = PGD(steps=3)(craft, x, BATCH.label, threat, Seeds(0, BATCH.ids))
    if folded is not None:
        plain = PGD(steps=3)(lambda x: net(x), x, BATCH.label, threat, Seeds(0, BATCH.ids))
        assert ((made.audio - plain.audio).abs() > 1e-5).float().mean() < 0.02
    evaluate(net, [BATCH], [FGSM()], threat)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_silent_example_hides_nothing():
    """Silence stays silent through most layers: what does not show there has to show in noise."""
    net = net_with(lambda: Stem(PreActivation(), nn.Conv1d(1, 12, 7, 3, bias=False)))
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d):
            m.running_mean.zero_(), m.bias.data.zero_()
    silent = BATCH.x.map(lambda s: torch.zeros_like(s[:1]))
    craft = engine.surrogate(net, silent)
    assert agree(list(craft.net.embed(BATCH.x)), list(net.embed(BATCH.x)))
    assert sum(isinstance(m, nn.BatchNorm1d) for m in craft.net.modules()) == 1


def test_weights_that_are_computed_are_not_mistaken_for_others():
    """Such a weight is another tensor each time, whose place in memory the next one may get."""
    for _ in range(5):
        layers = [parametrizations.weight_norm(nn.Conv2d(3, 3, 1)) for _ in range(6)]
        net = net_with(lambda: Stem(nn.Identity()))
        net.visual = nn.Sequential(
            nn.Flatten(1, 2), nn.Conv2d(BATCH.x.visual.shape[1] * 3, 3, 1), *layers, nn.Flatten(), nn.LazyLinear(12)
        )
        net(BATCH.x)
        craft = engine.surrogate(net.eval(), BATCH.x)
        assert craft.net is not net
        assert torch.allclose(craft(BATCH.x), net(BATCH.x), atol=1e-4)


CONVOLUTIONS = [
    # over signals
    (nn.Conv2d(3, 8, 7, 2, 3), (33, 40)),
    (nn.Conv2d(1, 8, (1, 3), (1, 2), (0, 1)), (1, 65)),
    (nn.Conv2d(3, 8, 4, 4), (32, 30)),
    (nn.Conv2d(2, 8, 5, 1, 4), (9, 9)),
    (nn.Conv2d(3, 8, 1, 3, 2), (10, 11)),
    (nn.Conv1d(1, 8, 10, 5), (77,)),
    (nn.Conv1d(4, 8, 3, 4, 3), (50,)),
    # deeper
    (nn.Conv2d(64, 32, 3, 2, 1, bias=False), (9, 8)),
    (nn.Conv2d(16, 32, 3, 1, 2, dilation=2, groups=4), (7, 7)),
    (nn.Conv2d(16, 16, 5, 2, 2, groups=16), (9, 10)),
    (nn.Conv2d(5, 7, (1, 3), (1, 2), (0, 1)), (1, 30)),
    (nn.Conv1d(16, 8, 3, 2, 1), (31,)),
    (nn.Conv1d(6, 6, 5, 3, 4, dilation=2, groups=3), (40,)),
]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("conv", "size"), CONVOLUTIONS, ids=repr)
def test_a_packed_convolution_computes_the_same(conv, size, precision):
    torch.manual_seed(0)
    conv = copy.deepcopy(conv).requires_grad_(False)
    norm = nn.BatchNorm2d(conv.out_channels) if isinstance(conv, nn.Conv2d) else nn.BatchNorm1d(conv.out_channels)
    norm.eval().running_mean.uniform_(-1, 1), norm.running_var.uniform_(0.2, 4)
    x = torch.randn(2, conv.in_channels, *size, requires_grad=True)
    close = 1e-4 if precision == torch.float32 else 3e-2
    for after in (nn.Identity(), norm.requires_grad_(False)):
        packed = Packed(conv)
        packed.fold(after if after is norm else None)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            with torch.no_grad():
                before = packed(x)
            first, second = packed(x), packed(x)
        out = after(conv(x))
        assert first.dtype == precision and torch.equal(before, first) and torch.equal(first, second)
        wanted, *found = (
            torch.autograd.grad((o * torch.ones_like(out).cumsum(-1)).sum(), x)[0] for o in (out, first, second)
        )
        assert torch.equal(*found) and found[0].shape == wanted.shape and found[0].dtype == torch.float32
        for a, b in ((first.float(), out), (found[0], wanted)):
            assert (a - b).abs().max() < close * b.abs().max()


def test_weights_are_laid_out_for_what_is_attacked_and_freed_with_the_copy():
    net = net_with(lambda: Stem(Straight()))
    craft = engine.surrogate(net, BATCH.x.map(lambda s: s[:1]))
    convs = [m for m in craft.net.modules() if isinstance(m, nn.Conv1d)]
    held = [weakref.ref(m.forward) for m in convs]
    assert len(convs) == 3 and not any(m.forward._laid_out for m in convs)
    for subset, ways in (("V", set()), ("A", {"forwards", "backwards"})):
        FGSM()(craft, BATCH.x, BATCH.label, Threat.linf(audio=0.05, visual=0.02).only(subset), Seeds(0, BATCH.ids))
        assert all(set(m.forward._laid_out) == ways for m in convs)
    gc.disable()  # no circle has to be found first
    try:
        del craft, convs
        assert not any(ref() for ref in held)
    finally:
        gc.enable()


def test_what_onednn_does_not_compute_is_the_layer_s_own():
    conv = nn.Conv2d(4, 4, 3).requires_grad_(False)
    x = torch.rand(4, 9, 9, requires_grad=True)  # no batch
    assert torch.equal(Packed(conv)(x), conv(x))
    assert Packed(conv)(torch.rand(0, 4, 9, 9)).shape == (0, 4, 7, 7)
    assert torch.equal(Packed(conv.double())(x.double()), conv(x.double()))


def test_only_convolutions_as_torch_writes_them_are_packed():
    """A gradient that a layer's own code computes otherwise stays the layer's own."""
    for make, changed in (
        (lambda: Stem(nn.Identity()), True),
        (lambda: Stem(nn.Identity(), Standardised(1, 12, 7, 3)), False),
    ):
        craft = engine.surrogate(net_with(make), BATCH.x)
        assert [isinstance(m, nn.Conv1d) for m in craft.net.modules() if "forward" in vars(m)] == [True] * changed
