"""Variations: where gradients are taken, and what becomes of them."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from avrobust import AV, FGSM, MIM, PGD, Batch, Seeds, Threat, cross_entropy, engine
from avrobust.attacks import VARIANTS, Consecutive, Diverse, Scaled, Translated, Variation, attack_info, by_name
from avrobust.attacks.search import ActiveSet
from avrobust.attacks.variations import varied_gradient
from avrobust.budget_check import check
from nets import clips, network

BOTH = Threat.linf(audio=0.01, visual="4/255")
EVERY = [
    FGSM(variations=(Diverse(probability=1.0),)),
    PGD(steps=2, variations=(Variation(copies=2),)),
    PGD(steps=2, variations=(Consecutive(copies=2),), stop=True),
    MIM(steps=3, variations=(Scaled(2), Diverse(of_audio="gain"), Translated(AV(5, 3))), look_ahead=True),
]


def several(frames=3):
    batch = clips(5)
    return Batch(AV(batch.x.audio, batch.x.visual.repeat(1, frames, 1, 1, 1)), batch.label, batch.ids)


@pytest.mark.parametrize("attack", EVERY, ids=repr)
@pytest.mark.parametrize("threat", BOTH.subsets(), ids=str)
def test_clips_stay_inside_and_depend_on_no_neighbour(attack, threat):
    net, batch = network(), several()
    adv = attack(net, batch.x, batch.label, threat, Seeds(0, batch.ids))
    check(threat, batch.x, adv, batch.ids, attack.name)
    assert any(not torch.equal(a, s) for a, s in zip(adv, batch.x, strict=True))
    some = batch.subset([3, 1])
    for a, b in zip(attack(net, some.x, some.label, threat, Seeds(0, some.ids)), adv, strict=True):
        assert ((a - b[[3, 1]]).abs() > 1e-5).float().mean() < 0.02


def gradient(variations, threat=BOTH, batch=None):
    batch = batch or several()
    active = ActiveSet.of(network(), batch.x, batch.label, threat, Seeds(0, batch.ids), cross_entropy)
    return varied_gradient(active, cross_entropy, batch.x.map(torch.zeros_like), variations, 0)


def test_scaled_is_the_mean_over_scales_written_out():
    batch, net = several(), network()
    x = batch.x.map(lambda s: s.clone().requires_grad_())
    losses = [F.cross_entropy(net(x.map(lambda s, k=k: s / 2**k)), batch.label, reduction="sum") for k in range(3)]
    wanted = torch.autograd.grad(sum(losses) / 3, list(x))
    for g, w in zip(gradient((Scaled(3),)), wanted, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kernel", ["gaussian", "linear", "uniform"])
def test_translated_is_the_mean_over_shifts_written_out(kernel):
    ti = Translated(AV(3, 3), kernel)
    weights = ti._weights(3).tolist()
    assert sum(weights) == pytest.approx(1)
    audio, visual = torch.randn(2, 9), torch.randn(2, 2, 3, 6, 6)
    pad = F.pad(audio, (1, 1))
    torch.testing.assert_close(ti.gradient(audio), sum(w * pad[:, k : k + 9] for k, w in enumerate(weights)))
    pad = F.pad(visual, (1, 1, 1, 1))
    shifts = [v * w * pad[..., i : i + 6, j : j + 6] for i, v in enumerate(weights) for j, w in enumerate(weights)]
    torch.testing.assert_close(ti.gradient(visual), sum(shifts))


def test_no_variation_is_the_plain_attack_and_an_unattacked_modality_stays_as_it_is():
    batch, net, seeds = several(), network(), Seeds(0, clips(5).ids)
    plain = MIM(steps=3, keep="last")
    for same in (Variation(), Diverse(probability=0.0), Scaled(1), Translated(AV(1, 1))):
        for a, b in zip(
            replace(plain, variations=(same,))(net, batch.x, batch.label, BOTH, seeds),
            plain(net, batch.x, batch.label, BOTH, seeds), strict=True,
        ):  # fmt: skip
            assert ((a - b).abs() > 1e-5).float().mean() < 0.01
    # a black box is given the unattacked modality unchanged, as a network with two streams is
    seen = []
    model = lambda s: (seen.append(s.visual.clone()), net(s))[1]  # noqa: E731
    gradient_of = MIM(steps=1, variations=(Scaled(2), Consecutive()), keep="last")
    gradient_of(model, batch.x, batch.label, BOTH.only("A"), seeds)
    assert all(torch.equal(v, batch.x.visual) for v in seen if len(v) == 5)


def test_diverse_shrinks_and_nothing_is_around_it():
    s = torch.ones(40, 2, 3, 20, 20)
    seeds = Seeds(0, tuple(map(str, range(40))))
    moved = Diverse(probability=1.0, smallest=0.5).signals(s, "visual", seeds, 0, 0)
    share = (moved > 0.5).float().flatten(1).mean(1)
    assert 0.2 < float(share.min()) < 0.4 < 0.6 < float(share.max()) <= 1
    assert torch.equal(moved[:, 0], moved[:, 1])  # all frames of a clip alike
    wave = Diverse(probability=1.0, smallest=0.5).signals(torch.ones(40, 100), "audio", seeds, 0, 0)
    assert 0.45 < float((wave > 0.5).float().mean(1).min()) < 0.6
    some = Diverse(probability=0.5).signals(s, "visual", seeds, 0, 0)
    unchanged = sum(torch.equal(a, b) for a, b in zip(some, s, strict=True))
    assert 8 < unchanged < 32


@pytest.mark.parametrize("change", ["scale", "mask", "blur", "mix"])
def test_consecutive_changes_each_segment_alone(change):
    generator = torch.Generator().manual_seed(0)
    s = torch.rand(2, 4, 3, 8, 8, generator=generator)
    seeds = Seeds(0, ("a", "b"))
    one = Consecutive((change,))
    moved = one.signals(s, "visual", seeds, 0, 0)
    assert (moved != s).flatten(2).any(2)[:, :3].all()  # the last frame has no next one to mix with
    if change == "mask":
        assert (moved == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    audio = torch.rand(2, 42, generator=generator)
    assert one.signals(audio, "audio", seeds, 0, 0).shape == audio.shape
    assert not torch.equal(one.signals(s, "visual", seeds, 0, 1), moved) or change == "blur"


def test_names_and_facts():
    attack = MIM(variations=(Scaled(), Translated()), look_ahead=True)
    assert (attack.name, attack_info(attack).variant, attack_info(attack).plain) == (
        "SI-TI-NI-MIM-10",
        "SI-TI-NI",
        False,
    )
    assert MIM().name == "MIM-10" and FGSM(variations=(Diverse(),)).name == "DI-FGSM"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Variation(copies=0), lambda: Diverse(probability=2.0), lambda: Diverse(smallest=0.0), lambda: Translated(AV(4, 3)),
        lambda: Consecutive(()), lambda: Consecutive(segments=0),
        lambda: PGD(look_ahead=True),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(make):
    with pytest.raises(ValueError, match=r"got"):
        make()


def test_looking_ahead_goes_a_step_further_in_l2():
    batch, net, seen = several(), network(), []

    def model(s):
        seen.append((s.audio - batch.x.audio).detach().norm(dim=1).max())
        return net(s)

    attack, threat = MIM(steps=4, look_ahead=True), Threat.l2(audio=0.1)
    attack(model, batch.x, batch.label, threat, Seeds(0, batch.ids))
    assert 0.099 < max(seen) < 0.101  # three steps of a quarter, and one ahead


def test_a_random_model_is_averaged():
    net, batch = network(), several()
    torch.manual_seed(0)
    noisy = engine.BlackBox(lambda s: net(s) * (1 + torch.randn(())))
    active = ActiveSet.of(noisy, batch.x, batch.label, BOTH, Seeds(0, batch.ids), cross_entropy)
    spread = [
        torch.stack([varied_gradient(active, cross_entropy, batch.x.map(torch.zeros_like), (Variation(copies=n),), 0).audio for _ in range(6)]).std(0).mean()
        for n in (1, 16)
    ]  # fmt: skip
    assert spread[1] < 0.6 * spread[0]


@pytest.mark.parametrize("text", [*(f"{v}-MIM-5" for v in VARIANTS), "SI-NI-DI-MIM-20", "TI-PGD-3x2", "SI-FGSM"])
def test_variants_are_named_as_the_field_names_them(text):
    made = by_name(text)
    assert made.keep == "last" and set(attack_info(made).variant.split("-")) == set(text.split("-")) & set(VARIANTS)
    assert sorted(made.name.split("-")) == sorted(text.split("-"))


@pytest.mark.parametrize(("text", "why"), [
    ("DI-Square", "expected FGSM, PGD or MIM after DI, got 'DI-Square'"), ("DI", "'DI'"), ("NI-PGD", "Use MIM"),
    ("XI-MIM", "XI"), ("DI-MIM-5x2x3", "takes steps and restarts"),
])  # fmt: skip
def test_variants_that_an_attack_has_not_are_refused(text, why):
    with pytest.raises(ValueError, match=why):
        by_name(text)
