"""A study as a value: data, models, sweeps of attacks over threats, seeds.  Nothing runs here."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, get_args, runtime_checkable

from torch import nn

import avrobust
from avrobust.attacks import ANYTHING
from avrobust.attacks.base import at_rate
from avrobust.certificates import Certificate
from avrobust.config import digest
from avrobust.data.orchestra import Orchestra
from avrobust.data.source import Source
from avrobust.defenses.adaptation import Adaptation
from avrobust.evaluation.adapting import check_corruptions
from avrobust.evaluation.channels import Mp4, Sent
from avrobust.media import ClipSpec
from avrobust.models.network import Loss, Network, Spec
from avrobust.models.own import Factory, OwnSpec
from avrobust.models.zoo import NetSpec
from avrobust.objectives import display_name
from avrobust.report.paper import Paper
from avrobust.report.record import Role
from avrobust.sources import sources
from avrobust.threat import Threat
from avrobust.timing import Timed
from avrobust.training.recipe import Recipe, cross_entropy, usual
from avrobust.training.views import View
from avrobust.types import AV, Attack, Batch, Channel

CONCAT = NetSpec()


@runtime_checkable
class FeatureDefense(Protocol):
    """Settings of what stands between encoders and fusion: `fill` makes the module from a network and its clips."""

    def fill(self, net: Network, clips: Iterable[Batch], seed: int) -> nn.Module: ...


@dataclass(frozen=True)
class ModelConfig:
    """A model of the study: a network, the recipe that trains it, a loss and a feature defense.

    `network` is a spec: `NetSpec` of the package's own, `PairSpec` of two pretrained encoders, `OwnSpec` of yours.  A function
    or class that makes an `nn.Module` from `classes`, or its name "module:name", stands for `OwnSpec(it)`.  The number of
    classes, and the rate of the clips, are those of the study.

    `recipe` None is the usual one of its network.  With `start`, training goes on from that earlier model's weights, where both networks have them; its feature defense
    is not taken along.  `epochs` None is the recipe's own number; 0 does not train.  With `adaptation`, the network adapts itself to the clips
    that it meets; it can be measured under corruptions only.  `role` is what the report compares it as.

    >>> ModelConfig("Mine", "my_package:make_net").spec
    OwnSpec(factory='my_package:make_net', settings={}, modality='AV', classes=None)
    """

    name: str
    network: Spec | str | Factory = CONCAT
    recipe: Recipe | None = None
    loss: Loss = cross_entropy
    feature_defense: FeatureDefense | None = None
    start: str | None = None
    epochs: int | None = None
    role: Role | None = None
    adaptation: Adaptation | None = None

    def __post_init__(self) -> None:
        if self.name in ("", "..") or Path(self.name).name != self.name:  # its files are kept under it
            raise ValueError(
                f"expected a name of a model that a folder can have, got {self.name!r}. Give it one without a slash, "
                "such as 'without audio' for 'w/o audio'."
            )

    @property
    def spec(self) -> Spec:
        """How to build its network."""
        return self.network if isinstance(self.network, Spec) else OwnSpec(self.network)

    @property
    def trained_by(self) -> Recipe:
        """Its recipe, of any number of epochs."""
        return self.recipe or usual(self.spec)

    def build(self, classes: int, rate: int, seed: int) -> Network:
        """The network before it is trained, with weights that depend on `seed` only, for clips of `rate` samples a second.

        >>> type(ModelConfig("AV", NetSpec(width=16)).build(classes=11, rate=11025, seed=0)).__name__
        'AVNet'
        """
        return self.spec.for_clips(classes, rate).build(seed)


@dataclass(frozen=True)
class Sweep:
    """Each of `models` under each of `attacks` within each of `threats`; a certificate among the attacks has its own threat.

    With `sent`, adversarial and clean clips are also measured after each of these channels, such as compression.  Give
    attacks without early stopping then: a clip that just crosses the decision boundary is restored by any channel.

    >>> from avrobust.attacks import PGD
    >>> Sweep(models=("AV",), attacks=(PGD(),), threats=Threat.linf(audio=0.01, visual=0.01).subsets()).models
    ('AV',)
    """

    models: tuple[str, ...]
    attacks: tuple[Attack, ...]
    threats: tuple[Threat, ...]
    sent: tuple[Channel, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One model, one seed, one attack within one threat (no attack: clean clips): the unit that is computed and stored."""

    model: str
    seed: int
    attack: Attack | None
    threat: Threat
    sent: tuple[Channel, ...] = ()

    @property
    def attack_name(self) -> str:
        """The attack's display name."""
        return display_name(self.attack) if self.attack else "none"

    @property
    def title(self) -> str:
        """What progress calls it."""
        return f"{self.attack_name} {self.threat.subset}" if self.attack else "clean clips"

    @property
    def steps(self) -> int:
        """Gradient steps per clip: the cost of the cell, to first order."""
        return getattr(self.attack, "steps", 1) * getattr(self.attack, "restarts", 1) if self.attack else 0

    @property
    def code(self) -> dict[str, str]:
        """The version of this package, and the user's own modules behind the attack, with a digest of each."""
        return {"avrobust": avrobust.__version__} | sources(self.attack, self.sent)

    def key(self, *about: object) -> str:
        """The name of the cell's folder, a digest of all that its rows depend on; `about` are the weights and clips.

        The code is part of that: the version of this package, and the files of an attack of one's own.
        """
        return digest(self.model, self.seed, self.attack, self.threat, self.sent, about, self.code)


@dataclass(frozen=True)
class Study:
    """An experiment: models, sweeps of attacks, data and seeds.

    `clip` is what is prepared of each video, `view` the part that a model receives.  Clean accuracy is measured on all test
    clips, robust accuracy on the first `attacked` of them (None: all), the same for every model.  `epochs` replaces the
    length of a full training; shorter trainings change in proportion.  Each of `tables` is one table's threats, one per
    subset; each of `defenses` those of a table of fusions and defenses.  `showcase` is the threat of the report's gallery.
    `embedded` names the models whose features are drawn (Figure 5).  Without `title`, the report's title is the question
    and the data's name.  `section` names the section of the report that answers the question, where it is not integration.  `listed` are the numbers of train, val and test clips of a dataset that the user has to provide.
    `paper` is the paper that the study repeats, and `benchmark` the dataset whose printed numbers the report compares with:
    only where task and data are the paper's.
    """

    name: str
    title: str | None
    models: tuple[ModelConfig, ...]
    sweeps: tuple[Sweep, ...]
    showcase: Threat
    tables: tuple[tuple[Threat, ...], ...] = ()
    defenses: tuple[tuple[Threat, ...], ...] = ()
    embedded: tuple[str, ...] = ()
    data: Orchestra | Source = field(default_factory=Orchestra)
    clip: ClipSpec = field(default_factory=ClipSpec)
    view: View = field(default_factory=View)
    seeds: tuple[int, ...] = (0,)
    attacked: int | None = None
    epochs: int | None = None
    batch: int = 64
    question: str = "Does integration strengthen robustness?"
    section: str | None = None
    listed: tuple[int, int, int] | None = None
    paper: Paper | None = None
    benchmark: str | None = None

    def __post_init__(self) -> None:
        names = [c.name for c in self.models]
        if len(set(names)) != len(names):
            raise ValueError(f"models should have different names, got {names}.")
        if unknown := ({m for t in self.sweeps for m in t.models} | set(self.embedded)) - set(names):
            raise ValueError(f"sweeps name {sorted(unknown)}, which are not models; there are {names}.")
        for i, c in enumerate(self.models):
            for sweep in self.sweeps:
                if c.adaptation is not None and c.name in sweep.models:
                    check_corruptions(sweep.attacks)
                    check_corruptions(sweep.sent)
            if c.start is not None and c.start not in names[:i]:
                raise ValueError(
                    f"'{c.name}' starts from '{c.start}', which does not come before it; there are {names}."
                )
        for role in get_args(Role):
            if len(same := [c.name for c in self.models if c.role == role]) > 1:
                raise ValueError(f"expected one model or none with the role '{role}', got {same}. Give it to one.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"expected one seed or more, each once, got {self.seeds or 'none'}.")
        for what, number in (("epochs", self.epochs), ("attacked", self.attacked), ("batch", self.batch)):
            if number is not None and number < 1:
                raise ValueError(
                    f"expected {what} to be 1 or more, got {number}. Give a number from 1 on, or leave it out."
                )

    def recipe(self, config: ModelConfig) -> Recipe:
        """How a model is trained, for as many epochs as this study has it; one epoch at least.

        >>> from avrobust.study.selftest import study
        >>> short = replace(study, epochs=4)  # a whole training is 8 epochs of this recipe
        >>> [(c.name, short.recipe(c).epochs) for c in short.models if c.name in ("AV", "PCL")]
        [('AV', 4), ('PCL', 1)]
        """
        whole = config.trained_by
        own = whole.epochs if config.epochs is None else config.epochs
        return whole.for_epochs(own if self.epochs is None else max(1, round(own * self.epochs / whole.epochs)))

    def on(self, data: Orchestra | Source) -> "Study":
        """This study on these clips.  On others than its own, its title and the paper's numbers do not hold."""
        if isinstance(data, Orchestra) or isinstance(self.data, Orchestra):
            own = isinstance(data, Orchestra) and isinstance(self.data, Orchestra)
        else:  # a study that waits for a dataset is given where it lies
            own = data == self.data or (
                self.data.path is None and (data.dataset, data.classes) == (self.data.dataset, self.data.classes)
            )
        return replace(self, data=data) if own else replace(self, data=data, title=None, benchmark=None)

    def cells(self, model: str, seed: int) -> Iterator[Cell]:
        """The cells of one trained model: clean first, each once, attacks on what it does not perceive left out."""
        yield Cell(model, seed, None, Threat.linf())
        perceived = next(c.spec.modality for c in self.models if c.name == model)
        found: dict[tuple[str, bool], Cell] = {}  # one search serves all channels that its clips are sent through
        for sweep in self.sweeps:
            if model in sweep.models:
                attacks, sent = (tuple(map(self._at_rates, those)) for those in (sweep.attacks, sweep.sent))
                wanted = [Cell(model, seed, Sent(channel), ANYTHING.only(perceived)) for channel in sent]
                threats = [*map(self._timed, sweep.threats)]
                wanted += [
                    Cell(model, seed, attack, threat, sent)
                    for attack in attacks
                    for threat in ((attack.threat,) if isinstance(attack, Certificate) else threats)
                ]
                for cell in wanted:
                    if cell.threat.subset in perceived:
                        same = replace(cell, sent=()).key(), bool(cell.sent)
                        before = found[same].sent if same in found else ()
                        found[same] = replace(cell, sent=tuple(dict.fromkeys((*before, *cell.sent))))
        yield from found.values()

    def _timed(self, threat: Threat) -> Threat:
        """The threat, budgets in time at the rates of the study's clips."""
        rates = AV(audio=float(self.clip.rate), visual=self.view.frames * self.clip.rate / self.view.samples)
        return Threat(*threat.map(lambda b, rate: replace(b, rate=rate) if isinstance(b, Timed) else b, rates))

    def _at_rates(self, what: Any) -> Any:
        """An attack or a channel; those that must know how fast clips are played are told the study's own rates."""
        what = at_rate(what, self.clip.rate)
        if isinstance(what, Sent):
            return replace(what, channel=self._at_rates(what.channel))
        if isinstance(what, Mp4):
            return replace(what, fps=self.view.frames * self.clip.rate / self.view.samples)
        return what
