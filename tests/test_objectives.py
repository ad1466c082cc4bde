"""An objective says what is pushed up and when the attacker has what it wants; searches need to know no more."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from avrobust import APGD, FGSM, MIM, PGD, AVAutoAttack, Seeds, Square, Threat, cross_entropy, engine, evaluate, margin
from avrobust.budget_check import check
from avrobust.objectives import (
    BinaryCrossEntropy,
    Deviation,
    EmbeddingShift,
    Targeted,
    WithSimilarity,
    display_name,
    dlr,
    dlr_towards,
    margins,
)
from avrobust.types import InputError, Output
from nets import clips, linear, network

torch.manual_seed(0)
HEAD = torch.nn.Linear(96, 10).requires_grad_(False)
BATCH = clips(40)
THREAT = Threat.linf(audio=0.05)


def ten(x):
    """Ten classes by the sound."""
    return HEAD(x.audio)


def attacked(attack, model=ten, batch=BATCH, threat=THREAT, y=None):
    made = attack(model, batch.x, batch.label if y is None else y, threat, Seeds(0, batch.ids))
    check(threat, batch.x, made, batch.ids, "it")
    return made


SEARCHES = [APGD(steps=10), PGD(steps=10), MIM(steps=10), Square(queries=100)]


@dataclass(frozen=True)
class Towards:
    """An objective of somebody's own, with a success of true and false."""

    target: int

    def value(self, out, y):
        return out.logits[:, self.target].double()

    def success(self, out, y):
        return out.logits.argmax(1) == self.target


@dataclass(frozen=True)
class Tries:
    """An attack of somebody's own."""

    at: object = 4

    def __call__(self, model, x, y, threat, seeds):
        return x


def test_settings_of_one_s_own_are_in_the_name():
    assert [display_name(Tries(at)) for at in (4, 8, torch.tensor([1, 2]), cross_entropies)] == [
        "Tries", "Tries(at=8)", "Tries(at=tensor([1, 2]))", "Tries(at=cross_entropies)",
    ]  # fmt: skip
    assert len(display_name(Tries(network()))) <= 80 and " at 0x" not in display_name(Tries([object()]))
    attacks = [*(PGD(steps=1, objective=Towards(k)) for k in (0, 1)), Tries(4), Tries(8)]
    rows = evaluate(ten, BATCH, attacks, THREAT)
    assert list(dict.fromkeys(rows.column("attack"))) == [
        "none", "PGD-1 (Towards(target=0))", "PGD-1 (Towards(target=1))", "Tries", "Tries(at=8)",
    ]  # fmt: skip
    assert set(rows.column("objective")) == {None, "Towards(target=0)", "Towards(target=1)", ""}


@pytest.mark.parametrize("objective", [Targeted(3), Towards(3)], ids=repr)
@pytest.mark.parametrize("attack", SEARCHES, ids=repr)
def test_a_search_towards_a_class_stops_when_it_is_reached(attack, objective):
    y = ten(BATCH.x).argmax(1)
    batch = replace(BATCH, x=BATCH.x.map(lambda s: s[y != 3]), label=y[y != 3], ids=BATCH.ids[: int((y != 3).sum())])
    attack, seen = replace(attack, objective=objective), []

    def counted(x):
        seen.append(len(x.audio))
        return ten(x)

    reached = {}
    for stop in (True, False):
        seen.clear()
        reached[stop] = (
            ten(attacked(replace(attack, stop=stop), counted, batch, Threat.linf(audio=0.1))).argmax(1) == 3,
            sum(seen),
        )
    # Whoever is reached at the end was reached, and stays so; fewer questions are asked.
    assert (reached[True][0] >= reached[False][0]).all() and reached[True][0].sum() >= len(batch) / 6
    assert reached[True][1] < reached[False][1]


@pytest.mark.parametrize("attack", [replace(a, stop=True) for a in SEARCHES], ids=repr)
def test_a_search_whose_success_nobody_knows_goes_on(attack):
    seen = []

    def mine(out, y):
        seen.append(len(y))
        return margins(out.logits, y)

    attacked(replace(attack, objective=mine))
    assert set(seen) == {len(BATCH)}


def test_success_of_ours():
    logits, y = torch.tensor([[2.0, 0.0, 1.0, -1.0], [0.0, torch.nan, 1.0, 2.0]]), torch.tensor([0, 0])
    out = Output(logits)
    for objective in (cross_entropy, margin, dlr, WithSimilarity()):
        assert objective.success(out, y).tolist() == [-1.0, torch.inf]
        assert not objective.success(out, torch.rand(2, 4)).any()  # of soft labels nobody knows
    assert dlr_towards.success(out, torch.stack([y, 1 - y], 1)).tolist() == [-1.0, torch.inf]
    assert Targeted(0).success(out, 1 - y).tolist() == [1.0, -torch.inf]


def test_no_answer_is_no_answer_of_the_class_that_was_aimed_at():
    x = BATCH.x.map(lambda s: (s * 32).round() / 32)

    def model(x):
        far = (x.audio * 32 - (x.audio * 32).round()).abs().amax(1, keepdim=True) > 0.1
        return torch.where(far, torch.nan, ten(x))

    for attack in SEARCHES:
        made = attacked(replace(attack, objective=Targeted(3)), model, replace(BATCH, x=x))
        assert model(made).isfinite().all()


FAR = HEAD(BATCH.x.audio)
OWN = {
    "regression": (lambda out, y: (out.logits[:, 0] - y) ** 2, torch.rand(40)),
    "several labels": (lambda out, y: F.binary_cross_entropy_with_logits(out.logits, y, reduction="none").mean(1), (FAR > 0).float()),
    "embedding": (lambda out, y: 1 - F.cosine_similarity(out.logits, y), FAR),
    "speaker numbers": (lambda out, y: 1 - F.cosine_similarity(out.logits, FAR[: len(y)]), torch.arange(40) * 7),
    "soft labels": (cross_entropy.value, FAR.softmax(1)),
    "nothing": (lambda out, y: out.logits.square().sum(1), torch.zeros(40)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize(("objective", "y"), OWN.values(), ids=OWN)
def test_objectives_of_ones_own_need_no_classes(objective, y, dtype):
    def cast(out, y):
        return objective(out, y).to(dtype)

    for attack in (*SEARCHES, FGSM(), PGD(steps=3, keep="last", restarts=2), PGD(steps=3, stop=True)):
        made = attacked(replace(attack, objective=cast), y=y)
        assert objective(Output(ten(made)), y).sum() > objective(Output(ten(BATCH.x)), y).sum()


def regressor(x):
    return 0.1 * HEAD(x.audio)[:, 0]


NET = network()
TASKS = {
    "all labels": (BinaryCrossEntropy(), ten, (FAR > 0).float()), "one label": (BinaryCrossEntropy(3), ten, (FAR > 0).float()),
    "regression": (Deviation(0.01), regressor, regressor(BATCH.x) + 0.001 * torch.arange(40)),
    "several numbers": (Deviation(0.1), ten, FAR), "a class": (Targeted(2), ten, BATCH.label),
    "embedding": (EmbeddingShift(0.15), ten, BATCH.label), "an embedding of a network": (EmbeddingShift(0.05), NET, BATCH.label),
    "audio features": (EmbeddingShift(0.05, "audio"), NET, BATCH.label), "nothing left of the label": (cross_entropy, NET, BATCH.label),
}  # fmt: skip


@pytest.mark.parametrize("attack", [PGD(steps=10), APGD(steps=10, stop=False), MIM(steps=10, random_start=True), Square(queries=100, stop=False)], ids=repr)  # fmt: skip
@pytest.mark.parametrize(("objective", "model", "y"), TASKS.values(), ids=TASKS)
def test_other_tasks_follow_from_their_objective(attack, objective, model, y):
    """What the attacker pushes up rises, clips on which it has succeeded leave the search, and succeed in the end."""
    clean = engine.as_victim(model, BATCH.x).output(BATCH.x, ("features",))

    def judged(x):
        out = engine.as_victim(model, BATCH.x).output(x, ("features",))
        out = replace(out, clean=clean)
        return objective.value(out, y), objective.success(out, y) > 0

    seen = []

    def counted(x):
        seen.append(len(x.audio))
        return model(x)

    asked = model if objective in (EmbeddingShift(0.05, "audio"),) else counted
    spent, won, value = {}, {}, {}
    for stop in (False, True):
        seen.clear()
        value[stop], won[stop] = judged(attacked(replace(attack, objective=objective, stop=stop), asked, y=y))
        spent[stop] = sum(seen)
    assert value[False].mean() > judged(BATCH.x)[0].mean()
    assert won[True].any() and (won[True] >= won[False]).float().mean() > 0.95
    assert asked is model or spent[True] < spent[False]


def test_targets_of_another_shape_are_refused():
    for objective, y, says in ((BinaryCrossEntropy(), torch.zeros(40, 3), r"shaped as the logits, \(40, 10\), got \(40, 3\)"), (Deviation(1.0), torch.zeros(40, 3), r"\(40, 10\), got \(40, 3\)")):  # fmt: skip
        with pytest.raises(InputError, match=says):
            attacked(PGD(steps=1, objective=objective), y=y)
    with pytest.raises(InputError, match=r"AVAutoAttack without an objective.*AVAutoAttack\(objective="):
        attacked(AVAutoAttack(steps=2, queries=1), y=torch.zeros(40, 10))


@pytest.mark.parametrize("model", [ten, network()], ids=["callable", "network"])
def test_an_objective_that_is_not_one_number_per_clip_is_refused(model):
    for wrong, got in ((lambda out, y: F.cross_entropy(out.logits, y), r"\(\)"), (lambda out, y: out.logits[:, :1], r"\(40, 1\)"), (lambda out, y: 1.0, "float")):  # fmt: skip
        for attack in SEARCHES:
            with pytest.raises(InputError, match=rf"one number per clip, shaped \(40,\), got .*{got}"):
                attacked(replace(attack, objective=wrong), model)


def cross_entropies(out, y):
    return F.cross_entropy(out.logits, y.float(), reduction="none")


class Unknown(Towards):
    def success(self, out, y):
        return out.heat.amax(1) > 0


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        (F.cross_entropy, "cross_entropy should .* got TypeError"),
        (torch.nn.CrossEntropyLoss(reduction="none"), "CrossEntropyLoss should .* got TypeError"),
        (lambda out, y: out.features.audio.norm(dim=1), "<lambda> should .* got AttributeError"),
        (cross_entropies, "cross_entropies should .* got RuntimeError"),
        (Unknown(1), r"Unknown\(target=1\) should .* got AttributeError"),
    ],
    ids=["a loss of tensors", "a module", "features that are not there", "labels of another type", "in success"],
)
def test_an_objective_that_fails_is_named_and_told_what_it_gets(objective, says):
    told = r"has logits, with out\.logits shaped \(40, 10\), and no features, .*labels are shaped \(40,\).*reduction='none'"
    for attack in (PGD(steps=2), Square(queries=3)):
        with pytest.raises(InputError, match=f"{says}.*{told}"):
            attacked(replace(attack, objective=objective))


def test_errors_that_are_not_the_objective_s_are_raised_as_they_are():
    def full(out, y):
        raise torch.OutOfMemoryError("out of memory")

    def broken(x):
        raise TypeError("the model's own")

    for attack in (PGD(steps=2), Square(queries=3)):
        with pytest.raises(torch.OutOfMemoryError):
            attacked(replace(attack, objective=full))
        with pytest.raises(TypeError, match="the model's own"):
            attacked(attack, broken)


def forgets(out, y):
    out.logits[torch.arange(len(y)), y] = float("-inf")
    return out.logits.amax(1)


class Forgetful(Towards):
    def success(self, out, y):
        return out.logits.fill_(0)[:, 0] == 1


def relabels(out, y):
    return out.logits.gather(1, y.fill_(0)[:, None])[:, 0]


@pytest.mark.parametrize("objective", [forgets, Forgetful(1), relabels], ids=["output", "output, in success", "labels"])
def test_an_objective_that_writes_into_what_it_is_given_is_refused(objective):
    batch = replace(BATCH, label=BATCH.label.clone())
    for attack in SEARCHES:
        with pytest.raises(
            InputError, match=r"the objective \S+ wrote into the output or the labels.*out\.logits\.clone"
        ):
            attacked(replace(attack, objective=objective), batch=batch)
    # Without a version to look at, it writes into a copy.
    with torch.inference_mode():
        attack = Square(queries=20, objective=objective)
        assert not torch.equal(attacked(attack, batch=replace(BATCH, label=BATCH.label.clone())).audio, BATCH.x.audio)


def test_an_objective_that_is_no_number_names_its_clip():
    with pytest.raises(InputError, match=r"finite value.*'clip/0'.*objective"):
        attacked(PGD(steps=2, objective=lambda out, y: out.logits[:, 0] * torch.nan))


@pytest.mark.parametrize(
    "form", [lambda z: {"logits": z}, lambda z: (z, None), Output, lambda z: SimpleNamespace(logits=z)]
)
def test_a_model_may_answer_in_its_own_form(form):
    plain, own = (attacked(PGD(steps=3, stop=True), model) for model in (ten, lambda x: form(ten(x))))
    assert torch.equal(plain.audio, own.audio) and not torch.equal(own.audio, BATCH.x.audio)


class Half(torch.nn.Module):
    """A network in half precision, fed as such networks are."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype, self.head = dtype, torch.nn.Linear(96, 4)
        torch.nn.init.normal_(self.head.weight, std=0.3)
        self.to(dtype).requires_grad_(False)

    def forward(self, x):
        return self.head(x.audio.to(self.dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_networks_in_another_precision_are_attacked(dtype):
    model = Half(dtype)
    batch = replace(BATCH, label=model(BATCH.x).argmax(1))
    for attack in (*SEARCHES, FGSM(), AVAutoAttack(steps=5, targets=1, queries=5)):
        made = attacked(attack, model, batch, Threat.linf(audio=0.1))
        assert (model(made).argmax(1) != batch.label).float().mean() > 0.3, attack


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_a_whole_network_in_another_precision_is_taken_as_it_is(dtype):
    net = network().to(dtype)
    assert isinstance(engine.as_victim(net, BATCH.x), engine.BlackBox)
    model = lambda x: net(x.map(lambda s: s.to(dtype)))  # noqa: E731
    made = attacked(PGD(steps=3), model, threat=Threat.linf(audio=0.05, visual=0.05))
    assert margins(network()(made), BATCH.label).mean() > margins(network()(BATCH.x), BATCH.label).mean()


def test_labels_of_a_linear_model_are_what_they_were():
    """Success by the true label, whatever class a search inside `AVAutoAttack` is led towards."""
    y = linear(BATCH.x).argmax(1)
    made = attacked(AVAutoAttack(steps=5, queries=5), linear, replace(BATCH, label=y), Threat.linf(audio=0.05))
    assert (linear(made).argmax(1) != y).any()


@pytest.mark.parametrize("told", [lambda won: won.all(), lambda won: won.tolist(), lambda won: won[:, None]])
def test_success_is_said_of_each_clip(told):
    class Own(Towards):
        def success(self, out, y):
            return told(out.logits.argmax(1) == self.target)

    for attack in (APGD(steps=3, objective=Own(1)), Square(queries=3, objective=Own(1))):
        with pytest.raises(
            InputError, match=r"success of Own\(target=1\) should be a tensor of one value per clip, shaped \(40,\)"
        ):
            attacked(attack)


@pytest.mark.parametrize("target", [10, -1])
def test_a_target_is_one_of_the_model_s_classes(target):
    with pytest.raises(InputError, match="one of the model's 10 classes"):
        attacked(PGD(steps=1, objective=Targeted(target)))
