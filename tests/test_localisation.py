"""Where a model looks: heat maps, their fit to boxes, what moves them, and controls that take a modality away."""

import math
from collections import Counter
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from avrobust import AV, FGSM, MIM, PGD, Batch, BudgetError, Seeds, Threat, cross_entropy, engine, evaluate, margin
from avrobust.attacks import ANYTHING, Elsewhere, Mute, Noise, Swap
from avrobust.evaluation.embedding import alignment, embed, spread
from avrobust.evaluation.evaluator import Evaluator
from avrobust.evaluation.localisation import Localisation, baselines, columns, iou, mass, pointing
from avrobust.models import FUSIONS, AVNet
from avrobust.models.zoo import NetSpec
from avrobust.objectives import Targeted, WithSimilarity, cosine, heat_shift
from avrobust.types import InputError, Output
from nets import CLASSES, Ear, Eye, clips, linear, network

THREAT = Threat.linf(audio=0.1, visual=0.1)


class Places(Eye):
    """`Eye` without its mean: 3 x 3 places of each of 2 frames."""

    def forward(self, frames):
        z = self.norm(self.conv(frames.flatten(0, 1) * 4 - 2)).relu()
        return z.unflatten(0, frames.shape[:2]).transpose(1, 2)


def pointing_network(fusion="attention", seed=0):
    """As `nets.network`, with attention to places."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        ears, eyes = Ear(), Places()
        net = AVNet(AV(ears, eyes), FUSIONS[fusion](AV(audio=12, visual=12)), CLASSES, classifier_std=1.0)
        for norm in (ears.norm, eyes.norm):
            nn.init.uniform_(norm.running_mean, -0.3, 0.3)
            nn.init.uniform_(norm.running_var, 0.3, 1.5)
            nn.init.uniform_(norm.bias, -0.2, 0.4)
    return net.eval()


def halves(batch):
    return [
        Batch(batch.x.map(lambda s, p=p: s[p]), batch.label[p], batch.ids[p]) for p in (slice(0, 4), slice(4, None))
    ]


# --- heat maps


@pytest.mark.parametrize("fusion, scale", [("attention", 12**-0.5), ("attention-raw", 1.0)])
def test_heat_by_hand(fusion, scale):
    net, batch = pointing_network(fusion), clips()
    with torch.no_grad():
        f = net.represent(batch.x)
        heat, z = net.fusion.heat(f), net.fuse(f)
    assert heat.shape == (6, 2, 3, 3)
    assert (heat > 0).all()
    torch.testing.assert_close(heat.flatten(1).sum(1), torch.ones(6))
    for i in range(6):
        places = f.visual[i].flatten(1)  # (12, 18)
        weight = np.exp(scale * (f.audio[i] @ places).double().numpy())
        weight /= weight.sum()
        np.testing.assert_allclose(heat[i].flatten(), weight, rtol=1e-4)
        seen = places.double().numpy() @ weight
        np.testing.assert_allclose(z[i], np.concatenate([f.audio[i], seen]), rtol=1e-4, atol=1e-5)
    assert heat.max() > 1.3 / 18  # not everywhere alike


def test_without_sound_attention_has_a_query_of_its_own():
    net = NetSpec(classes=4, modality="V", width=16, fusion="attention").build(seed=0).eval()
    torch.manual_seed(0)
    wave, frames = torch.rand(3, 2000) - 0.5, torch.rand(3, 1, 3, 64, 64)
    with torch.no_grad():
        heat = net.fusion.heat(net.represent(AV(wave, frames)))
        assert heat.shape == (3, 1, 4, 4) and torch.allclose(heat, torch.full_like(heat, 1 / 16))  # before training
        nn.init.normal_(net.fusion.query)
        first, other = (net.fusion.heat(net.represent(AV(w, frames))) for w in (wave, -wave))
    assert torch.equal(first, other) and not torch.allclose(first, torch.full_like(first, 1 / 16))
    again = net.spec.rebuild()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(AV(wave, frames)), net(AV(wave, frames)))
    _, grad = engine.gradient(net, cross_entropy, AV(wave, frames), torch.tensor([0, 1, 2]), THREAT)
    assert not grad.audio.any() and grad.visual.flatten(1).any(1).all()
    batch = Batch(AV(wave, frames), torch.tensor([0, 1, 2]))
    also = Localisation(dict.fromkeys(batch.ids, (0.0, 0.0, 0.5, 0.5)))
    rows = Evaluator(net, [batch], also=also).under(PGD(steps=2), THREAT)
    assert not np.isnan(rows.column("mass")).any()
    for modality, fusion in (("A", "attention"), ("V", "film")):
        with pytest.raises(ValueError, match=r"there is nothing to fuse\. A visual-only"):
            NetSpec(classes=4, modality=modality, fusion=fusion)


def test_the_engine_s_copy_points_to_the_same_places():
    net, batch = pointing_network(), clips()
    craft = engine.surrogate(net, batch.x, "float32")
    assert craft is not net
    assert not any(isinstance(m, nn.BatchNorm2d) for m in craft.net.modules())
    with torch.no_grad():
        torch.testing.assert_close(craft.output(batch.x, ("heat",)).heat, net.fusion.heat(net.represent(batch.x)))


# --- how well they fit

MAP = torch.tensor([[0.1, 0.5], [0.3, 0.1]])


@pytest.mark.parametrize(
    "box, expected",
    [
        ((0.5, 0.0, 1.0, 0.5), 1.0),  # the very place
        ((0.0, 0.0, 0.5, 0.5), 0.0),
        ((0.75, 0.25, 1.0, 0.5), 1.0),  # its middle on a corner of the box
        ((0.76, 0.0, 1.0, 0.5), 0.0),
        ((0.0, 0.25, 0.75, 1.0), 1.0),
        ((0.0, 0.26, 1.0, 1.0), 0.0),
    ],
)
def test_pointing(box, expected):
    assert pointing(MAP, box) == expected


@pytest.mark.parametrize(
    "box, expected",
    [
        ((0.0, 0.0, 1.0, 1.0), 1.0),
        ((0.5, 0.0, 1.0, 0.5), 0.5),
        ((0.0, 0.0, 1.0, 0.5), 0.6),
        ((0.25, 0.0, 0.5, 1.0), 0.2),  # half of the left column
        ((0.25, 0.25, 0.75, 0.75), 0.25),  # a quarter of each
        ((0.5, 0.5, 0.5, 1.0), 0.0),  # no width
    ],
)
def test_mass(box, expected):
    assert mass(MAP, box) == pytest.approx(expected, abs=1e-6)
    assert mass(7 * MAP, box) == pytest.approx(expected, abs=1e-6)


def test_mass_of_wide_maps_takes_x_along_the_width():
    heat = torch.zeros(2, 4)
    heat[1, 3] = 1.0
    assert mass(heat, (0.75, 0.5, 1.0, 1.0)) == 1
    assert mass(heat, (0.875, 0.5, 1.0, 0.75)) == pytest.approx(0.25)
    assert pointing(heat, (0.75, 0.5, 1.0, 1.0)) == 1
    assert pointing(heat, (0.5, 0.75, 1.0, 1.0)) == 1
    assert pointing(heat, (0.5, 0.75, 0.8, 1.0)) == 0


def test_iou():
    left = torch.tensor([[1.0, 0.0]]).expand(2, 2)  # made finer, hotter than half up to the very middle
    assert iou(left, (0.0, 0.0, 0.5, 1.0)) == 1
    assert iou(left, (0.5, 0.0, 1.0, 1.0)) == 0
    assert iou(left, (0.0, 0.0, 1.0, 1.0)) == 0.5
    assert iou(left, (0.0, 0.0, 0.5, 0.5)) == 0.5
    assert iou(left, (0.25, 0.0, 0.75, 1.0)) == pytest.approx(1 / 3)
    assert iou(3 * left + 5, (0.25, 0.0, 0.75, 1.0)) == pytest.approx(1 / 3)  # of its range
    sharp = torch.zeros(64, 64)
    sharp[16:32, 32:48] = 1.0
    assert iou(sharp, (0.5, 0.25, 0.75, 0.5)) == 1
    assert iou(sharp, (0.5, 0.25, 1.0, 0.5)) == 0.5
    assert iou(sharp, (0.5, 0.25, 0.5 + 0.5 / 64, 0.5)) == pytest.approx(0.5 / 16)  # half a cell


@pytest.mark.parametrize("place", range(96, 104))
def test_iou_of_a_map_finer_than_its_comparison(place):
    """No place falls between those that are compared: a map of one hot place then had the whole frame for its region."""
    heat = torch.full((224, 224), 1e-4)
    heat[place, place] = 1.0
    exact = (place / 224, place / 224, (place + 1) / 224, (place + 1) / 224)
    assert iou(heat, exact) == pytest.approx(1, abs=1e-4)
    assert iou(heat, (0.25, 0.25, 0.75, 0.75)) == pytest.approx(1 / 112**2, rel=1e-3)


def test_a_missing_box_is_nan_not_zero():
    box = (0.0, 0.0, 0.5, 0.5)
    found = columns(torch.stack([MAP, MAP]), [box, None], [None, box])
    assert found["pointing"][0] == 0
    assert found["mass"][0] == found["rival_mass"][1] == pytest.approx(0.1)
    for name, i in (("pointing", 1), ("mass", 1), ("iou", 1), ("rival_mass", 0)):
        assert math.isnan(found[name][i])
        assert not math.isnan(found[name][1 - i])


def test_baselines_by_hand():
    boxes = [(0.2, 0.3, 0.9, 0.7), (0.5, 0.5, 1.0, 1.0), (0.51, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.4)]
    found = baselines(boxes)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]
    blank, centre = found["blank"], found["centre"]
    assert blank["clips"] == centre["clips"] == 4
    assert (blank["pointing"], centre["pointing"]) == (0, 0.5)
    assert blank["mass"] == blank["iou"] == pytest.approx(np.mean(areas), abs=1e-3)
    assert blank["found"] == 0
    width, height = np.mean([b[2] - b[0] for b in boxes]), np.mean([b[3] - b[1] for b in boxes])
    middle = (0.5 - width / 2, 0.5 - height / 2, 0.5 + width / 2, 0.5 + height / 2)
    both = [
        max(0, min(b[2], middle[2]) - max(b[0], middle[0])) * max(0, min(b[3], middle[3]) - max(b[1], middle[1]))
        for b in boxes
    ]
    assert centre["mass"] == pytest.approx(np.mean(both) / (width * height), abs=1e-3)
    wanted = [s / (a + width * height - s) for s, a in zip(both, areas, strict=True)]
    assert centre["iou"] == pytest.approx(np.mean(wanted), abs=1e-3)
    assert centre["found"] == np.mean([w >= 0.5 for w in wanted])
    assert baselines([(0.0, 0.0, 1.0, 1.0)])["blank"] == {"clips": 1, "pointing": 0, "mass": 1, "iou": 1, "found": 1}
    assert baselines([]) == {}


@pytest.mark.parametrize("value", [1 / 49, 0.0, math.nan, math.inf], ids=["constant", "zeros", "nan", "inf"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_map_that_points_nowhere_is_never_a_hit(value, dtype):
    heat = torch.full((7, 7), value, dtype=dtype)
    rough = heat + 1e-3 * heat * torch.rand(7, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    for box in ((0.0, 0.0, 0.8, 0.8), (0.0, 0.0, 1.0, 1.0)):
        for blank in (heat, rough):
            assert pointing(blank, box) == mass(blank, box) == iou(blank, box) == 0
    found = columns(heat[None], [(0.0, 0.0, 0.8, 0.8)], [None])
    assert [found[name][0] for name in ("pointing", "mass", "iou", "peak")] == [0, 0, 0, 0]


def test_one_nan_is_enough_and_equal_places_share_the_point():
    heat = torch.eye(4)
    heat[0, 0] = math.nan
    assert pointing(heat, (0.0, 0.0, 1.0, 1.0)) == iou(heat, (0.0, 0.0, 1.0, 1.0)) == 0
    left = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert pointing(left, (0.0, 0.0, 0.5, 0.5)) == 0.5
    assert columns(left[None], [None], [None])["peak"] == [2.0]


# --- in the rows

BOXES = {f"clip/{i}": (0.0, 0.0, 0.5, 1.0) for i in range(4)} | {"clip/4": None}  # and no entry for clip/5
RIVALS = {"clip/0": (0.5, 0.0, 1.0, 1.0)}


def test_localisation_adds_columns_to_the_rows():
    net, batch = pointing_network(), clips()
    subject = Evaluator(net, halves(batch), precision="float32", also=Localisation(BOXES, RIVALS))
    seen = []

    def attack(model, x, y, threat, seeds):
        seen.append(PGD(steps=3)(model, x, y, threat, seeds))
        return seen[-1]

    clean, under = subject.clean(), subject.under(attack, THREAT.only("A"))
    x = AV(torch.cat([s.audio for s in seen]), torch.cat([s.visual for s in seen]))
    with torch.no_grad():
        before, after = (net.fusion.heat(net.represent(signals)) for signals in (batch.x, x))
    for rows, heat in ((clean, before), (under, after)):
        left = heat[:4].sum(1)  # over frames
        expected = left[..., 0].sum(1) + left[..., 1].sum(1) / 2
        np.testing.assert_allclose(rows.column("mass")[:4], expected, rtol=1e-4)
        assert rows.column("rival_mass")[0] == pytest.approx(1 - float(expected[0]), rel=1e-4)
        assert np.isnan(rows.column("rival_mass")[1:]).all()
        for name in ("pointing", "mass", "iou"):
            assert np.isnan(rows.column(name)).tolist() == [False] * 4 + [True] * 2
    assert (clean.column("heat_moved") == 0).all()
    moved = 0.5 * (after - before).abs().flatten(1).sum(1)
    assert moved.min() > 1e-3
    np.testing.assert_allclose(under.column("heat_moved"), moved, rtol=1e-2)
    plain = Evaluator(net, [batch], precision="float32")
    assert np.isnan(plain.clean().column("heat_moved").astype(float)).all()
    assert plain.clean().column("margin").tolist() == pytest.approx(clean.column("margin").tolist(), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_maps_of_low_precision_are_measured_in_full_and_broken_ones_have_moved(dtype):
    batch = clips(3)
    clean = torch.rand(3, 2, 7, 7, generator=torch.Generator().manual_seed(0)).flatten(1).softmax(1).view(3, 2, 7, 7)
    clean = clean.to(dtype)
    heat = clean.clone()
    heat[0, 0, 0, 0], heat[1, 1, 2, 3] = math.nan, math.inf

    victim = Mock(engine.Victim)
    victim.output.return_value = Output(torch.zeros(3, 2), heat=heat, clean=Output(torch.zeros(3, 2), heat=clean))
    boxes = dict.fromkeys(batch.ids, (0.1, 0.1, 0.6, 0.6))
    found = Localisation(boxes)(victim, batch, batch.x)
    assert found["heat_moved"] == [1, 1, 0]
    whole = columns(heat.float().sum(1), [*boxes.values()], [None] * 3)
    for name in ("pointing", "mass", "iou", "peak"):
        assert found[name] == pytest.approx(whole[name], rel=1e-6)


def test_localisation_of_a_model_that_does_not_point():
    for model in (linear, network()):
        with pytest.raises(
            InputError, match=r"expected a model with a heat map, got one without.*the fusion 'attention'"
        ):
            Evaluator(model, [clips()], also=Localisation({})).clean()


# --- losses that look inside


def test_heat_shift_moves_the_map_more_than_cross_entropy_does():
    net, batch = pointing_network(), clips(12)
    craft = engine.surrogate(net, batch.x, "float32").cache_embeddings(batch.x).fix_unattacked(batch.x, THREAT)

    def overlap(x):
        with torch.no_grad():
            return -heat_shift.value(craft.output(x, ("heat", "clean")), batch.label)

    torch.testing.assert_close(overlap(batch.x), torch.ones(12))
    with torch.no_grad():
        a, b = (net.fusion.heat(net.represent(batch.x.map(lambda s, k=k: s * k))).flatten(1) for k in (1.0, 0.5))
    torch.testing.assert_close(overlap(batch.x.map(lambda s: s * 0.5)), (a * b).sum(1) / (a * a).sum(1))

    found = {}
    assert PGD(objective=heat_shift).name == "PGD-10 (attention moved)"
    for objective in (cross_entropy, heat_shift):
        adv = PGD(steps=10, objective=objective)(craft, batch.x, batch.label, THREAT, Seeds(0, batch.ids))
        found[objective] = overlap(adv)
    assert (found[heat_shift] < 1).all()
    assert found[heat_shift].mean() < found[cross_entropy].mean() - 0.1
    # through the harness, where the clean features are given
    rows = {
        objective: Evaluator(net, halves(batch), precision="float32", also=Localisation({})).under(
            PGD(steps=5, objective=objective), THREAT
        )
        for objective in (cross_entropy, heat_shift)
    }
    moved = [rows[objective].column("heat_moved").mean() for objective in (cross_entropy, heat_shift)]
    assert moved[1] > moved[0] + 0.02


def test_a_loss_with_the_cosine_by_hand():
    net, batch = network(), clips()
    f = net.embed(batch.x)
    expected = F.cross_entropy(net(batch.x), batch.label, reduction="none") - 0.5 * F.cosine_similarity(
        f.audio, f.visual
    )
    torch.testing.assert_close(WithSimilarity(-0.5).value(Output(net(batch.x), f), batch.label), expected)
    torch.testing.assert_close(cosine(f), F.cosine_similarity(f.audio, f.visual))
    rows = evaluate(net, [batch], [FGSM(objective=WithSimilarity())], THREAT.only("V"))
    attacked = rows.where(attack="FGSM (CE + cos)")
    assert attacked.column("margin").mean() > attacked.column("margin_clean").mean()


@pytest.mark.parametrize(
    "objective, says",
    [
        (heat_shift, "heat_shift needs a model with a heat map, and the clean clips, got a model without.*'attention'"),
        (WithSimilarity(), r"CE \+ cos needs a model that shows its two features, got logits only.*embed\(x\)"),
    ],
    ids=["heat_shift", "WithSimilarity"],
)
def test_losses_that_look_inside_refuse_a_plain_callable(objective, says):
    with pytest.raises(InputError, match=says):
        evaluate(linear, [clips()], [FGSM(objective=objective)], THREAT)


def test_heat_shift_refuses_a_network_without_a_heat_map_or_clean_clips():
    with pytest.raises(InputError, match="needs a model with a heat map"):
        evaluate(network(), [clips()], [FGSM(objective=heat_shift)], THREAT)
    with pytest.raises(InputError, match="and the clean clips"):
        engine.gradient(pointing_network(), heat_shift, clips().x, clips().label, THREAT)


def test_an_attack_s_name_says_its_loss():
    attacks = {
        FGSM(): "FGSM",
        PGD(): "PGD-10",
        FGSM(objective=WithSimilarity()): "FGSM (CE + cos)",
        PGD(objective=heat_shift): "PGD-10 (attention moved)",
        PGD(steps=40, restarts=5, objective=margin): "PGD-40x5 (margin)",
        PGD(objective=WithSimilarity(-1.0)): "PGD-10 (CE − cos)",
        PGD(objective=WithSimilarity(0.5)): "PGD-10 (CE + 0.5 cos)",
        PGD(objective=WithSimilarity(-0.5)): "PGD-10 (CE − 0.5 cos)",
        PGD(objective=Targeted(1)): "PGD-10 (towards 1)",
        MIM(objective=Targeted(2)): "MIM-10 (towards 2)",
    }
    assert [attack.name for attack in attacks] == list(attacks.values())
    rows = evaluate(network(), [clips()], [FGSM(), FGSM(objective=WithSimilarity(0.5))], THREAT.only("A"))
    assert Counter(rows.column("attack")) == {"none": 6, "FGSM": 6, "FGSM (CE + 0.5 cos)": 6}


# --- controls


def test_muted_clips_have_nothing_left_where_there_is_a_budget():
    batch = clips()
    for subset in ("A", "V", "AV"):
        x = Mute()(linear, batch.x, batch.label, ANYTHING.only(subset), Seeds(0, batch.ids))
        for name, empty in (("audio", 0.0), ("visual", 0.5)):
            clean, found = getattr(batch.x, name), getattr(x, name)
            touched = name[0].upper() in subset
            assert torch.equal(found, torch.full_like(clean, empty) if touched else clean)


def test_swapped_clips_sound_like_another_whatever_their_batch():
    batch, threat = clips(7), ANYTHING.only("A")
    swap = Swap(halves(batch))

    def swapped(batch, seed=0, subset="A"):
        return swap(linear, batch.x, batch.label, ANYTHING.only(subset), Seeds(seed, batch.ids))

    whole = swapped(batch)
    assert threat.subset == "A"
    assert torch.equal(whole.visual, batch.x.visual)
    assert torch.equal(swapped(batch, subset="V").audio, batch.x.audio)
    assert torch.equal(torch.cat([swapped(part).audio for part in halves(batch)]), whole.audio)
    order = torch.tensor([6, 2, 0])
    some = Batch(batch.x.map(lambda s: s[order]), batch.label[order], tuple(batch.ids[i] for i in order))
    assert torch.equal(swapped(some).audio, whole.audio[order])

    def givers(x, of="audio"):
        mine, pool = getattr(x, of).flatten(1), getattr(batch.x, of).flatten(1)
        return [(pool == row).all(1).nonzero().flatten().tolist() for row in mine]

    met = [set() for _ in range(7)]
    for seed in range(60):
        both = swapped(batch, seed, "AV")
        partners = givers(both)
        assert partners == givers(both, "visual")  # sound and picture of one clip
        for i, (partner,) in enumerate(partners):
            met[i].add(partner)
    assert met == [set(range(7)) - {i} for i in range(7)]  # each of the others, never its own

    stranger = Batch(batch.x.map(lambda s: s[:1] * 0), batch.label[:1], ("stranger",))
    found = {givers(swapped(stranger, seed))[0][0] for seed in range(60)}
    assert found == set(range(7))
    with pytest.raises(ValueError, match="at least two clips to swap between"):
        Swap([Batch(batch.x.map(lambda s: s[:1]), batch.label[:1], batch.ids[:1])])


POOLS = {
    "one batch": lambda b: b,
    "one tuple": lambda b: (*b.x, b.label),
    "tuples": lambda b: [(*p.x, p.label) for p in halves(b)],
    "lists, as a DataLoader makes them": lambda b: DataLoader(TensorDataset(*b.x, b.label), batch_size=3),
    "batches without ids": lambda b: [replace(p, ids=()) for p in halves(b)],
    "an iterator": lambda b: iter([replace(p, ids=()) for p in halves(b)]),
    "ids of numbers, in another order": lambda b: [(*q.x, q.label, torch.arange(7).flip(0)) for q in [b.subset([*range(6, -1, -1)])]],
    "arrays": lambda b: [(b.x.audio.numpy(), b.x.visual.numpy(), b.label.numpy(), list("0123456"))],
}  # fmt: skip


@pytest.mark.parametrize("control", [Swap, Elsewhere])
@pytest.mark.parametrize("form", POOLS.values(), ids=POOLS)
def test_a_pool_is_read_as_an_evaluation_reads_it_in_any_order(control, form):
    batch = replace(clips(7), ids=())
    expected = control([replace(batch, ids=tuple("0123456"))])
    for seed in range(5):
        made, same = (
            c(linear, batch.x, batch.label, ANYTHING, Seeds(seed, batch.ids)) for c in (control(form(batch)), expected)
        )
        assert torch.equal(made.audio, same.audio) and torch.equal(made.visual, same.visual)
        assert not (made.audio == batch.x.audio).all(1).any()


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        (lambda b: [b, b], "'clip/0' stands twice in the pool"),
        (lambda b: [{"audio": b.x.audio}], r"batches to take other clips from, got dict.*avr\.batches"),
        (lambda b: [b.x.audio, b.x.visual], "got Tensor"),
        (lambda b: 3, "got int"),
    ],
    ids=["twice", "dicts", "tensors", "a number"],
)
def test_what_is_no_pool_is_refused(pool, says):
    with pytest.raises(InputError, match=says):
        Swap(pool(clips(4)))


def test_what_sounds_elsewhere_is_of_another_class_and_noise_is_as_loud_as_the_sound():
    batch = clips(7)
    elsewhere = Elsewhere(halves(batch))
    for seed in range(20):
        x = elsewhere(linear, batch.x, batch.label, ANYTHING.only("A"), Seeds(seed, batch.ids))
        partners = [(row == batch.x.audio).all(1).nonzero().flatten().tolist() for row in x.audio]
        assert all(batch.label[j] != batch.label[i] for i, (j,) in enumerate(partners))
        assert torch.equal(x.visual, batch.x.visual)
    one = Batch(batch.x, torch.zeros(7, dtype=torch.long), batch.ids)
    with pytest.raises(ValueError, match="at least two classes, got one"):
        Elsewhere([one])
    loud = AV(audio=torch.sin(torch.arange(20_000.0))[None] * torch.tensor([[0.5], [0.0]]), visual=batch.x.visual[:2])
    noise = Noise()(linear, loud, batch.label[:2], ANYTHING, Seeds(0, ("a", "b")))
    assert noise.audio.square().mean(1).sqrt().tolist() == pytest.approx([0.5 * 0.5**0.5, 0.0], rel=0.02)
    assert noise.visual.min() >= 0 and noise.visual.max() <= 1 and not torch.equal(noise.visual, loud.visual)


def test_controls_are_measured_by_the_harness_apart_from_attacks():
    batch = clips()
    batch.x.audio[1], batch.x.audio[2] = 1.0, -1.0  # the furthest that clips can lie apart
    batch.x.visual[1], batch.x.visual[2] = 1.0, 0.0
    swap = Swap(halves(batch))
    rows = evaluate(linear, halves(batch), [Mute(), swap, FGSM()], ANYTHING)
    assert Counter(zip(rows.column("attack"), rows.column("mode"), strict=True)) == {
        ("none", "corrected"): 6, ("muted", "control"): 18, ("swapped", "control"): 18, ("FGSM", "corrected"): 18,
    }  # fmt: skip
    assert rows.where(attack="swapped").column("linf_audio").max() > 1
    silent = rows.where(attack="muted", subset="AV")
    assert np.allclose(silent.column("margin"), 0, atol=1e-5)  # nothing is left to go by
    with pytest.raises(BudgetError, match="muted left its audio budget"):
        evaluate(linear, [batch], [Mute()], Threat.linf(audio=0.02))
    with pytest.raises(BudgetError, match="swapped left its"):
        evaluate(linear, [batch], [swap], Threat.linf(visual=0.02))


# --- features as a picture, and in numbers


def points(n=12, seed=0, apart=0.0):
    """Features of three classes, `apart` from each other."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3
    return rng.random((n, 5)) + apart * np.eye(5)[label], label


def test_features_in_a_plane_repeat_and_have_one_place_each():
    (audio, _), (visual, _) = points(12), points(12, seed=1)
    first, again = embed(audio, visual, 3), embed(audio, visual, 3)
    for a, b in zip(first, again, strict=True):
        assert a.shape == (12, 2)
        assert a.dtype == np.float32
        assert np.isfinite(a).all()
        assert np.array_equal(a, b)
    assert not np.array_equal(*first)
    assert np.array_equal(embed(audio, visual, 2**32 + 3)[0], first[0])  # any seed will do


def test_near_features_are_near_in_the_plane_whichever_modality():
    audio, label = points(30, apart=30.0)
    visual, _ = points(30, seed=1, apart=30.0)
    places, classes = np.concatenate(embed(audio, visual, 0)), np.concatenate([label, label])
    far = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(far, np.inf)
    assert (classes[far.argmin(1)] == classes).mean() > 0.9


def test_spread_by_hand():
    f, label = points()
    found = spread(f, label)
    line = f / np.linalg.norm(f, axis=1, keepdims=True)
    far = 1 - line @ line.T
    pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
    assert found.within == pytest.approx(np.mean([far[i, j] for i, j in pairs if label[i] == label[j]]))
    assert found.between == pytest.approx(np.mean([far[i, j] for i, j in pairs if label[i] != label[j]]))
    silhouette = []
    for i in range(12):
        own = np.mean([far[i, j] for j in range(12) if j != i and label[j] == label[i]])
        other = min(np.mean(far[i, label == k]) for k in range(3) if k != label[i])
        silhouette.append((other - own) / max(own, other))
    assert found.silhouette == pytest.approx(np.mean(silhouette))


def test_spread_tells_classes_that_lie_apart_and_not_sizes():
    near, far = (spread(*points(30, apart=apart)) for apart in (0.0, 5.0))
    assert far.silhouette > 0.8 > near.silhouette
    assert far.within < 0.2 * far.between
    assert near.within > 0.5 * near.between
    f, label = points(30)
    large = spread(f * np.linspace(1, 100, 30)[:, None], label)
    assert (large.silhouette, large.within, large.between) == pytest.approx(
        (near.silhouette, near.within, near.between)
    )


def test_alignment_is_the_mean_cosine():
    (audio, _), (visual, _) = points(), points(seed=1)
    expected = F.cosine_similarity(torch.tensor(audio), torch.tensor(visual)).mean()
    assert alignment(audio, 3 * visual) == pytest.approx(float(expected))
    assert alignment(audio, -audio) == pytest.approx(-1)


def test_spread_of_what_has_none_is_nan():
    f, _ = points(6)
    one, alone = spread(f, np.zeros(6, int)), spread(f, np.arange(6))
    assert math.isnan(one.silhouette)
    assert math.isnan(alone.silhouette)
    assert math.isnan(one.between)
    assert math.isnan(alone.within)
    assert one.within == pytest.approx(alone.between)
    assert math.isnan(alignment(f[:0], f[:0]))
