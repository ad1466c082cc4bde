"""One model of a study with one seed: trained, attacked, examined.  What is finished is never computed again."""

import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch

from avrobust.attacks import ANYTHING, Elsewhere, Mute, Noise, Swap, Transfer
from avrobust.config import name_of
from avrobust.data.entry import Box
from avrobust.data.manifest import Manifest
from avrobust.data.store import Store, box_in_window
from avrobust.defenses import Memory, diagnosis, saving
from avrobust.evaluation.embedding import embed
from avrobust.evaluation.evaluator import Evaluator, Measure
from avrobust.evaluation.localisation import Localisation, baselines
from avrobust.evaluation.probe import probe
from avrobust.evaluation.schema import Rows
from avrobust.files import write_json
from avrobust.models.network import AVNet
from avrobust.models.zoo import count_parameters
from avrobust.objectives import display_name
from avrobust.progress import track_progress
from avrobust.sources import sources
from avrobust.study import showcase
from avrobust.study.cells import cell_folder, is_whole, set_aside, unreadable, write_cell
from avrobust.study.failures import failed, left_out
from avrobust.study.plan import Cell, ModelConfig, Study
from avrobust.study.record import RunFile, world, world_name
from avrobust.training import Trained, batches, checkpoint, load, train, weights_sha256, window
from avrobust.types import AV, Attack, Batch

DRAWN = 400  # test clips in a picture of features: more of them hide each other


@dataclass(frozen=True, eq=False)
class Job:
    """One model of a study with one seed, in a run: its files and what it is measured on."""

    study: Study
    config: ModelConfig
    seed: int
    out: Path
    manifest: Manifest
    store: Store
    record: RunFile
    device: torch.device
    progress: bool = True
    tracker: str | None = None

    @property
    def folder(self) -> Path:
        """Where its training lies."""
        return self._weights_of(self.config.name).parent

    @property
    def sources(self) -> tuple[str, ...]:
        """The models whose weights it needs: what its training starts from, and what clips are made for."""
        attacks = [cell.attack for cell in self.study.cells(self.config.name, self.seed)]
        foreign = [attack.source for attack in attacks if isinstance(attack, Transfer)]
        return tuple(dict.fromkeys([*filter(None, [self.config.start]), *foreign]))

    @property
    def name(self) -> str:
        """What its folder is called, and its failure if it fails."""
        return self.folder.name

    @property
    def ready(self) -> bool:
        """Whether those are there, or known not to come."""
        return all((w := self._weights_of(s)).exists() or failed(self.record, w.parent.name) for s in self.sources)

    def run(self) -> None:
        """Train it, attack it, look at it; what fails is written down and left out."""
        if not failed(self.record, self.name):
            with left_out(self.record, self.name, self.config.name, self.seed, "training and measuring it"):
                self._run()

    def _run(self) -> None:
        study, name, record = self.study, self.config.name, self.record
        first = self.seed == study.seeds[0]
        with record.timed(f"training {name}"):
            trained = self.train()
        # The weights as they are on disk: a network that was just trained lies in memory in another layout,
        # and its last bits would differ from those of a run that was taken up again.
        net = self._load(self.config, trained.path).to(self.device)
        places = self.localisation() if self.config.localises else None
        with record.timed(f"attacking {name}"):
            self.measure(net, also=places)
            if first:  # it stands for the others, too
                record.update(models={name: self.about(trained, net)})
        if first and places:
            record.update(baselines=baselines([box for box in places.boxes.values() if box]))
        if name in study.embedded:
            with record.timed("features"):
                self.write_features(net)
        if first:
            with record.timed("showcase"):
                if self.config == study.models[0]:
                    showcase.attacked(study, net, self.store, self.out / "gallery", self.device)
                if places:
                    showcase.located(study, net, self.store, places, self.out / "strips" / name, self.device)

    def train(self) -> Trained:
        """Its training, or what there is of it."""
        study, config = self.study, self.config
        if config.epochs == 0:
            checkpoint.save(net := self.start(), path := self._weights_of(config.name), {})
            return Trained(path, net, curve=(), best_epoch=0, seconds=0.0)
        return train(
            self.start(), self.store, study.recipe(config), view=study.view, loss=config.loss,
            out=self.folder, seed=self.seed, progress=self.progress, tracker=self.tracker,
        )  # fmt: skip

    def start(self) -> AVNet:
        """The network that its training starts from: new, or an earlier model's; with its feature defense filled."""
        study, config = self.study, self.config
        net = config.build(len(self.store.classes), self.seed)
        if config.start is not None:
            path = self._weights_of(config.start)
            if not path.exists():
                raise ValueError(f"it starts from the weights of '{config.start}', which failed")
            tensors = {
                name: t for name, t in checkpoint.read(path)[0].items() if not name.startswith("feature_defense.")
            }
            checkpoint.put(tensors, net, path)
        if config.feature_defense is not None:
            # Kept: a run that is taken up again starts from the same feature defense, to the last bit.
            kept = self.folder / "start.safetensors"
            if kept.exists():
                return self._load(config, kept)
            clips = batches(self.store, "train", study.view, study.batch)
            net.feature_defense = config.feature_defense.fill(net.eval(), clips, self.seed)
            checkpoint.save(net, kept, {})
        return net

    def measure(self, net: AVNet, *, also: Measure | None = None) -> None:
        """Compute the cells of the trained network that are not there yet."""
        study, config, seed = self.study, self.config, self.seed
        about = [
            weights_sha256(net), self.store.sha256, study.view, study.attacked, study.batch,
            saving.describe(net.feature_defense), sources(net.feature_defense, {type(m) for m in net.modules()}), also,
        ]  # fmt: skip
        source = cache(self._source)

        def key(cell: Cell) -> str:
            if not isinstance(cell.attack, Transfer):
                return cell.key(*about)
            if not self._weights_of(cell.attack.source).exists():
                return cell.key(*about, None)  # its source failed, and so will it
            return cell.key(*about, weights_sha256(source(cell.attack.source)))

        cells = {key(cell): cell for cell in study.cells(config.name, seed)}
        if other := set_aside(self.out, config.name, seed, cells):
            self.record.update(set_aside=other)
        todo = {
            name: cell
            for name, cell in cells.items()
            if not is_whole(cell_folder(self.out, name)) and not failed(self.record, f"{self.name}-{cell.key()}")
        }
        if not todo:
            return

        attacked = cache(lambda: Evaluator(net, self.tested(study.attacked), name=config.name, also=also))
        here = world_name(world(self.device))
        total = sum(cell.steps + 1 for cell in todo.values())
        title = f"attacking {config.name} (seed {seed})"
        with track_progress(title, total, visible=self.progress, count=False) as advance:
            for name, cell in todo.items():
                advance(0, note=f"{cell.attack_name} {cell.threat.subset}")
                if cell.attack is None:
                    everyone = Evaluator(net, every := self.tested(None), name=cell.model, also=also)
                    parts = [everyone.clean(seed), unreadable(self.store, cell)]
                    if config.modality == "AV":  # a heat map, and answers, should move with what is heard and seen
                        asked, parts_of_clips = (everyone, "A") if also else (attacked(), "AV")
                        # A single clip has no other to swap with, a single class none that sounds elsewhere.
                        controls: list[Attack] = [Swap(every), Mute()] if sum(map(len, every)) > 1 else [Mute()]
                        if also:
                            controls.append(Noise())
                            if len({int(k) for b in every for k in b.label}) > 1:
                                controls.append(Elsewhere(every))
                        parts += [asked.under(c, ANYTHING.only(m), seed) for c in controls for m in parts_of_clips]
                    rows = Rows.concat(parts)
                    write_cell(self.out, name, cell, rows, here)
                else:
                    subject, doing = attacked(), f"{cell.attack_name} on {cell.threat}"
                    with left_out(self.record, f"{self.name}-{cell.key()}", config.name, seed, doing):
                        attack = cell.attack
                        if isinstance(attack, Transfer):
                            attack = replace(attack, model=source(attack.source))
                        rows = subject.under(attack, cell.threat, seed, sent=cell.sent)
                        write_cell(self.out, name, cell, rows, here)
                advance(cell.steps + 1)

    def about(self, trained: Trained, net: AVNet) -> dict[str, object]:
        """What run.json says of it; the probes are kept beside its weights."""
        kept, sha256 = self.folder / "about.json", weights_sha256(net)
        try:
            told = json.loads(kept.read_text())
        except (OSError, ValueError):
            told = {}
        if not isinstance(told, dict) or told.get("sha256") != sha256:
            told = {"sha256": sha256, "probe": probe(net, self.tested(self.study.attacked)[0])}
            if isinstance(net.feature_defense, Memory):
                told["memory"] = diagnosis(net, self.tested(self.study.attacked))
            write_json(kept, told)
        return about_model(self.config, trained) | told

    def tested(self, limit: int | None) -> list[Batch]:
        """The first `limit` test clips, or all of them."""
        study = self.study
        return [b.to(self.device) for b in batches(self.store, "test", study.view, study.batch, limit=limit)]

    def localisation(self) -> Localisation:
        """The boxes of the test clips as the models see them: of what sounds, and of a silent thing of its size."""
        store, shown = self.store, window(self.store.spec, self.study.view)

        def seen(id: str, box: Box | None) -> Box | None:
            kept = store.cropped(id, box) if box else None
            return box_in_window(kept, shown) if kept else None

        tested = {e.id: e for e in self.manifest.entries if e.split == "test" and e.id in store}
        return Localisation(
            boxes={id: seen(id, e.box) for id, e in tested.items()},
            rivals={id: seen(id, e.rival) for id, e in tested.items()},
        )

    def write_features(self, net: AVNet) -> None:
        """Both features of some test clips, and where t-SNE puts them, as one safetensors file."""
        path = self.out / "features" / f"{self.config.name}-{self.seed}.safetensors"
        if path.exists():
            return
        found, labels = [], []
        with torch.no_grad():
            for batch in self.tested(DRAWN):
                found.append(net.represent(batch.x).map(lambda f: f.float().cpu()))
                labels.append(batch.label.cpu())
        f = AV(*(torch.cat(parts) for parts in zip(*(tuple(f) for f in found), strict=True)))
        places = AV(*map(torch.from_numpy, embed(f.audio.numpy(), f.visual.numpy(), self.seed)))
        tensors = {"audio": f.audio, "visual": f.visual, "label": torch.cat(labels)}
        checkpoint.write(
            tensors | {f"tsne_{m}": xy for m, xy in places.items()},
            path,
            {"model": self.config.name, "seed": self.seed},
        )

    def _source(self, name: str) -> AVNet:
        """Another model of this run, from which adversarial clips are transferred."""
        config = next(c for c in self.study.models if c.name == name)
        return self._load(config, self._weights_of(name)).to(self.device)

    def _load(self, config: ModelConfig, path: Path) -> AVNet:
        """A network of this run, its feature defense from where the study's own settings of it are."""
        own = {
            type(c.feature_defense).__module__.partition(".")[0]
            for c in self.study.models
            if c.feature_defense is not None
        }
        if not path.exists():
            raise ValueError(f"it needs the weights of '{path.parent.name}', which failed")
        allow, net = sorted(own - {"__main__", "__mp_main__"}), None
        if config.network is not None:  # the checkpoint cannot say how to build it
            net = config.build(len(self.store.classes), self.seed)
            net.feature_defense = saving.rebuild(checkpoint.read_meta(path)["feature_defense"], allow)
        return load(path, net, allow=allow)[0]

    def _weights_of(self, name: str) -> Path:
        return weights_of(self.out, name, self.seed)


def weights_of(out: Path, name: str, seed: int) -> Path:
    """Where a run keeps a trained model's weights."""
    return out / "models" / f"{name}-{seed}" / "net.safetensors"


def network_name(config: ModelConfig) -> str | None:
    """The name of a user's own network; None for the package's."""
    return config.network if config.network is None or isinstance(config.network, str) else name_of(config.network)


def about_config(config: ModelConfig) -> dict[str, object]:
    """A model that is to be trained, as run.json tells of it."""
    return {
        "kind": config.modality, "fusion": None if config.network else config.fusion, "network": network_name(config), "recipe": config.recipe.name,
        "loss": display_name(config.loss), "feature_defense": config.feature_defense and type(config.feature_defense).__name__,
        "start": config.start, "role": config.role, "localises": config.localises,
    }  # fmt: skip


def about_model(config: ModelConfig, trained: Trained) -> dict[str, object]:
    """A trained model, as run.json tells of it."""
    best = trained.curve[trained.best_epoch - 1] if trained.curve else None
    return about_config(config) | {
        "parameters": count_parameters(trained.net),
        "seconds": round(trained.seconds, 1), "epochs": len(trained.curve), "best_epoch": trained.best_epoch,
        "val": best and best.val_accuracy,
        "curve": [asdict(e) for e in trained.curve],
    }  # fmt: skip
