"""Test-time adaptation: what it may see, what it changes, and what is refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from avrobust import FGSM, Threat
from avrobust.attacks import ANYTHING
from avrobust.corruptions import Missing, corruptions
from avrobust.defenses import Read, Tent
from avrobust.evaluation.adapting import adapted
from avrobust.evaluation.channels import Lossless, Sent
from avrobust.evaluation.natural import missing_robustness, natural_robustness
from avrobust.models.network import Network
from avrobust.types import InputError
from nets import clips, network

METHODS = [Tent(rate=0.05), Read(rate=0.05)]
ASKED = [*corruptions(["gaussian"], (1, 5), rate=8000), Missing(1.0)]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_labels_are_never_seen_and_the_network_stays_as_it_was(method):
    net = network()
    before = {name: w.clone() for name, w in net.state_dict().items()}
    batches = [clips(12).subset(range(at, at + 4)) for at in (0, 4, 8)]
    others = [replace(b, label=(b.label + 1) % 3) for b in batches]
    rows, again, relabelled = (adapted(net, b, ASKED, ANYTHING, method) for b in (batches, batches, others))
    assert rows.column("pred").tolist() == again.column("pred").tolist() == relabelled.column("pred").tolist()
    assert all(torch.equal(w, before[name]) for name, w in net.state_dict().items())
    assert set(rows.column("model")) == {f"model + {method.name}"}
    assert [f.subset for f in natural_robustness(rows)] == ["A", "AV", "V"]
    assert [f.what for f in missing_robustness(rows)] == ["missing"] * 3


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_it_adapts_to_the_clips_at_hand(method):
    net, x = network(), clips(12).x
    adapter = replace(method, steps=8).begin(net)
    first = adapter(x)
    later = adapter(x)

    def loss(logits):
        p = logits.softmax(1)
        entropy = -(p * p.log()).sum(1).mean()
        top = p.amax(1)
        return entropy if method.name == "Tent" else -(top * top.log()).mean() + (p.mean(0) * p.mean(0).log()).sum()

    assert loss(later) < loss(first)


def test_an_adaptation_that_fits_no_part_of_the_network_is_refused():
    class Bare(Network):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

    with pytest.raises(ValueError, match="normalisation layers with weights, got Bare"):
        Tent().begin(Bare())
    with pytest.raises(ValueError, match="weights that decide from their features, got Bare"):
        Read().begin(Bare())


def test_batches_that_differ_between_passes_are_refused():
    shuffled = DataLoader([(*clips(8).subset([i]).x.map(lambda s: s[0]), i % 4) for i in range(8)], 4, shuffle=True)
    with pytest.raises(InputError, match=r"the same in each pass .* Neither shuffle"):
        adapted(network(), shuffled, [Missing(1.0)], ANYTHING, Tent())


def test_an_attack_is_no_corruption():
    with pytest.raises(InputError, match="expected corruptions, got FGSM"):
        adapted(network(), clips(4), [FGSM()], Threat.linf(audio=0.01), Tent())
    with pytest.raises(InputError, match="expected corruptions, got"):
        adapted(network(), clips(4), [Sent(Lossless(), FGSM())], Threat.linf(audio=0.01), Tent())
