"""Clips that were crafted on a surrogate once: every victim gets the same ones."""

from dataclasses import replace

import torch

from avrobust import MIM, PGD, Seeds, Threat
from avrobust.attacks import Transfer
from avrobust.study import crafted
from avrobust.study.crafted import transferred
from nets import clips, network

BOTH = Threat.linf(audio=0.01, visual="4/255")


def test_a_victim_gets_the_clips_that_were_crafted_for_another(tmp_path, monkeypatch):
    batch, surrogate = clips(3), network()
    seeds, asked = Seeds(0, batch.ids), []
    surrogate.register_forward_pre_hook(lambda *_: asked.append(1))
    for encoder in surrogate.encoders:
        encoder.register_forward_pre_hook(lambda *_: asked.append(1))

    def made(attack, victim=1, threat=BOTH, seeds=seeds):
        asked.clear()
        kept = transferred(Transfer("first", attack), surrogate, tmp_path, {})
        assert (kept.name, kept.info) == (f"{attack.name} from first", replace(attack.info, source="first"))
        found = kept(network(seed=victim), batch.x, batch.label, threat, seeds)
        return found, bool(asked)

    (first, crafting), (again, twice) = made(PGD(steps=2)), made(PGD(steps=2), victim=2)
    anew = Transfer("first", PGD(steps=2), surrogate)(network(seed=2), batch.x, batch.label, BOTH, seeds)
    assert crafting and not twice
    for a, b, c in zip(first, again, anew, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
    # whatever they depend on makes others: the attack, its budget, the seed, the surrogate
    others = (
        made(MIM(steps=2)),
        made(PGD(steps=2), threat=BOTH.only("V")),
        made(PGD(steps=2), seeds=Seeds(1, batch.ids)),
    )
    with torch.no_grad():
        surrogate.classifier.bias += 1
    assert all(anew for _, anew in (*others, made(PGD(steps=2))))
    only = made(PGD(steps=2), threat=BOTH.only("A"))[0], made(PGD(steps=2), threat=BOTH.only("A"))[0]
    assert torch.equal(only[0].audio, only[1].audio) and torch.equal(only[1].visual, batch.x.visual)
    files = [*tmp_path.rglob("*.safetensors")]
    assert len(files) == 6
    for file in files:
        file.write_bytes(file.read_bytes()[:-1])  # the machine crashed
    assert made(PGD(steps=2))[1] and not made(PGD(steps=2))[1]
    monkeypatch.setattr(crafted, "KEPT", 0)
    assert made(PGD(steps=3))[1] and made(PGD(steps=3))[1]
