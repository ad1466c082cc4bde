"""Prototypes: by hand, in training, and in a checkpoint."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from avrobust import Batch, Seeds
from avrobust.defenses import PCL, Centres, Prototypes
from avrobust.training import Trained, batches, load, train
from nets import clips, network, reordered
from test_training import RECIPE, SMALL, VIEW, Counted, Toys, assert_same, killed_at, weights


def with_centres():
    """A network with centres that lie somewhere, and its fused features of some clips."""
    net = network()
    net.feature_defense = Prototypes().fill(net, [clips(1)], 0)
    net.feature_defense.centres.copy_(
        torch.randn(net.feature_defense.centres.shape, generator=torch.Generator().manual_seed(1))
    )
    net.feature_defense.begun.fill_(1)
    return net.requires_grad_(False)


def by_hand(form, z, label, centres, attract, repel):
    total = 0.0
    for f, y in zip(z, label.tolist(), strict=True):
        others = [j for j in range(len(centres)) if j != y]
        near = [float((f - c).square().sum()) for c in centres]
        between = [float((centres[y] - c).square().sum()) ** 0.5 for c in centres]
        if form == "code":
            total += attract * near[y] - repel * sum(near[j] for j in others) / len(others)
        else:
            total += attract * (near[y] ** 0.5 - sum(near[j] ** 0.5 + between[j] for j in others) / len(others))
    return total / len(z)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_prototypes_by_hand(form):
    net, batch = with_centres(), clips(7)
    loss = PCL(form=form, attract=0.3, repel=0.05)
    z = net.fuse(net.embed(batch.x))
    conformity = by_hand(form, z, batch.label, net.feature_defense.centres, 0.3, 0.05)
    assert abs(conformity) > 0.1
    expected = float(F.cross_entropy(net(batch.x), batch.label)) + conformity
    assert float(loss(net, batch, Seeds(0, batch.ids))) == pytest.approx(expected, rel=1e-4)
    assert loss.name == f"PCL, {form} form"


def test_centres_follow_in_training_and_stay_in_evaluation():
    net, rate = network(), PCL().rate
    net.feature_defense = Centres.of(net, clips(1).x)
    assert net.feature_defense.centres.shape == (4, 24)
    first, second = clips(6), reordered(clips(8, seed=3), torch.tensor([0, 1, 4, 5, 6]))  # classes 0 1 0 1 2
    first = Batch(first.x, first.label % 2, first.ids)

    PCL()(net, first, Seeds(0, first.ids))
    assert not net.feature_defense.centres.any()
    assert not net.feature_defense.begun.any()

    net.train()
    z = net.fuse(net.represent(first.x)).detach()  # BatchNorm takes the batch's own statistics: the same again
    PCL()(net, first, Seeds(0, first.ids)).backward()  # moving the centres leaves the graph whole
    means = torch.stack([z[first.label == k].mean(0) for k in (0, 1)])
    torch.testing.assert_close(net.feature_defense.centres[:2], means)  # class means do not pull
    assert net.feature_defense.begun.tolist() == [1, 1, 0, 0]
    assert not net.feature_defense.centres[2:].any()

    z = net.fuse(net.represent(second.x)).detach()
    before = net.feature_defense.centres.clone()
    PCL()(net, second, Seeds(0, second.ids))
    for k in (0, 1):
        pull = (z[second.label == k] - before[k]).sum(0) / len(second)
        torch.testing.assert_close(net.feature_defense.centres[k], before[k] + rate * pull)
    torch.testing.assert_close(net.feature_defense.centres[2], z[second.label == 2].mean(0))
    assert net.feature_defense.begun.tolist() == [1, 1, 1, 0]

    held = net.feature_defense.centres.clone()
    PCL()(net.eval(), second, Seeds(0, second.ids))
    assert torch.equal(net.feature_defense.centres, held)


def test_prototypes_pull_clips_of_a_class_together():
    batch, spreads = clips(16), {}
    for attract in (0.0, 10.0):
        net = network().train()
        net.feature_defense = Centres.of(net, clips(1).x)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(30):
            optimizer.zero_grad()
            PCL(attract=attract, repel=0.0)(net, batch, Seeds(0, batch.ids)).backward()
            optimizer.step()
        z = net.fuse(net.represent(batch.x)).detach()
        within = sum(float(z[batch.label == k].var(0).sum()) for k in range(4))
        spreads[attract] = within
    assert spreads[10.0] < 0.5 * spreads[0.0]


def test_prototypes_without_centres():
    net, batch = network(), clips()
    with pytest.raises(
        ValueError, match=r"expected a network with centres for PCL.*net\.feature_defense = Centres\.of\(net, clips\)"
    ):
        PCL()(net, batch, Seeds(0, batch.ids))


def pcl_run(out, loss, **options) -> Trained:
    net = SMALL.build(seed=0)
    net.feature_defense = Prototypes().fill(net, batches(Toys(), "train", VIEW, 4), 0)
    recipe = replace(RECIPE, epochs=2)
    return train(net, Toys(), recipe, view=VIEW, out=out, seed=0, loss=loss, progress=False, **options)


def test_a_killed_training_with_prototypes_ends_as_if_nothing_had_happened(tmp_path):
    """The centres stand in the state file, and in the checkpoint."""
    whole = pcl_run(tmp_path / "whole", PCL())
    with pytest.raises(KeyboardInterrupt):
        pcl_run(tmp_path / "killed", killed_at(4, PCL()), save_every_s=0.0)
    resumed = pcl_run(tmp_path / "killed", Counted(PCL()))
    assert_same(weights(resumed.net), weights(whole.net))
    again, meta = load(whole.path)
    assert meta["feature_defense"] == {"class": "avrobust.defenses.pcl:Centres", "classes": 3, "width": 256}
    assert again.feature_defense.begun.all()
    assert again.feature_defense.centres.any(1).all()
    assert torch.equal(again.feature_defense.centres, whole.net.feature_defense.centres)
