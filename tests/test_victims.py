"""Which victim a model is, told by what it can do; each shortcut verified, and falling back alone."""

import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from avrobust import AV, FGSM, PGD, AVAutoAttack, Batch, Seeds, Threat, cross_entropy, engine, evaluate
from avrobust.engine import verified
from avrobust.engine.packed import Packed
from avrobust.engine.recognise import ALONE, BESIDE_ALL, BESIDE_ONE
from avrobust.engine.twostream import encoder_by_encoder
from avrobust.models.fusion import Concat
from avrobust.models.network import AVNet
from avrobust.models.zoo import NetSpec
from avrobust.types import Output
from nets import clips, linear, network

BATCH = clips(8)
THREAT = Threat.linf(audio=0.05, visual="8/255")
ONE = BATCH.x.map(lambda s: s[:1])


class Theirs(nn.Module):
    """Two streams of a user's own: embeddings of different widths, and a head of their own."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.ears, self.eyes = network().audio, network().visual
            self.squeeze, self.head = nn.Linear(12, 5), nn.Linear(17, 4)
        self.eval()

    def embed(self, x):
        return AV(self.ears(x.audio), self.squeeze(self.eyes(x.visual)))

    def decide(self, f):
        return self.head(torch.cat([f.audio, f.visual], 1))

    def forward(self, x):
        return self.decide(self.embed(x))


class Encoders(Theirs):
    @property
    def encoders(self):
        return AV(self.ears, nn.Sequential(self.eyes, self.squeeze))


class Together(Theirs):
    """Streams that cannot run apart: the batch is counted before both."""

    def embed(self, x):
        if len(x.audio) != len(x.visual):
            raise ValueError("as many sounds as videos, please")
        return super().embed(x)


class Plain(Theirs):
    """Streams that take no clips at all as well as any number; the others' `view` does not."""

    def embed(self, x):
        return AV(self.ears(x.audio), self.squeeze(x.visual.flatten(1)[:, :12]))


class Swayed(Theirs):
    """Streams that see each other: what one gives changes when the other is attacked."""

    def embed(self, x):
        f = super().embed(x)
        return AV(f.audio + x.visual.sum(), f.visual)


class Defended(Theirs):
    def __init__(self):
        super().__init__()
        self.feature_defense = lambda f: f.map(lambda s: (s * 4).round() / 4)

    def forward(self, x):
        return self.decide(self.feature_defense(self.embed(x)))


class Disagrees(Theirs):
    def forward(self, x):
        return -super().forward(x)


class Double(Theirs):
    def __init__(self):
        super().__init__()
        self.double()

    def embed(self, x):
        return super().embed(x.map(torch.Tensor.double))


def hooked():
    net = Theirs()
    net.register_forward_hook(lambda module, args, out: out)
    return net


def loud_only():
    """What no example shows: a hook that changes the answer to loud clips alone."""
    net = network()
    net.register_forward_hook(lambda module, args, out: torch.where(args[0].audio.abs().amax() > 0.99, -out, out))
    return net


@pytest.mark.parametrize(
    ("make", "embeds"),
    [
        (Theirs, BESIDE_ONE), (Encoders, encoder_by_encoder), (Together, BESIDE_ALL), (Plain, ALONE),
        (Defended, BESIDE_ONE), (network, encoder_by_encoder),
    ],
)  # fmt: skip
def test_two_streams_are_told_by_what_a_model_can_do(make, embeds):
    victim = engine.as_victim(make(), ONE)
    assert isinstance(victim, engine.TwoStream) and victim.embeds is embeds
    assert engine.as_victim(victim, ONE) is victim


@pytest.mark.parametrize(
    "make",
    [Disagrees, Swayed, Double, hooked, loud_only, lambda: linear],
    ids=["disagrees", "swayed", "double", "hooked", "loud only", "no module"],
)
def test_a_shortcut_that_may_be_wrong_is_not_taken(make):
    assert isinstance(engine.as_victim(make(), ONE), engine.BlackBox)


def asked(net):
    """How often the network is run to find out what kind of victim it is."""
    before = net.runs
    engine.as_victim(net, ONE)
    return net.runs - before


class Counting(Defended):
    runs = 0
    sway = False

    def __init__(self):
        super().__init__()
        self.levels, self.options, self.table = [1, [2.0]], SimpleNamespace(scale=1), np.zeros(3)

    def embed(self, x):
        type(self).runs += 1
        f = super().embed(x)
        return AV(f.audio + x.visual.sum(), f.visual) if self.sway else f


def raised(net):
    with torch.no_grad():
        net.head.bias += 1


def other_head(net):
    del net.head
    net.head = nn.Linear(17, 4)


def other_defense(net):
    net.feature_defense = None
    net.feature_defense = lambda f: f.map(torch.tanh)


def other_kind(net):
    net.sway = True


def unseen_write(net):
    net.head.bias.data += 1


def in_a_list(net):
    net.levels[1][0] = 3.0


def in_an_object(net):
    net.options.scale = 2


def in_an_array(net):
    net.table[0] = 7


@pytest.mark.parametrize(
    "change",
    [
        raised,
        unseen_write,
        other_head,
        other_defense,
        other_kind,
        in_a_list,
        in_an_object,
        in_an_array,
        nn.Module.train,
        lambda net: net.head.register_forward_hook(print),
    ],
    ids=lambda change: change.__name__,
)
def test_a_model_is_verified_once_and_again_when_it_has_changed(change, capsys):
    net = Counting()
    assert asked(net) > 0 == asked(net) == asked(net)
    change(net)
    assert asked(net) > 0
    assert isinstance(engine.as_victim(net, ONE), engine.BlackBox) == net.sway
    assert asked(Counting()) > 0  # another one of its kind


def test_a_surrogate_draws_nothing_whether_it_is_the_first_or_the_second(monkeypatch):
    class Random(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            return nn.functional.dropout(self.head(x.audio[:, :16]), 0.5, True)

    net = Random().eval()
    everywhere: list = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", everywhere.append)
    state = torch.get_rng_state()
    for _ in range(2):
        engine.surrogate(net, ONE)
        NetSpec(classes=3, width=16).build(seed=0)
        assert torch.equal(torch.get_rng_state(), state)
    assert everywhere == []  # no GPU is seeded for what runs here


def test_a_second_surrogate_takes_no_run_until_the_model_changes():
    net = Counting()
    for change in (lambda net: None, raised):
        change(net)
        engine.surrogate(net, ONE)
        before = net.runs
        again = engine.surrogate(net, ONE)
        assert net.runs == before > 0 and again.net is not net
        assert not any(isinstance(m, nn.BatchNorm2d) for m in again.net.modules())
        assert torch.allclose(again(BATCH.x), net(BATCH.x), atol=1e-4)


def test_other_clips_are_verified_too_and_nothing_is_kept_of_a_model_that_is_gone():
    net = Counting()
    asked(net)
    before = net.runs
    engine.as_victim(net, ONE.map(lambda s: s[..., : s.shape[-1] // 2]))
    assert net.runs > before
    kept = len(verified._found)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None and len(verified._found) == kept - 1


@pytest.mark.parametrize("make", [Theirs, Encoders, Together, Swayed, Defended, Disagrees])
@pytest.mark.parametrize("subset", ["A", "V", "AV"])
def test_attacks_on_a_victim_are_those_on_the_model(make, subset):
    net, threat, seeds = make(), THREAT.only(subset), Seeds(0, BATCH.ids)
    for victim in (net, engine.surrogate(net, ONE)):
        made = PGD(steps=4)(victim, BATCH.x, BATCH.label, threat, seeds)
        plain = PGD(steps=4)(lambda x: net(x), BATCH.x, BATCH.label, threat, seeds)
        for a, b in zip(made, plain, strict=True):
            assert ((a - b).abs() > 1e-5).float().mean() < 0.02


@pytest.mark.parametrize("make", [Theirs, Encoders, network])
def test_a_stream_that_is_not_attacked_runs_once(make):
    net = make()
    craft = engine.surrogate(net, ONE)
    runs = []
    eyes = craft.net.visual if make is network else craft.net.eyes
    eyes.register_forward_hook(lambda module, args, out: runs.append(len(out)) if len(out) > 1 else None)
    PGD(steps=6, restarts=2)(craft, BATCH.x, BATCH.label, THREAT.only("A"), Seeds(0, BATCH.ids))
    assert runs == [len(BATCH)]


@pytest.mark.parametrize("make", [Theirs, Disagrees], ids=["two streams", "any other module"])
def test_a_user_s_module_is_folded_laid_out_and_crafted_in_low_precision(make):
    net = make()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for precision, close in (("float32", 1e-4), ("bfloat16", 0.1)):
        craft = engine.surrogate(net, ONE, precision)
        copy = craft.net if make is Theirs else craft.model
        assert copy is not net and not any(isinstance(m, nn.BatchNorm2d) for m in copy.modules())
        assert isinstance(copy.eyes.conv.forward, Packed)
        assert copy.eyes.conv.weight.data_ptr() == net.eyes.conv.weight.data_ptr()  # on a CPU it is not copied
        assert craft.precision == getattr(torch, precision)
        out, wanted = craft(BATCH.x), net(BATCH.x)
        assert out.dtype == torch.float32 and (out - wanted).abs().max() < close * wanted.abs().max()
        assert precision == "float32" or not torch.allclose(out, wanted, rtol=1e-6)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_what_knows_no_low_precision_stays_in_float32():
    class Picky(Theirs):
        def decide(self, f):
            return super().decide(f)

        def embed(self, x):
            f = super().embed(x)
            if f.audio.dtype != torch.float32 or f.visual.dtype != torch.float32:
                raise TypeError("float32, please")
            return f

    craft = engine.surrogate(Picky(), ONE, "bfloat16")
    assert craft.precision == torch.float32 and isinstance(craft, engine.TwoStream) and craft.net is not None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Disagrees, "do not give what the model returns"),
        (Swayed, "the other's input"),
        (hooked, "hooks"),
        (Theirs, None),
    ],
)
def test_a_model_that_is_attacked_as_a_black_box_although_it_shows_two_streams_is_told_so(make, says):
    told = [f for f in evaluate(make(), BATCH, [FGSM()], THREAT).flags() if f.name == "attacked otherwise"]
    assert [(f.level, says in f.text) for f in told] == ([] if says is None else [("note", True)])
    assert not [f for f in evaluate(linear, BATCH, [FGSM()], THREAT).flags() if f.name == "attacked otherwise"]


def test_bfloat16_that_a_model_does_not_run_in_is_told():
    class Picky(Theirs):
        def embed(self, x):
            if torch.is_autocast_enabled("cpu"):
                raise TypeError("float32, please")
            return super().embed(x)

    flags = evaluate(Picky(), BATCH, [FGSM()], THREAT, precision="bfloat16").flags()
    assert ["attacked in float32" in f.text for f in flags if f.name == "attacked otherwise"] == [True]


def test_predictions_are_those_of_the_model_itself():
    """What was verified on an example only is attacked, and not believed: a module that answers otherwise to loud clips."""

    class Moody(Theirs):
        def forward(self, x):
            out = super().forward(x)
            return torch.where((x.audio.abs().amax(1) > 0.85)[:, None], -out, out)

    net = Moody()
    x = replace(BATCH.x, audio=BATCH.x.audio * 0.9)
    quiet = Batch(x.map(lambda s: s[1:]), BATCH.label[1:], BATCH.ids[1:])
    loud = Batch(replace(x, audio=x.audio.sign() * 0.9).map(lambda s: s[:1]), BATCH.label[:1], BATCH.ids[:1])
    rows = evaluate(net, [quiet, loud], FGSM(), Threat.linf(visual="1/255"))
    with torch.no_grad():
        wanted = torch.cat([net(b.x).argmax(1) for b in (quiet, loud)])
    assert rows.where(subset="clean").column("pred").tolist() == wanted.tolist()


def test_encoders_that_see_their_batch_get_the_batches_that_were_given():
    class Ear(nn.Module):
        def forward(self, audio):
            f = audio[:, :6]
            return f - f.mean(0)

    torch.manual_seed(0)
    net = AVNet(AV(Ear(), nn.Sequential(nn.Flatten(), nn.LazyLinear(6))), Concat(AV(6, 6)), 4).eval()
    net(BATCH.x)
    one = [BATCH.subset([i]) for i in range(len(BATCH))]
    found, expected = (evaluate(model, one, [FGSM()], Threat.linf(audio=0.05)) for model in (net, lambda x: net(x)))
    assert found.column("pred").tolist() == expected.column("pred").tolist()
    assert engine.as_judge(network(), ONE).any_batch


def test_the_combination_goes_around_a_user_s_feature_defense():
    net, many = Defended(), clips(24)
    with torch.no_grad():
        net.head.bias -= net(many.x).mean(0)
    batch = replace(many, label=net(many.x).argmax(1))
    victim = engine.as_victim(net, ONE)
    assert len(victim.ways(batch.x)) == 2
    found = {
        type(a).__name__: int(
            (net(a(net, batch.x, batch.label, THREAT, Seeds(0, batch.ids))).argmax(1) == batch.label).sum()
        )
        for a in (FGSM(), AVAutoAttack(steps=10, queries=5))
    }
    assert found["AVAutoAttack"] < found["FGSM"] == len(batch)  # rounding has no gradient


def test_an_output_may_hold_features_and_a_heat_map():
    """A model that returns them needs no methods."""
    net = network()

    def model(x):
        f = net.embed(x)
        return Output(net.decide(f), features=f)

    adv = AVAutoAttack(steps=3, targets=0, queries=2)(model, BATCH.x, BATCH.label, THREAT, Seeds(0, BATCH.ids))
    before, after = (cross_entropy.value(Output(net(x)), BATCH.label) for x in (BATCH.x, adv))
    assert after.mean() > before.mean()


def test_a_hidden_channel_is_part_of_the_victim():
    net = network()
    victim = engine.Behind(engine.as_victim(net, ONE), lambda x: x.map(lambda s: (s * 8).round() / 8))
    assert torch.allclose(victim(BATCH.x), net(BATCH.x.map(lambda s: (s * 8).round() / 8)), atol=1e-5)
    fixed = victim.fix_unattacked(BATCH.x, THREAT.only("A"))
    assert torch.allclose(fixed(BATCH.x), victim(BATCH.x), atol=1e-6)
    assert victim.averaged(3).in_precision(torch.bfloat16).precision == torch.bfloat16
    some = fixed.subset(slice(2, 4))
    assert torch.allclose(some(BATCH.x.map(lambda s: s[2:4])), victim(BATCH.x)[2:4], atol=1e-5)
