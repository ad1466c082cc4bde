"""Clips that a transfer attack crafted, kept for the next victim: what is crafted on a surrogate asks no victim."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from avrobust import engine
from avrobust.attacks import Transfer, attack_info
from avrobust.config import digest
from avrobust.defenses import saving
from avrobust.facts import AttackInfo
from avrobust.files import write_bytes
from avrobust.models.network import Network
from avrobust.objectives import display_name
from avrobust.seeds import Seeds
from avrobust.sources import sources
from avrobust.threat import Threat
from avrobust.training import weights_sha256
from avrobust.types import Attack, Labels, Model, Signals

FOLDER = "crafted"  # of a run, until all its models are measured
KEPT = 2**32  # bytes: clips of more attacks are crafted anew for each victim


def transferred(attack: Transfer, surrogate: Network, out: Path, code: object) -> Transfer:
    """`attack` with its surrogate, so that what it crafts is kept in the run `out`; `code` is the attack's."""
    kept = Crafted(attack.attack, out / FOLDER, digest(network_key(surrogate), code))
    return replace(attack, attack=kept, model=surrogate)


def network_key(net: Network) -> str:
    """A digest of what a network's answers depend on: its weights, the settings of its feature defense, code of one's own."""
    own = sources(net.feature_defense, {type(m) for m in net.modules()})
    return digest(weights_sha256(net), saving.describe(net.feature_defense), own)


@dataclass(frozen=True)
class Crafted:
    """`attack`, whose clips are kept in `folder`: the same surrogate, clips, budget and seed get them from there, to the last bit.

    `about` names the surrogate's weights and the code; all else that clips depend on is read off the call.
    """

    attack: Attack
    folder: Path
    about: str

    @property
    def info(self) -> AttackInfo:
        """The facts of the attack."""
        return attack_info(self.attack)

    @property
    def name(self) -> str:
        """Display name."""
        return display_name(self.attack)

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`."""
        precision = str(engine.as_victim(model, x.map(lambda s: s[:1])).precision)
        name = digest(self.about, self.attack, threat, seeds, x, y, str(x.audio.device), precision)
        file = self.folder / f"{name}.safetensors"
        try:
            return replace(x, **{name: s.to(x.audio.device) for name, s in load(file.read_bytes()).items()})
        except (OSError, SafetensorError):  # not crafted yet, or cut short by a crash
            made = self.attack(model, x, y, threat, seeds)
        changed = {
            name: s.detach().cpu().contiguous()
            for (name, s), clean in zip(made.items(), x, strict=True)
            if not torch.equal(s, clean)
        }
        data = save(changed)
        if sum(kept.stat().st_size for kept in self.folder.glob("*.safetensors")) + len(data) <= KEPT:
            write_bytes(file, data)
        return made
