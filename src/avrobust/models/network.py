"""What a network is, and the package's own: embed, feature defense, fuse, classify.  Knows no particular encoder, and no attack."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avrobust.config import name_of
from avrobust.models.fusion import Attention, Fusion
from avrobust.seeds import Seeds, stable_hash
from avrobust.types import AV, Batch, Signals

Modality = Literal["AV", "A", "V"]


class Spec(ABC):
    """How to build a network: a frozen dataclass of plain settings with these methods.

    A network that was built keeps its spec, completed by all that was fetched (`Network.spec`), and a checkpoint carries it.
    `classes` None: not known before the data are.
    """

    classes: int | None
    modality: Modality = "AV"  # what the network perceives
    localises: bool = False  # whether it has a heat map over the frame
    fine_tunes: bool = False  # whether all of its encoders start from pretrained weights, and train on
    visual_weights: str | None = None  # the pretrained weights that its visual encoder starts from

    @abstractmethod
    def build(self, seed: int) -> "Network":
        """The network with weights that depend on `seed` only, or with the pretrained weights that the spec names.

        The global random state is neither used nor changed.  Raises `OSError` where weights cannot be fetched.
        """

    @abstractmethod
    def rebuild(self) -> "Network":
        """Of a built network's spec: the same network, with weights yet to be loaded.  Fetches nothing."""

    @abstractmethod
    def for_clips(self, classes: int, rate: int) -> "Spec":
        """This network for clips of so many classes and samples a second."""

    @property
    def name(self) -> str | None:
        """Its name for display, where it is not one of the package's own."""
        return type(self).__name__


def refuse_few(classes: int | None) -> None:
    """Raise `ValueError` for a spec of fewer classes than two."""
    if classes is not None and classes < 2:
        raise ValueError(f"expected at least 2 classes, got {classes}. Pass the number of classes of the data.")


def known(classes: int | None) -> int:
    """The number of classes of a spec that is to be built."""
    if classes is None:
        raise ValueError(
            "expected a spec that says how many classes there are, got one without. Give classes=..., the number of "
            "classes of the data."
        )
    return classes


class Network(nn.Module):
    """An audio-visual model as training, defenses and checkpoints take it: signals to features, features to logits.

    `forward(x)` is `decide(feature_defense(embed(x)))`.  `feature_defense` is any module from features to features, an
    identity by default.  `AVNet` is the package's own network; `own.OwnNet` holds any other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.feature_defense: nn.Module = nn.Identity()
        self._spec: Spec | None = None
        self._parts: dict[str, str] = {}

    def built_by(self, spec: Spec) -> None:
        """Keep the spec: `spec.rebuild` makes this network again."""
        self._spec, self._parts = spec, parts(self)

    @property
    def spec(self) -> Spec | None:
        """How to build it again; None for a network that was put together by hand, or changed since it was built."""
        return self._spec if self._parts == parts(self) else None

    @property
    def classes(self) -> int | None:
        """The number of classes; None where the network does not say."""
        return None

    @property
    def encoders(self) -> AV[nn.Module] | None:
        """The encoder of each modality; None where the network does not show them."""
        return None

    @property
    def rate(self) -> int | None:
        """The samples a second of the clips that it takes; None where any rate will do."""
        return None

    def refuse_other_rate(self, rate: int) -> None:
        """Raise `ValueError` for clips of another rate than its front end takes: they would sound faster or slower."""
        if self.rate not in (None, rate):
            raise ValueError(
                f"expected clips of {self.rate} samples a second, which the network's front end takes, got clips of {rate}. "
                f"Prepare them at that rate (--clip.rate {self.rate}), or build the network with rate={rate}."
            )

    def embed(self, x: Signals) -> AV[Tensor]:
        """The features of each modality: (b d), or a map (b d t h w) for a fusion with spatial attention."""
        raise NotImplementedError

    def represent(self, x: Signals) -> AV[Tensor]:
        """The features behind the feature defense, from which the model decides."""
        f: AV[Tensor] = self.feature_defense(self.embed(x))
        return f

    def fuse_and_classify(self, f: AV[Tensor]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b k"]]:
        """The fused features of features as `represent` gives them, and the logits."""
        raise NotImplementedError

    def decide(self, f: AV[Tensor]) -> Float[Tensor, "b k"]:
        """Logits of features as `represent` gives them."""
        return self.fuse_and_classify(f)[1]

    def heat(self, f: AV[Tensor]) -> Float[Tensor, "b t h w"] | None:
        """Where it looks, for features as `represent` gives them: weights over the frame; None for a network that does not say."""
        return None

    def forward(self, x: Signals) -> Float[Tensor, "b k"]:
        """Logits of the clips."""
        return self.decide(self.represent(x))


def parts(net: Network) -> dict[str, str]:
    """The classes of a network's modules by name, without its feature defense."""
    defense = set(net.feature_defense.modules())
    return {name: name_of(type(module)) for name, module in net.named_modules() if module not in defense}


@contextmanager
def weights_drawn_by(seed: int) -> Iterator[None]:
    """Random weights that are made inside depend on `seed` only; the global random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stable_hash(seed, "network"))  # `torch.manual_seed` seeds GPUs too
        yield


class AVNet(Network):
    """An audio-visual model: one encoder per modality, a feature defense, a fusion, one linear layer.

    `forward(x)` is `classify(fuse(feature_defense(embed(x))))`; defenses and the attack engine work between these steps.
    An audio-only or visual-only network is the same class with an `Absent` encoder for the other modality.  The classifier
    starts from N(0, `classifier_std`) and zero bias.

    >>> from avrobust.models import NetSpec
    >>> net = NetSpec(classes=3, width=16).build(seed=0).eval()
    >>> x = AV(audio=torch.zeros(2, 4096), visual=torch.zeros(2, 1, 3, 32, 32))
    >>> net.embed(x).audio.shape, net(x).shape
    (torch.Size([2, 128]), torch.Size([2, 3]))
    """

    def __init__(self, encoders: AV[nn.Module], fusion: Fusion, classes: int, *, classifier_std: float = 1e-2) -> None:
        super().__init__()
        self.audio = encoders.audio
        self.visual = encoders.visual
        self.fusion = fusion
        self.classifier = nn.Linear(fusion.width, classes)
        nn.init.normal_(self.classifier.weight, std=classifier_std)
        nn.init.zeros_(self.classifier.bias)

    @property
    def classes(self) -> int:
        return self.classifier.out_features

    @property
    def encoders(self) -> AV[nn.Module]:
        """The encoder of each modality, with what a feature defense measures at its input."""
        own: AV[nn.Module] = AV(audio=self.audio, visual=self.visual)
        measures: AV[Measure] | None = getattr(self.feature_defense, "measures", None)
        return own if measures is None else own.map(Measured, measures)

    @property
    def rate(self) -> int | None:
        return getattr(self.audio, "rate", None)

    def embed(self, x: Signals) -> AV[Tensor]:
        return self.encoders.map(lambda encoder, signal: encoder(signal), x)

    def fuse(self, f: AV[Tensor]) -> Float[Tensor, "b d"]:
        """The fused features."""
        z: Tensor = self.fusion(f)
        return z

    def classify(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Logits of the fused features."""
        logits: Tensor = self.classifier(z)
        return logits

    def fuse_and_classify(self, f: AV[Tensor]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b k"]]:
        return (z := self.fuse(f)), self.classify(z)

    def heat(self, f: AV[Tensor]) -> Float[Tensor, "b t h w"] | None:
        """The attention weights for features as `represent` gives them; None for a fusion without attention."""
        return self.fusion.heat(f) if isinstance(self.fusion, Attention) else None


# (encoder, signal, its features) -> (b 1), what a feature defense needs to know of the signal itself.
Measure = Callable[[nn.Module, Tensor, Tensor], Float[Tensor, "b 1"]]


class Measured(nn.Module):
    """An encoder with a measurement at its input, in one more column: features (b d+1).

    So all that is done with features is done with it: an attack takes its gradient, and knows it of a stream that it leaves
    alone.  A feature defense whose `measures`, a pair of these, are not None gets such features, and returns (b d);
    `plain(features)` is (b d) as the encoders give them.
    """

    def __init__(self, encoder: nn.Module, measure: Measure) -> None:
        super().__init__()
        self.encoder, self.measure = encoder, measure

    def forward(self, signal: Float[Tensor, "b ..."]) -> Float[Tensor, "b d"]:
        """Features, and the measurement as their last column."""
        f = self.encoder(signal)
        return torch.cat([f, self.measure(self.encoder, signal, f).to(f.dtype)], 1)


class Absent(nn.Module):
    """The encoder of a modality that the network does not have: features of width 0."""

    width = 0

    def forward(self, signal: Float[Tensor, "b ..."]) -> Float[Tensor, "b 0"]:
        """Features of width 0, one row per clip."""
        return self.with_segments(signal)[0]

    def with_segments(self, signal: Float[Tensor, "b ..."]) -> tuple[Float[Tensor, "b 0"], Float[Tensor, "b 1 0"]]:
        """The same, of one segment."""
        return signal.new_zeros((len(signal), 0)), signal.new_zeros((len(signal), 1, 0))


# What training minimises: one number for the batch.  The seeds name the clips, for losses that draw random numbers.
# A loss may have two more methods: `at_progress(share)` is the loss when that share of the steps is done, in [0, 1), and
# `training_batch(net, batch, seeds)` is the batch that the loss trains on in the end, on which validation is made too.
Loss = Callable[[Network, Batch, Seeds], Tensor]


def loss_at_progress(loss: Loss, share: float) -> Loss:
    """The loss when this share of the steps is done; a loss that does not change is returned as it is."""
    changing: Callable[[float], Loss] | None = getattr(loss, "at_progress", None)
    return loss if changing is None else changing(share)


def training_batch(loss: Loss, net: Network, batch: Batch, seeds: Seeds) -> Batch:
    """The batch that the loss trains on; a loss that changes no clips gets the batch itself."""
    change: Callable[[Network, Batch, Seeds], Batch] | None = getattr(loss, "training_batch", None)
    return batch if change is None else change(net, batch, seeds)
