"""One clip attacked: what is said of it is what the model answers, and the search can be watched and ended."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from avrobust import PGD, Threat
from avrobust.attacks import ATTACKS, Mute, by_name
from avrobust.attacks.quantized import on_levels
from avrobust.budget_check import BudgetError
from avrobust.evaluation.one_clip import as_arrays, as_signals, attack_clip, towards
from avrobust.objectives import Targeted
from avrobust.types import InputError
from nets import clips, network, pointing_net

NAMES = ("dog", "cat", "owl", "fox")
THREAT = Threat.linf(audio=0.02, visual="4/255")


@pytest.fixture
def one():
    return clips(1).x


def test_what_is_said_is_what_the_model_answers(one):
    net = network()
    found = attack_clip(net, one, PGD(steps=5), THREAT, classes=NAMES, channels={"rounded": on_levels})
    with torch.no_grad():
        for form, x in (
            ("clean", one),
            ("adversarial", found.adversarial),
            ("adversarial, rounded", on_levels(found.adversarial)),
        ):
            expected = net(x).softmax(1)[0].numpy()
            answer = found.answers[form]
            assert answer.probabilities == pytest.approx(expected, abs=1e-5)
            assert answer.success == (expected.argmax() != found.label)
            assert found.ranking(form)[0] == (NAMES[expected.argmax()], pytest.approx(expected.max(), abs=1e-5))
    assert (
        found.label == found.answers["clean"].probabilities.argmax()
        and found.goal == f"not classified as {NAMES[found.label]}"
    )
    assert 0 < found.distortion["linf_audio"] <= 0.02 + 1e-6


@pytest.mark.parametrize("name", ["FGSM", "PGD-3", "MIM-3", "APGD-3", "Square-3", "AVAutoAttack-2"])
def test_every_search_is_watched_and_not_changed_by_that(one, name):
    """The last answers of the history are to the clip that the search ends with, or near it; the clip is as without a watcher."""
    net, attack = network(), by_name(name)
    found = attack_clip(net, one, attack, THREAT, classes=NAMES, label=0, seed=3, id="0")
    from avrobust import Seeds

    alone = attack(net, one, torch.tensor([0]), THREAT, Seeds(3, ("0",)))
    assert all(torch.equal(a, b) for a, b in zip(found.adversarial, alone, strict=True))
    assert len(found.history) >= 1 and found.history.sum(1) == pytest.approx(np.ones(len(found.history)), abs=1e-5)


def test_a_watcher_ends_the_search(one):
    steps = []

    def watch():
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attack_clip(network(), one, PGD(steps=50), THREAT, classes=NAMES, watch=watch)
    assert len(steps) == 2


def test_a_target_counts_by_its_own_success(one):
    found = attack_clip(network(), one, PGD(steps=5), THREAT, classes=NAMES, target=2)
    assert found.goal == "classified as owl"
    assert found.answers["adversarial"].success == (found.predicted("adversarial") == "owl")


def test_what_is_won_already_is_no_success(one):
    label = (attack_clip(network(), one, PGD(steps=1), THREAT, classes=NAMES).label + 1) % len(NAMES)
    found = attack_clip(
        network(), one, PGD(steps=1), THREAT, classes=NAMES, label=label, channels={"rounded": on_levels}
    )
    assert found.success == {"adversarial": None, "adversarial, rounded": None}
    assert re.match(rf"The clean clip is already misclassified: \w+ \(\d+%\), not {NAMES[label]}\. ", found.outcome)


def test_heat_of_a_model_that_points(one):
    assert attack_clip(network(), one, PGD(steps=1), THREAT, classes=NAMES).answers["clean"].heat is None
    heat = attack_clip(pointing_net(), one, PGD(steps=1), THREAT, classes=NAMES).answers["adversarial"].heat
    assert heat is not None and heat.sum() == pytest.approx(1, abs=1e-4)


def test_what_cannot_be_described_is_refused(one):
    with pytest.raises(ValueError, match="for each of the model's 4 outputs, got 2"):
        attack_clip(network(), one, PGD(steps=1), THREAT, classes=NAMES[:2])
    with pytest.raises(BudgetError):
        attack_clip(network(), one, lambda model, x, y, threat, seeds: x.map(lambda s: s * 0), THREAT, classes=NAMES)


def halving(model, x, y, threat, seeds):
    return x.map(lambda s: s.mul_(0.5))


def doubling(x):
    return x.audio.mul_(2).flip(-1)[:, :4] + x.visual.mean()


@pytest.mark.parametrize(
    ("model", "attack", "culprit"),
    [(network(), halving, "halving, or the model under it,"), (doubling, Mute(), "the model")],
    ids=["attack", "model"],
)
def test_what_writes_into_the_clip_is_refused(one, model, attack, culprit):
    kept = one.map(torch.clone)
    with pytest.raises(InputError, match=f"{culprit} wrote into the audio .* 'clip'"):
        attack_clip(model, one, attack, THREAT, classes=NAMES)
    assert all(map(torch.equal, one, kept))


def test_attacks_that_take_a_target_and_those_that_do_not():
    for name in ATTACKS:
        made = by_name(name)
        assert towards(1, made) == replace(made, objective=Targeted(1))
    with pytest.raises(ValueError, match=r"got muted\. Use FGSM, PGD, MIM, APGD, Square"):
        towards(1, Mute())


def test_arrays_and_signals_are_one_clip():
    x = clips(1).x
    arrays = as_arrays(x)
    again = as_signals(replace(arrays, visual=np.round(arrays.visual * 255).astype(np.uint8)))
    assert torch.equal(again.audio, x.audio) and torch.allclose(again.visual, x.visual, atol=0.51 / 255)
