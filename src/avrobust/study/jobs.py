"""One model of a study with one seed: trained, attacked, examined.  What is finished is never computed again."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from avrobust import engine
from avrobust.attacks import ANYTHING, Elsewhere, Mute, Noise, Swap, Transfer
from avrobust.attacks.controls import Pool
from avrobust.config import digest, name_of
from avrobust.data.entry import Box
from avrobust.data.manifest import Manifest
from avrobust.data.store import Store, box_in_window
from avrobust.defenses import Memory, diagnosis, saving
from avrobust.evaluation.adapting import AdaptingEvaluator
from avrobust.evaluation.embedding import embed
from avrobust.evaluation.evaluator import Evaluator, Measure
from avrobust.evaluation.localisation import Localisation, baselines
from avrobust.evaluation.precision import fallbacks
from avrobust.evaluation.probe import probe
from avrobust.evaluation.schema import Rows
from avrobust.models.network import Network
from avrobust.models.own import OwnSpec
from avrobust.progress import part, track_progress
from avrobust.sources import sources
from avrobust.study import showcase
from avrobust.study.cells import cell_folder, compute_missing, unreadable
from avrobust.study.crafted import network_key, transferred
from avrobust.study.failures import left_out
from avrobust.study.plan import Cell, ModelConfig, Study
from avrobust.study.record import Notes, about_model, world, world_name
from avrobust.training import StoredBatches, Trained, View, batches, checkpoint, load, train, weights_sha256, window
from avrobust.training.state import finished
from avrobust.types import AV, Attack

Stage = Literal["training", "measuring"]
Measured = Evaluator | AdaptingEvaluator

DRAWN = 400  # test clips in a figure of features: more of them hide each other


@dataclass(frozen=True, eq=False)
class Job:
    """One model of a study with one seed, in a run: its files and what it is measured on.

    What it tells for run.json goes to `notes`.
    """

    study: Study
    config: ModelConfig
    seed: int
    out: Path
    manifest: Manifest
    store: Store
    device: torch.device
    progress: bool = True
    tracker: str | None = None
    notes: Notes = field(default_factory=Notes)

    @property
    def folder(self) -> Path:
        """The folder of its training."""
        return self._weights_of(self.config.name).parent

    @property
    def name(self) -> str:
        """The name of its folder, and of its failure."""
        return self.folder.name

    @property
    def first(self) -> bool:
        """Whether it stands for those of the other seeds, too, where the report shows one."""
        return self.seed == self.study.seeds[0]

    def run(self, stage: Stage) -> Notes:
        """Train or measure the model; a failure is noted, and the study goes on without it."""
        with left_out(self.notes, self.out, self.name, self.config.name, self.seed, f"{stage} it"):
            if stage == "training":
                with self.notes.timed(f"training {self.config.name}"):
                    self.train()
            else:
                self.examine()
        return self.notes

    def examine(self) -> None:
        """Attack the trained model, and show what it does."""
        study, name, notes = self.study, self.config.name, self.notes
        # The weights as they are on disk: a network that was just trained lies in memory in another layout,
        # and its last bits would differ from those of a run that was taken up again.
        net = self._load(self.config, path := self._weights_of(name)).to(self.device)
        places = localisation(self.manifest, self.store, study.view) if self.config.spec.localises else None
        with notes.timed(f"attacking {name}"):
            clean = self.measure(net, also=places)
            if self.first:
                notes.update(models={name: self.about(finished(path, net), net, clean)})
        if self.first and places:
            notes.update(baselines=baselines([box for box in places.boxes.values() if box]))
        if name in study.embedded:
            with notes.timed("features"):
                self.write_features(net, clean)
        if self.first:
            with notes.timed("showcase"), track_progress(f"drawing clips of {name}", 1, visible=self.progress), part(1):
                shown = showcase.Shown.of(net, self.tested(showcase.CANDIDATES), study.showcase, self.seed, self.store)
                if self.config == study.models[0]:
                    showcase.attacked(shown, self.out / "gallery", clean)
                if places:
                    showcase.located(shown, places, self.out / "strips" / name, clean)

    def train(self) -> None:
        """Train the model; a training that was interrupted goes on."""
        study, config = self.study, self.config
        if config.epochs == 0:
            checkpoint.save(self.start(), self._weights_of(config.name), {"curve": [], "best_epoch": 0, "seconds": 0.0})
            return
        if not self._weights_of(config.name).exists():
            self._note_world()
        train(
            self.start(), self.store, study.recipe(config), view=study.view, loss=config.loss,
            out=self.folder, seed=self.seed, progress=self.progress, tracker=self.tracker,
            device=self.device,
        )  # fmt: skip

    def start(self) -> Network:
        """The network that its training starts from: new, or an earlier model's; with its feature defense filled."""
        study, config = self.study, self.config
        net = self._new(config)
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
            kept, defense = self.folder / "start.safetensors", config.feature_defense
            # Without the version of this package, as a training: what is trained from it would be another's.
            key = digest(
                network_key(net), self.store.sha256, study.view, study.batch, defense, sources(defense), self.seed
            )
            if kept.exists() and checkpoint.read_meta(kept).get("key") == key:
                return self._load(config, kept)
            clips = batches(self.store, "train", study.view, study.batch)
            net.feature_defense = defense.fill(net.eval(), clips, self.seed)
            checkpoint.save(net, kept, {"key": key})
        return net

    def measure(self, net: Network, *, also: Measure | None = None) -> str:
        """Compute the missing cells of the trained network; returns the key of its clean one, which says all that it is."""
        study, name, seed = self.study, self.config.name, self.seed
        source = cache(self._source)
        attacked = cache(lambda: self._evaluator(net, study.attacked, also))

        def rows_of(cell: Cell) -> Rows | None:
            if cell.attack is None:
                return self._clean(cell, net, also, attacked)
            failing, attack = f"{cell.attack_name} on {cell.threat}", cell.attack
            with left_out(self.notes, self.out, self._failure(cell), name, seed, failing):
                if isinstance(attack, Transfer):
                    attack = transferred(attack, source(attack.source), self.out, cell.code)
                return attacked().under(attack, cell.threat, seed, sent=cell.sent)
            return None

        cells = self._keyed(net, also, source)
        compute_missing(
            self.out, cells, rows_of, self.notes,
            title=f"attacking {name} (seed {seed})", world=cache(self._note_world), visible=self.progress,
        )  # fmt: skip
        return next(key for key, cell in cells.items() if cell.attack is None)

    def _evaluator(self, net: Network, limit: int | None, also: Measure | None) -> Measured:
        """What measures the network on the first `limit` test clips, or all of them."""
        clips, adaptation = self.tested(limit), self.config.adaptation
        if adaptation is not None:
            return AdaptingEvaluator(net, clips, adaptation, name=self.config.name)
        return Evaluator(net, clips, name=self.config.name, also=also, rate=self.store.spec.rate)

    def _note_world(self) -> str:
        """Tell on which machine this is computed; the short name of that."""
        here = world(self.device)
        self.notes.update(worlds={(name := world_name(here)): here})
        return name

    def _keyed(self, net: Network, also: Measure | None, source: Callable[[str], Network]) -> dict[str, Cell]:
        """The cells of the model by the names of their folders: all that their rows depend on is in these."""
        study = self.study
        about = [
            network_key(net), self.store.sha256, study.view, study.attacked, study.batch, also, self.config.adaptation,
        ]  # fmt: skip

        def key(cell: Cell) -> str:
            if not isinstance(cell.attack, Transfer):
                return cell.key(*about)
            if not self._weights_of(cell.attack.source).exists():
                return cell.key(*about, None)  # its source failed, and so will it
            return cell.key(*about, network_key(source(cell.attack.source)))

        return {key(cell): cell for cell in study.cells(self.config.name, self.seed)}

    def _failure(self, cell: Cell) -> str:
        """The name under which a failure of this cell is recorded, whatever weights it had."""
        return f"{self.name}-{cell.key()}"

    def _clean(self, cell: Cell, net: Network, also: Measure | None, attacked: Callable[[], Measured]) -> Rows:
        """Rows of all clean test clips, of unreadable ones, and of controls: predictions and heat maps should follow the clip."""
        # Not kept for the other cells: its clips may be many more than the attacked ones.
        everyone = self._evaluator(net, None, also)
        parts = [everyone.clean(self.seed), unreadable(self.store, cell)]
        if self.config.spec.modality == "AV" and self.config.adaptation is None:
            parts += controls(
                everyone if also else attacked(), self.tested(None), self.seed, localises=also is not None
            )
        try:
            facts = self._facts(net) if self.first else None
        except Exception:  # predictions do not wait for probes: `about` asks again, and says why there are none
            facts = None
        return Rows.concat(parts, facts)

    def _facts(self, net: Network) -> dict[str, Any]:
        """What the rows cannot state about the model."""
        clips, name = self.tested(self.study.attacked), self.config.name
        batch = next(iter(clips))
        victim = engine.as_victim(net, batch.x.map(lambda s: s[:1]))
        memories = {name: diagnosis(net, clips)} if isinstance(net.feature_defense, Memory) else {}
        return {"probes": {name: probe(net, batch) | fallbacks(victim)}, "memories": memories}

    def about(self, trained: Trained, net: Network, clean: str) -> dict[str, object]:
        """The model for run.json; its clean cell keeps the facts."""
        kept = cell_folder(self.out, clean) / "rows.parquet"
        rows = Rows.load(kept)
        if not rows.about.get("probes"):
            rows = replace(rows, about={**rows.about, **self._facts(net)})
            rows.save(kept)
        told = {
            one: rows.about[many][self.config.name]
            for one, many in (("probe", "probes"), ("memory", "memories"))
            if self.config.name in rows.about.get(many, {})
        }
        return about_model(self.config, trained) | {"sha256": weights_sha256(trained.net)} | told

    def tested(self, limit: int | None) -> StoredBatches:
        """The first `limit` test clips, or all of them."""
        study = self.study
        return StoredBatches(self.store, "test", study.view, study.batch, limit, self.device)

    def write_features(self, net: Network, key: str) -> None:
        """Both features of some test clips, and where t-SNE puts them, as one safetensors file, made once for a `key`."""
        path = self.out / "features" / f"{self.config.name}-{self.seed}.safetensors"
        if path.exists() and checkpoint.read_meta(path).get("key") == key:
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
            {"model": self.config.name, "seed": self.seed, "key": key},
        )

    def _source(self, name: str) -> Network:
        """Another model of this run, from which adversarial clips are transferred."""
        config = next(c for c in self.study.models if c.name == name)
        return self._load(config, self._weights_of(name)).to(self.device)

    def _load(self, config: ModelConfig, path: Path) -> Network:
        """A network of this run; its own code is allowed where the study's own settings of it are."""
        if not path.exists():
            raise ValueError(f"it needs the weights of '{path.parent.name}', which failed")
        own = {name_of(type(c.feature_defense)) for c in self.study.models if c.feature_defense is not None}
        own |= {c.spec.name for c in self.study.models if isinstance(c.spec, OwnSpec)}
        allow = sorted({name.partition(":")[0].partition(".")[0] for name in own} - {"__main__", "__mp_main__"})
        net, meta = None, checkpoint.read_meta(path)
        if meta.get("spec") is None:  # of a factory that has no name
            net = self._new(config)
            net.feature_defense = saving.rebuild(meta["feature_defense"], allow)
        return load(path, net, allow=allow)[0]

    def _new(self, config: ModelConfig) -> Network:
        """The network before it is trained."""
        return config.build(len(self.store.classes), self.store.spec.rate, self.seed)

    def _weights_of(self, name: str) -> Path:
        return weights_of(self.out, name, self.seed)


def controls(evaluator: Measured, pool: Pool, seed: int, *, localises: bool) -> list[Rows]:
    """Rows of the clips of `evaluator` with a modality replaced: predictions and heat maps should follow the clip."""
    # A single clip has no other to swap with; clips of a single class, none with another source.
    tried: list[Attack] = [Swap(pool), Mute()] if len(pool.ids) > 1 else [Mute()]
    if localises:
        tried.append(Noise())
        if len(set(pool.labels)) > 1:
            tried.append(Elsewhere(pool))
    return [evaluator.under(c, ANYTHING.only(m), seed) for c in tried for m in ("A" if localises else "AV")]


def localisation(manifest: Manifest, store: Store, view: View, split: str = "test") -> Localisation:
    """The boxes of the clips of a split as models see them: of what sounds, and of a silent thing of its size."""
    shown = window(store.spec, view)

    def seen(id: str, box: Box | None) -> Box | None:
        kept = store.cropped(id, box) if box else None
        return box_in_window(kept, shown) if kept else None

    tested = {e.id: e for e in manifest.entries if e.split == split and e.id in store}
    return Localisation(
        boxes={id: seen(id, e.box) for id, e in tested.items()},
        rivals={id: seen(id, e.rival) for id, e in tested.items()},
    )


def weights_of(out: Path, name: str, seed: int) -> Path:
    """Where a run keeps a trained model's weights."""
    return out / "models" / f"{name}-{seed}" / "net.safetensors"
