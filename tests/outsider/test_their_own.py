"""Networks, a defense, objectives and attacks of somebody else's, with public names only."""

import ast
from pathlib import Path

import pytest
import torch
from their_own import CLIPS_SEEN, Rounded, SignNoise, TooFarFromTarget, network, signals

import avrobust as avr

BOTH = avr.Threat.linf(audio=0.1, visual="16/255")


def labelled(net) -> avr.Batch:
    x = signals()
    with torch.no_grad():
        return avr.Batch(x, net(x)["logits"].argmax(1))


def test_two_streams_of_theirs_are_attacked_and_measured():
    net = network()
    rows = avr.evaluate(net, labelled(net), [avr.PGD(steps=10), SignNoise()], BOTH)
    robust = {s: rows.where(attack="PGD-10", subset=s).accuracy().value for s in ("A", "V", "AV")}
    assert rows.where(attack="none").accuracy().value == 1.0
    assert robust["AV"] <= min(robust["A"], robust["V"]) < 1.0
    assert len(rows.where(attack="sign noise")) == 36


@pytest.mark.parametrize(("attacked", "rests"), [("A", "eye"), ("V", "ear")])
def test_the_stream_that_is_not_attacked_is_computed_once(attacked, rests):
    seen = []
    for steps in (2, 30):
        net = network()  # another one: what was verified of a network is not verified again
        batch = labelled(net)
        CLIPS_SEEN.clear()
        rows = avr.evaluate(net, batch, avr.PGD(steps=steps), [BOTH.only(attacked)])
        seen.append(dict(CLIPS_SEEN))
        assert len(rows) == 24
    works = "ear" if rests == "eye" else "eye"
    assert seen[0][rests] == seen[1][rests]
    assert seen[1][works] - seen[0][works] == 28 * len(batch)


@pytest.mark.numeric
@pytest.mark.parametrize(("precision", "share"), [("float32", 0.02), ("bfloat16", 0.1)])
def test_the_attack_is_as_strong_as_on_the_network_as_any_callable(precision, share):
    net = network()
    batch = labelled(net)
    cached = avr.evaluate(net, batch, avr.PGD(steps=20), BOTH, precision=precision)
    plain = avr.evaluate(lambda x: net(x), batch, avr.PGD(steps=20), BOTH)
    for subset in ("A", "V", "AV"):
        ours, theirs = (r.where(attack="PGD-20", subset=subset).column("margin").mean() for r in (cached, plain))
        # Rounding may lead a search another way, to about the same place.
        assert ours > theirs - share * abs(theirs)


def test_a_defense_of_theirs_that_hides_its_gradient_is_found_out():
    net = network(defense=Rounded())
    batch = labelled(net)
    rows = avr.evaluate(net, batch, [avr.PGD(steps=10), avr.AVAutoAttack(steps=10)], [BOTH])
    blind, adapted = (rows.where(attack=name).accuracy().value for name in ("PGD-10", rows.data["attack"][-1].as_py()))
    assert adapted < blind
    assert any(flag.level == "alarm" and "gradient" in flag.text for flag in rows.flags())


def test_many_labels():
    net, x = network(outputs=5), signals()
    with torch.no_grad():
        y = (net(x)["logits"] > 0).float()
    adv = avr.PGD(steps=20, objective=avr.objectives.BinaryCrossEntropy())(
        net, x, y, BOTH, avr.Seeds(0, tuple("abcdefghijkl"))
    )
    with torch.no_grad():
        wrong = ((net(adv)["logits"] > 0).float() != y).any(1)
    assert wrong.float().mean() > 0.5


def test_their_own_objective_of_a_regression_stops_where_it_succeeded():
    net, x = network(outputs=1), signals()
    with torch.no_grad():
        y = net(x)["logits"][:, 0]
    attack = avr.PGD(steps=30, objective=TooFarFromTarget(0.1), stop=True)
    adv = attack(net, x, y, BOTH, avr.Seeds(0, tuple("abcdefghijkl")))
    with torch.no_grad():
        off = (net(adv)["logits"][:, 0] - y).abs()
    assert bool((off > 0.1).all())
    further = avr.PGD(steps=30, objective=TooFarFromTarget(0.1))(net, x, y, BOTH, avr.Seeds(0, tuple("abcdefghijkl")))
    with torch.no_grad():
        assert float((net(further)["logits"][:, 0] - y).abs().mean()) > float(off.mean())


def test_only_public_names_are_used():
    here = Path(__file__).parent
    for name in ("their_own.py", "test_their_own.py", "their_model.py", "test_outsider.py"):
        for node in ast.walk(ast.parse((here / name).read_text())):
            imported = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module] if isinstance(node, ast.ImportFrom) else []
            ours = {module for module in imported if module.startswith("avrobust")}
            assert ours <= {"avrobust"}, f"{name} imports {ours}"
