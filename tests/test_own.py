"""A user's own network: built by its factory, saved by its name, loaded where that is allowed; what it lacks is said."""

import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

from avrobust import AV, Seeds, engine
from avrobust.config import from_plain, to_plain
from avrobust.defenses import MIN_SIM, PCL, Centres, ExFMem, Prototypes, WeightsAttacked
from avrobust.models import OwnNet, OwnSpec
from avrobust.models.own import imported
from avrobust.study import ModelConfig
from avrobust.study.checks import rehearsed
from avrobust.training import CheckpointError, Recipe, TrainingError, load, save, train
from avrobust.training.recipe import cross_entropy
from nets import clips
from own_study import TwoStreams, of_audio
from test_hf import BRIEF, Clips, View
from their_defense import Faded

STRANGERS = """
from torch import nn
from own_study import TwoStreams

ran = []

def make(classes, width=4):
    ran.append(classes)
    return TwoStreams(classes, width)
"""


class Shown(TwoStreams):
    """Two streams that show their encoders, take one rate of clips, and say what they fuse."""

    rate = Clips.spec.rate

    @property
    def encoders(self) -> nn.ModuleDict:
        return nn.ModuleDict({"audio": self.ear, "visual": self.eye})

    def fuse(self, f: AV) -> torch.Tensor:
        return f.audio * f.visual

    def classify(self, z: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([z, z], 1))

    def decide(self, f: AV) -> torch.Tensor:
        return self.classify(self.fuse(f))


def x(n: int = 3) -> AV[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return AV(torch.rand(n, 400, generator=g) - 0.5, torch.rand(n, 2, 3, 16, 16, generator=g))


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """The name of a factory in a module that lies in a folder of its own, and a checkpoint of its network."""
    (tmp_path / "strangers_net.py").write_text(STRANGERS)
    monkeypatch.syspath_prepend(tmp_path)
    net = OwnSpec("strangers_net:make", {"width": 6}, classes=5).build(seed=3).eval()
    net.feature_defense = Faded(0.5)
    save(net, path := tmp_path / "net.safetensors", {})
    yield net, path
    sys.modules.pop("strangers_net", None)


def test_a_network_comes_back_where_its_factory_is_allowed(strangers):
    net, path = strangers
    assert to_plain(net.spec) == to_plain(from_plain(to_plain(net.spec)))
    ran = sys.modules["strangers_net"].ran
    ran.clear()
    for allow in ((), ("strangers",), ("their_defense",)):  # imported already, the beginning of a name, another
        with pytest.raises(CheckpointError, match=r"a network whose factory may be run, got 'strangers_net:make'.*allow=\('strangers_net',\), or --allow strangers_net") as refused:  # fmt: skip
            load(path, allow=allow)
        assert str(refused.value).startswith(f"{path}: expected") and not ran
    back, _ = load(path, allow=("strangers_net",))
    assert torch.equal(back(x()), net(x())) and back.spec == net.spec
    assert isinstance(engine.as_victim(back, x()), engine.TwoStream)


@pytest.mark.parametrize("told", [{"function": "strangers_net:make"}, {"function": "avrobust.models.own:imported"}, "os:system", "avrobust.models.own:imported"], ids=str)  # fmt: skip
def test_a_stranger_s_factory_is_not_run_in_any_disguise(strangers, tmp_path, told):
    from safetensors.torch import load_file, save_file

    from avrobust.training import checkpoint

    meta = checkpoint.read_meta(strangers[1])
    meta["spec"]["factory"] = told
    save_file(load_file(strangers[1]), path := tmp_path / "x.safetensors", {"avrobust": checkpoint.json.dumps(meta)})
    with pytest.raises(CheckpointError, match="expected a network whose factory may be run"):
        load(path, allow=("their_defense",))


def test_a_factory_without_a_name_gives_weights_alone(tmp_path):
    for factory in (lambda classes: TwoStreams(classes), type("Local", (TwoStreams,), {})):
        net = OwnSpec(factory, classes=3).build(0).eval()
        assert net.spec is None
        save(net, path := tmp_path / "net.safetensors", {})
        with pytest.raises(CheckpointError, match="got weights alone"):
            load(path)
        assert load(path, OwnSpec(factory, classes=3).build(1))[0](x()).equal(net(x()))
    for settings in ({"width": object()}, {"width": torch.ones(1)}):
        assert not OwnSpec(TwoStreams, settings)._is_plain()
    changed = OwnSpec(TwoStreams, classes=3).build(0)
    changed.network.ear[1] = nn.GELU()
    assert changed.spec is None


class Shared(TwoStreams):
    """Both streams end in one layer, under two names; another layer is never used."""

    def __init__(self, classes):
        super().__init__(classes)
        self.last = self.first = nn.Linear(32, 32)
        self.unused = nn.Linear(2, 2)

    def embed(self, x):
        f = super().embed(x)
        return AV(self.first(f.audio), self.last(f.visual))


@pytest.mark.parametrize("loss", [cross_entropy, WeightsAttacked(cross_entropy)])
def test_layers_that_share_weights_are_trained_and_saved(tmp_path, loss):
    net, view = OwnSpec(Shared, classes=4).build(0), View(4000, 2, 40)
    trained = train(net, Clips(), BRIEF, view=view, out=tmp_path, seed=0, loss=loss, progress=False, save_every_s=0.0)
    again = load(trained.path, allow=("test_own",))[0]
    assert again.network.last.weight is again.network.first.weight
    assert again(x()).equal(trained.net(x()))


def fails(classes):
    raise KeyError("no such layer")


def gives_a_list(classes):
    return [TwoStreams(classes)]


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (
            fails,
            r"expected test_own:fails\(classes=2\) to make a torch.nn.Module, got KeyError: 'no such layer' Call it",
        ),
        (gives_a_list, "to make a torch.nn.Module, got a list. Return the network itself"),
        ("nowhere:make", "expected module:name with the module in the working directory.*got 'nowhere:make'"),
        ("own_study:nothing", "got 'own_study:nothing'.*Check both names"),
        (lambda depth: None, r"got TypeError: .*unexpected keyword argument 'classes'"),
    ],
    ids=["raises", "returns something else", "no module", "no name", "takes no classes"],
)
def test_a_factory_that_makes_no_network(factory, says):
    with pytest.raises(ValueError, match=f"(?s){says}"):
        rehearsed(ModelConfig("Mine", factory).spec.for_clips(2, 8000), 0, Clips.spec, View(4000, 2, 40))


def test_a_network_that_fails_on_a_clip_is_refused_before_any_clip_is_made():
    def narrow(classes):
        return nn.Sequential(nn.Linear(3, classes))

    with pytest.raises(
        ValueError, match=r"expected a network that answers a clip of View\(.*got TypeError.*Change the view"
    ):
        rehearsed(OwnSpec(narrow, classes=2), 0, Clips.spec, View(4000, 2, 40))


def test_encoders_learn_at_their_own_rates_and_another_rate_of_clips_is_refused(tmp_path):
    own = OwnSpec(Shown, {"width": 4}, classes=4).build(0)
    recipe = Recipe(lr=AV(audio=1e-3, visual=2e-3), lr_head=3e-3)
    found = {group["peak"]: [*map(id, group["params"])] for group in recipe.build_optimizer(own).param_groups}
    parts = {1e-3: own.network.ear, 2e-3: own.network.eye, 3e-3: own.network.head}
    assert found == {rate: [*map(id, part.parameters())] for rate, part in parts.items()}
    hidden = OwnSpec(TwoStreams, classes=4).build(0)
    assert [group["peak"] for group in recipe.build_optimizer(hidden).param_groups] == [3e-3]
    for rate in (44_100, 44.1e3, np.int64(44_100)):
        own.network.rate = rate
        with pytest.raises(ValueError, match=r"expected clips of 44100 samples a second, .* got clips of 8000"):
            train(own, Clips(), BRIEF, view=View(4000, 2, 40), out=tmp_path, seed=0)
    with pytest.raises(TrainingError, match="got one for 3"):
        train(OwnSpec(TwoStreams, classes=3).build(0), Clips(), BRIEF, view=View(4000, 2, 40), out=tmp_path, seed=0)


@pytest.mark.parametrize("kind", [TwoStreams, Shown])
def test_pcl_takes_the_fused_features_or_both_side_by_side(kind):
    net, batch = OwnSpec(kind, {"width": 2}, classes=4).build(0), clips(6)
    batch = type(batch)(x(6), batch.label, batch.ids)
    net.feature_defense = Prototypes().fill(net.eval(), [batch], 0)
    f = net.embed(batch.x)
    z = f.audio * f.visual if kind is Shown else torch.cat([*f], 1)
    assert isinstance(net.feature_defense, Centres) and net.feature_defense.centres.shape == (4, z.shape[1])
    net.feature_defense.begun.fill_(1)
    loss = PCL(attract=0.5, repel=0.0)(net, batch, Seeds(0, batch.ids))
    plain = cross_entropy(net, batch, Seeds(0, batch.ids))
    torch.testing.assert_close(loss - plain, 0.5 * z.square().sum(1).mean())  # the centres lie at 0


def test_what_a_network_lacks_is_said():
    block, seeds = OwnSpec(of_audio, classes=4).build(0).eval(), Seeds(0, clips(2).ids)
    batch = type(clips(2))(x(2), clips(2).label, clips(2).ids)
    for ask in (
        lambda: MIN_SIM(block, batch, seeds),
        lambda: ExFMem(columns=2).fill(block, [batch], 0),
        lambda: Prototypes().fill(block, [batch], 0),
    ):
        with pytest.raises(AttributeError, match=r"expected a network with embed\(\) .*got Block without.*Add it"):
            ask()
    with pytest.raises(AttributeError, match="expected a network with a part named classifier"):
        _ = block.classifier
    block.feature_defense = Faded(0.5)
    with pytest.raises(AttributeError, match=re.escape("embed() and decide()")):  # rather than passed by
        block(batch.x)
    assert isinstance(block, OwnNet) and imported("own_study:of_audio") is of_audio
