"""Which modality carried a joint attack, measured by taking either half back."""

from dataclasses import replace

import numpy as np
import torch

from avrobust import AV, PGD, Batch, Seeds, Threat, evaluate
from avrobust.evaluation.run import Subject
from nets import clips, deaf, network

BOTH = Threat.linf(audio=0.05, visual="8/255")


def test_a_half_is_judged_with_the_other_taken_back():
    net, batch = network(), clips(24)
    with torch.no_grad():
        batch = replace(batch, label=net(batch.x).argmax(1))
    rows = Subject(net, [batch]).under(PGD(), BOTH)
    adv = PGD()(net, batch.x, batch.label, BOTH, Seeds(0, batch.ids))
    with torch.no_grad():
        sound = net(AV(adv.audio, batch.x.visual)).argmax(1) == batch.label
        picture = net(AV(batch.x.audio, adv.visual)).argmax(1) == batch.label
    assert rows.column("right_audio_half").tolist() == sound.tolist()
    assert rows.column("right_visual_half").tolist() == picture.tolist()
    assert np.isnan(Subject(net, [batch]).under(PGD(), BOTH.only("A")).column("right_audio_half")).all()


def test_sound_carries_nothing_where_nobody_listens():
    batch = clips(40)
    with torch.no_grad():
        batch = Batch(batch.x, deaf(batch.x).argmax(1), batch.ids)
    rows = evaluate(deaf, [batch], [PGD()], BOTH).where(subset="AV")
    fooled = ~rows.column("correct").astype(bool)
    assert fooled.sum() > 10
    assert rows.column("right_audio_half").all() and not rows.column("right_visual_half")[fooled].any()
