"""Which modality carried a joint attack, measured by taking either half back."""

from dataclasses import replace

import numpy as np
import torch

from avrobust import AV, PGD, Batch, Seeds, Square, Threat, evaluate
from avrobust.evaluation.evaluator import Evaluator
from nets import clips, deaf, network

BOTH = Threat.linf(audio=0.05, visual="8/255")


def test_a_half_is_judged_with_the_other_taken_back():
    net, batch = network(), clips(24)
    with torch.no_grad():
        batch = replace(batch, label=net(batch.x).argmax(1))
    rows = Evaluator(net, [batch]).under(PGD(), BOTH)
    adv = PGD()(net, batch.x, batch.label, BOTH, Seeds(0, batch.ids))
    with torch.no_grad():
        sound = net(AV(adv.audio, batch.x.visual)).argmax(1) == batch.label
        picture = net(AV(batch.x.audio, adv.visual)).argmax(1) == batch.label
    assert rows.column("right_audio_half").tolist() == sound.tolist()
    assert rows.column("right_visual_half").tolist() == picture.tolist()
    assert np.isnan(Evaluator(net, [batch]).under(PGD(), BOTH.only("A")).column("right_audio_half")).all()


def test_sound_carries_nothing_where_nobody_listens():
    batch = clips(40)
    with torch.no_grad():
        batch = Batch(batch.x, deaf(batch.x).argmax(1), batch.ids)
    rows = evaluate(deaf, [batch], [PGD()], BOTH).where(subset="AV")
    fooled = ~rows.column("correct").astype(bool)
    assert fooled.sum() > 10
    assert rows.column("right_audio_half").all() and not rows.column("right_visual_half")[fooled].any()


def test_the_gradient_says_what_each_budget_promises():
    batch = clips(6)
    batch = replace(batch, label=batch.label % 2)
    weights = torch.tensor([2.0, 0.5])  # of the mean of the sound, and of the mean of the picture

    def model(x):
        seen = weights[0] * x.audio.mean(1) + weights[1] * x.visual.mean((1, 2, 3, 4))
        return torch.stack([seen, -seen, seen - 9], 1)

    threats = [Threat.linf(audio=0.01, visual=0.02), Threat.linf(audio=0.03, visual=0.02)]
    rows = evaluate(model, [batch], [PGD(steps=2)], [*threats, threats[0].only("A")])
    for threat, share in zip(threats, (0.02 / 0.03, 0.06 / 0.07), strict=True):
        found = rows.where(threat=str(threat)).column("slope_audio")
        assert np.allclose(found, share, atol=1e-5)
    assert np.isnan(rows.where(subset="A").column("slope_audio").astype(float)).all()


def test_a_model_without_derivatives_promises_nothing():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, s):
            return s.clone()

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("no derivative here")

    for model in (lambda x: deaf(x).detach(), lambda x: deaf(x.map(Broken.apply))):
        rows = evaluate(model, [clips(4)], [Square(queries=2)], BOTH).where(subset="AV")
        assert np.isnan(rows.column("slope_audio")).all() and not np.isnan(rows.column("margin")).any()
