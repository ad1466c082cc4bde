"""Training losses on the similarity of sound and picture."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from avrobust import Seeds
from avrobust.defenses import MAX_SIM, MIN_SIM, Similarity
from avrobust.objectives import cosine
from nets import clips, defended, network, pointing_net


@pytest.mark.parametrize("loss, weight", [(MIN_SIM, 1.0), (MAX_SIM, -1.0), (Similarity(0.3), 0.3)])
def test_similarity_by_hand(loss, weight):
    net, batch = defended().requires_grad_(False), clips()
    f = net.feature_defense(net.embed(batch.x))  # behind the feature defense
    cosines = [
        float(a @ v) / float(a.square().sum() * v.square().sum()) ** 0.5 for a, v in zip(f.audio, f.visual, strict=True)
    ]
    expected = float(F.cross_entropy(net(batch.x), batch.label)) + weight * sum(cosines) / len(batch)
    assert loss(net, batch, Seeds(0, batch.ids)).item() == pytest.approx(expected, rel=1e-5)
    assert abs(sum(cosines)) > 0.1


def test_training_drives_the_modalities_apart_or_together():
    batch, found = clips(16), {}
    for loss in (MIN_SIM, MAX_SIM):
        net = network().train()
        nn.init.zeros_(net.classifier.weight)  # so that the classes do not speak first
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        before = cosine(net.represent(batch.x)).mean()
        for _ in range(30):
            optimizer.zero_grad()
            loss(net, batch, Seeds(0, batch.ids)).backward()
            optimizer.step()
        found[loss.name] = cosine(net.represent(batch.x)).mean() - before
    assert found["MinSim"] < -0.05
    assert found["MaxSim"] > 0.05


def test_similarity_names_and_maps():
    assert [s.name for s in (MIN_SIM, MAX_SIM, Similarity(0.5))] == ["MinSim", "MaxSim", "MinSim × 0.5"]
    with pytest.raises(ValueError, match=r"one vector per clip and modality, got \(8, 12\) and \(8, 12, 2, 8, 8\)"):
        MIN_SIM(pointing_net(), clips(8), Seeds(0, clips(8).ids))
