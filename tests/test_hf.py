"""Pairs of `transformers` models as two-stream networks: tiny ones with random weights, and from folders."""

import shutil
import warnings
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
import transformers as hf

import avrobust as avr
from avrobust import AV, Batch, engine
from avrobust.defenses import MIN_SIM, PCL, Prototypes
from avrobust.media import ClipSpec
from avrobust.media.decode import Clip
from avrobust.models import PairSpec, pair
from avrobust.study import ModelConfig
from avrobust.study.checks import rehearsed
from avrobust.training import FINE_TUNE, CheckpointError, Recipe, TrainingError, View, load, save, train
from avrobust.training.recipe import OURS, usual

RATE = 8_000
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SMALL = {"size": {"height": 32, "width": 32}}
SWIN = {"patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 32}
WAVES = {"conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_feat_extract_layers": 2} | {
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2
}  # fmt: skip


def pil(name: str):
    """The processor that needs no torchvision."""
    return getattr(hf, f"{name}Pil", None) or getattr(hf, name)


def ast():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some filters hold no frequency
        return hf.ASTConfig(**TINY, max_length=64), hf.ASTFeatureExtractor(max_length=64)


def wav2vec2():
    return hf.Wav2Vec2Config(**TINY, **WAVES), hf.Wav2Vec2FeatureExtractor()


def hubert():
    return hf.HubertConfig(**TINY, **WAVES), hf.Wav2Vec2FeatureExtractor(do_normalize=False)


def clap(fusion: bool = False):
    """One tower of a model of two modalities, which no configuration names alone."""
    audio = {"spec_size": 64, "num_mel_bins": 16, "window_size": 2, "patch_size": 4, "patch_stride": [4, 4], **SWIN}
    text = {**TINY, "vocab_size": 8, "projection_dim": 16}
    config = hf.ClapConfig(audio_config={**audio, "enable_fusion": fusion, "projection_dim": 16}, text_config=text)
    processor = hf.ClapFeatureExtractor(
        feature_size=16, max_length_s=1, truncation="fusion" if fusion else "rand_trunc", sampling_rate=16_000
    )
    return config, processor


def whisper():
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = hf.WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, **heads, max_source_positions=50, vocab_size=8, pad_token_id=0
    )
    return config, hf.WhisperFeatureExtractor(chunk_length=1)


def vit():
    return hf.ViTConfig(**TINY, image_size=32), pil("ViTImageProcessor")(**SMALL)


def clip():
    text = {**TINY, "vocab_size": 8}
    vision = {**TINY, "image_size": 32, "patch_size": 16}
    return hf.CLIPConfig(text_config=text, vision_config=vision), pil("CLIPImageProcessor")(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )


def siglip():
    return hf.SiglipVisionConfig(**TINY, image_size=32, patch_size=16), pil("SiglipImageProcessor")(**SMALL)


def dinov2():
    return hf.Dinov2Config(**TINY, image_size=28, patch_size=14), pil("BitImageProcessor")(
        size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}
    )


def resnet():
    config = hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return config, pil("ConvNextImageProcessor")(size={"shortest_edge": 32})


def videomae():
    return hf.VideoMAEConfig(**TINY, image_size=32, num_frames=4), pil("VideoMAEImageProcessor")(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )


PAIRS = {
    "ast-vit": (ast, vit),
    "wav2vec2-clip": (wav2vec2, clip),
    "hubert-siglip": (hubert, siglip),
    "clap-dinov2": (clap, dinov2),
    "clap_fusion-vit": (lambda: clap(fusion=True), vit),
    "whisper-resnet": (whisper, resnet),
    "ast-videomae": (ast, videomae),
}


def made(name: str, **settings):
    (audio, listens), (visual, looks) = (tiny() for tiny in PAIRS[name])
    return pair(audio, visual, classes=4, rate=RATE, processors=AV(listens, looks), **settings)


def clips(n: int = 4) -> Batch:
    """Half a second of noise, of its own loudness and pitch each, and six frames."""
    g = torch.Generator().manual_seed(0)
    wave = (torch.rand(n, RATE // 2, generator=g) - 0.5) * torch.linspace(0.2, 1, n)[:, None]
    frames = torch.rand(n, 6, 3, 40, 48, generator=g) * 0.5 + torch.linspace(0, 0.5, n).view(-1, 1, 1, 1, 1)
    return Batch(AV(audio=wave, visual=frames), torch.arange(n) % 4)


BRIEF = Recipe(epochs=1, batch=4, precision="float32", channels_last=False)  # the layout that a file has


class Clips:
    """Four clips to train on and two to validate on."""

    spec = ClipSpec(seconds=0.5, rate=RATE, fps=12.0, size=40)
    classes = ("a", "b", "c", "d")

    def ids(self, split: str) -> tuple[str, ...]:
        return {"train": ("0", "1", "2", "3"), "val": ("4", "5"), "test": ()}[split]

    def label(self, id: str) -> int:
        return int(id) % 4

    def __getitem__(self, id: str) -> Clip:
        g = np.random.default_rng(int(id))
        frames = g.integers(0, 255, (self.spec.frames, 40, 40, 3), np.uint8)
        return Clip(g.uniform(-0.5, 0.5, self.spec.samples).astype(np.float32), frames, (0.0, 0.0, 1.0, 1.0), ())


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_trained_saved_loaded_and_attacked_as_two_streams(name, tmp_path, monkeypatch):
    trained = train(made(name), Clips(), BRIEF, view=View(RATE // 2, 4, 40), out=tmp_path, seed=0, progress=False)
    monkeypatch.setattr("avrobust.models.encoder.fetch", lambda *_: pytest.fail("something was fetched"))
    net, _ = load(trained.path)
    batch = clips()
    assert net.spec == trained.net.spec and (net.classes, net.rate) == (4, RATE)
    assert torch.equal(net(batch.x), trained.net(batch.x))
    assert torch.equal(net(batch.x), net.decide(net.embed(batch.x)))
    threat = avr.Threat.linf(audio=0.02, visual="8/255")
    victim = engine.as_victim(net, batch.x)
    assert isinstance(victim, engine.TwoStream)
    _, grad = engine.gradient(engine.surrogate(net, batch.x), avr.objectives.margin, batch.x, batch.label, threat)
    for g in grad:
        assert (g.flatten(1).abs().amax(1) > 0).all()  # reaches every clip, in both modalities
    frames: list[int] = []
    net.visual.register_forward_hook(lambda *_: frames.append(1))
    avr.PGD(steps=3)(victim, batch.x, batch.label, threat.only("A"), avr.Seeds(0, batch.ids))
    assert len(frames) == 1  # the stream that is not attacked is computed once


@pytest.mark.parametrize("name", PAIRS)
def test_a_clip_does_not_depend_on_its_batch(name):
    net, x = made(name).eval(), clips().x
    alone = torch.cat([net(x.map(lambda s, i=i: s[i : i + 1])) for i in range(4)])
    torch.testing.assert_close(net(x), alone, rtol=1e-4, atol=1e-6)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = made("ast-vit", seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = made("ast-vit", seed=3).state_dict(), made("ast-vit", seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_frozen_encoders_stay_as_they_are():
    net, x = made("whisper-resnet", frozen=True, fusion="gated-concat").train(), clips().x
    assert not any(p.requires_grad for encoder in net.encoders for p in encoder.parameters())
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net(x).sum().backward()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())  # BatchNorm's too
    assert net.classifier.weight.grad.any() and net.fusion.from_audio.weight.grad.any()


def test_an_encoder_gives_what_its_model_makes_of_its_processor():
    _, processor = clip()
    net = made("wav2vec2-clip").eval()
    frames = (clips(1).x.visual * 255).round() / 255
    images = [(frame.permute(1, 2, 0) * 255).byte().numpy() for frame in frames[0]]
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = net.visual.backbone(pixel_values=pixels).pooler_output.mean(0)
        torch.testing.assert_close(net.visual(frames)[0], expected, rtol=0, atol=0.02)


def test_from_folders(tmp_path):
    """With their weights and processors, as `save_pretrained` leaves them; a pooler without weights is not used."""
    (audio, listens), (visual, looks) = wav2vec2(), vit()
    ears, eyes = hf.Wav2Vec2Model(audio), hf.ViTModel(visual, add_pooling_layer=False)
    for model, processor, name in ((ears, listens, "ears"), (eyes, looks, "eyes")):
        model.save_pretrained(tmp_path / name)
        processor.save_pretrained(tmp_path / name)
    net = pair(tmp_path / "ears", str(tmp_path / "eyes"), classes=4, rate=RATE).eval()
    assert not net.visual.pooled and net.audio.pooled
    for mine, theirs in ((net.audio, ears), (net.visual, eyes)):
        assert all(torch.equal(value, mine.backbone.state_dict()[key]) for key, value in theirs.state_dict().items())
    same = pair(ears, eyes, classes=4, rate=RATE, processors=AV(listens, looks)).eval()
    same.visual.pooled = False
    for found, expected in zip(net.embed(clips().x), same.embed(clips().x), strict=True):
        assert torch.equal(found, expected)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> AV[str]:
    """Tiny encoders with random weights and their processors, as `save_pretrained` leaves them."""
    at, found = tmp_path_factory.mktemp("encoders"), {}
    for name, tiny in (("audio", ast), ("visual", vit)):
        config, processor = tiny()
        hf.AutoModel.from_config(config).save_pretrained(found.setdefault(name, at / name))
        processor.save_pretrained(at / name)
    return AV(str(at / "audio"), str(at / "visual"))


def test_a_pair_of_a_study_takes_classes_and_rate_from_the_clips(folders):
    asked = PairSpec(*folders)
    assert (usual(asked), usual(replace(asked, frozen=True))) == (FINE_TUNE, OURS)
    net = ModelConfig("AST+ViT", network=asked).build(classes=4, rate=RATE, seed=1)
    assert (net.classes, net.rate, net.spec.audio) == (4, RATE, folders.audio)
    state = net.state_dict()
    again = replace(asked, classes=4, rate=RATE).build(seed=1)
    assert all(torch.equal(state[key], value) for key, value in again.state_dict().items())
    with pytest.raises(
        ValueError, match=r"expected clips of 16000 samples a second.*got clips of 8000.*Leave rate out"
    ):
        ModelConfig("AST+ViT", replace(asked, rate=16_000)).build(classes=4, rate=RATE, seed=0)
    with pytest.raises(TrainingError, match="classes of the data, got one for 3"):
        wrong = replace(asked, classes=3, rate=RATE).build(0)
        train(wrong, Clips(), BRIEF, view=View(RATE // 2, 1, 40), out="no", seed=0, progress=False)
    with pytest.raises(
        ValueError, match=r"expected clips of 16000 samples a second, .* got clips of 8000\. .*rate=8000"
    ):
        other = replace(asked, classes=4, rate=16_000).build(0)
        train(other, Clips(), BRIEF, view=View(RATE // 2, 1, 40), out="no", seed=0, progress=False)


@dataclass(frozen=True)
class Watched:
    """A loss that notes whether the encoders learn."""

    loss: PCL
    seen: list[bool] = field(default_factory=list, init=False, compare=False)

    def __call__(self, net, batch, seeds):
        assert net.audio.backbone.training == any(p.requires_grad for p in net.audio.parameters())
        self.seen.append(any(p.requires_grad for p in net.audio.parameters()))
        return self.loss(net, batch, seeds)


def test_fine_tuning_begins_with_the_head(folders, tmp_path):
    """Then all weights learn, the encoders' at their own rate; losses and defenses on features fit as well."""
    net, loss = PairSpec(*folders, classes=4, rate=RATE).build(0), Watched(PCL())
    before = {name: t.clone() for name, t in net.state_dict().items()}
    net.feature_defense = Prototypes().fill(net, [clips()], 0)
    groups = FINE_TUNE.build_optimizer(net).param_groups
    assert [group["peak"] for group in groups] == [2e-5, 2e-5, 2e-3]
    assert [len(group["params"]) for group in groups[:2]] == [len([*e.parameters()]) for e in net.encoders]
    at = {"view": View(RATE // 2, 1, 40), "out": tmp_path, "seed": 0, "progress": False}
    after = train(net, Clips(), replace(FINE_TUNE, epochs=3, batch=4), loss=loss, **at).net.state_dict()
    assert loss.seen == [False, False, True] and all(p.requires_grad for p in net.parameters())
    best = load(tmp_path / "net.safetensors")[1]["best_epoch"]
    moved = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == ({"classifier"} if best < 3 else {"audio", "visual", "classifier"})
    assert MIN_SIM(net, clips(), avr.Seeds(0, clips().ids)).requires_grad


def test_a_network_of_one_s_own_begins_with_the_head_if_it_shows_its_encoders(tmp_path):
    class Bare(torch.nn.Module):
        def forward(self, x):
            return x.audio[:, :4]

    own = avr.models.OwnNet(Bare(), 4)
    with pytest.raises(TrainingError, match=r"expected a network with `encoders` for the recipe 'fine-tune'"):
        train(own, Clips(), FINE_TUNE, view=View(), out=tmp_path, seed=0)


def hostile():
    yield "another type", lambda e: e["config"].update(model_type="deepseek_vl"), "expected a model of type"
    yield "code of the hub", lambda e: e["config"].update(auto_map={"AutoModel": "evil/repo--code.Model"}), "the settings of a audio.* among them"  # fmt: skip
    yield (
        "a kernel of the hub",
        lambda e: e["config"].update(attn_implementation="evil/kernel"),
        "the settings of a audio.* among them",
    )
    yield "layers without end", lambda e: e["config"].update(num_hidden_layers=10**9), "1 to 1000 layers"
    yield "features without end", lambda e: e["config"].update(hidden_size=10**12), "a network in its header"
    yield "a spectrogram without end", lambda e: e["front_end"].update(fft=2**40), "at most"
    yield "another front end", lambda e: e["front_end"].update({"class": "avrobust.media.spec:ClipSpec"}), "Settings"
    yield "no settings", lambda e: e.clear(), "expected"


@pytest.mark.parametrize(("change", "says"), [pytest.param(*case, id=name) for name, *case in hostile()])
def test_a_stranger_s_pair_is_refused_in_words(folders, tmp_path, change, says):
    from safetensors.torch import load_file, save_file

    from avrobust.training import checkpoint

    save(PairSpec(*folders, classes=4, rate=RATE).build(0), tmp_path / "good.safetensors", {})
    meta = checkpoint.read_meta(tmp_path / "good.safetensors")
    change(meta["spec"]["encoders"]["audio"])
    path = tmp_path / "x.safetensors"
    save_file(load_file(tmp_path / "good.safetensors"), path, {"avrobust": checkpoint.json.dumps(meta)})
    with pytest.raises(CheckpointError, match=rf"x\.safetensors: expected .*{says}"):
        load(path)


def test_a_model_that_no_checkpoint_may_name_is_loaded_into_a_network(tmp_path):
    """Its class is not the one that `AutoModel` makes: the header holds weights alone."""
    (audio, listens), (visual, looks) = wav2vec2(), vit()
    eyes = hf.ViTModel(visual, add_pooling_layer=False)
    net = pair(audio, eyes, classes=4, rate=RATE, processors=AV(listens, looks)).eval()
    assert net.spec is None
    save(net, tmp_path / "net.safetensors", {})
    with pytest.raises(CheckpointError, match=r"got weights alone.*load\(path, net\)"):
        load(tmp_path / "net.safetensors")
    assert load(tmp_path / "net.safetensors", net)[0] is net


class Made(PairSpec):
    """A pair of which only the network matters."""

    def __init__(self, name: str) -> None:
        super().__init__("", "", classes=4)
        vars(self)["pair"] = name

    def build(self, seed: int):
        return made(self.pair)


def refused():
    (audio, listens), (visual, looks) = wav2vec2(), vit()
    given = AV(listens, looks)
    yield "a configuration without its processor", lambda: pair(audio, visual, classes=4, rate=RATE), "processor beside the Wav2Vec2Config"  # fmt: skip
    yield "an unknown processor", lambda: pair(audio, visual, classes=4, rate=RATE, processors=AV(hf.EncodecFeatureExtractor(), looks)), "ASTFeature.*EncodecFeature"  # fmt: skip
    yield "a processor of another size", lambda: pair(audio, visual, classes=4, rate=RATE, processors=AV(listens, pil("ViTImageProcessor")())), "fail together"  # fmt: skip
    yield "a fusion that looks at places", lambda: pair(audio, visual, classes=4, rate=RATE, processors=given, fusion="attention"), "a fusion of concat.*got 'attention'"  # fmt: skip
    yield "a fusion that is none", lambda: pair(audio, visual, classes=4, rate=RATE, processors=given, fusion="mix"), "a fusion of concat.*got 'mix'"  # fmt: skip
    yield "a model of other modalities", lambda: pair(audio, hf.ClapModel(clap()[0]), classes=4, rate=RATE, processors=given), "tower for visual, got ClapModel"  # fmt: skip
    yield "a model that gives no features", lambda: pair(hf.Wav2Vec2ForCTC(audio), visual, classes=4, rate=RATE, processors=given), "Wav2Vec2ForCTC, which fail together"  # fmt: skip
    yield "fewer frames than the model takes", lambda: made("ast-videomae").visual(torch.zeros(1, 2, 3, 40, 48)), "at least 4 frames, got 2.*--view.frames 4"  # fmt: skip
    yield "fewer frames than the model takes, before any clip is made", lambda: rehearsed(Made("ast-videomae"), 0, Clips.spec, View(RATE // 2, 2, 40)), "answers a clip of View.*at least 4 frames, got 2"  # fmt: skip


@pytest.mark.parametrize(("call", "message"), [pytest.param(*case, id=name) for name, *case in refused()])
def test_refusals(call, message):
    with pytest.raises(ValueError, match=f"(?s)expected .*{message}"):
        call()


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_folder_with_another_processor_or_none(folders, tmp_path, offline):
    shutil.copytree(folders.audio, tmp_path / "ears")
    asked = PairSpec(tmp_path / "ears", folders.visual, classes=4, rate=RATE)
    (tmp_path / "ears/preprocessor_config.json").unlink()
    with pytest.raises(OSError, match=r"(?s)expected the weights '.*ears' in a folder.*got: .*preprocessor_config"):
        rehearsed(asked, 0, Clips.spec, View(RATE // 2, 1, 40))
    hf.EncodecFeatureExtractor().save_pretrained(tmp_path / "ears")
    with pytest.raises(ValueError, match=r"expected a processor of ASTFeature.*got EncodecFeatureExtractor\. Give"):
        rehearsed(asked, 0, Clips.spec, View(RATE // 2, 1, 40))


@pytest.mark.parametrize("name", ["nobody/ears", "/nowhere/ears"])
def test_weights_that_cannot_be_had(name, offline):
    with pytest.raises(
        OSError, match=f"(?s)expected the weights '{name}' in a folder.*hf download {name}.*as audio, or"
    ):
        pair(name, name, classes=4, rate=RATE)
