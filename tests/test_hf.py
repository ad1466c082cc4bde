"""Pairs of `transformers` models as two-stream networks: tiny ones with random weights, and from folders."""

import warnings

import pytest
import torch
import transformers as hf

import avrobust as avr
from avrobust import AV, Batch, engine
from avrobust.models import pair

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


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_attacked_as_two_streams(name):
    net, batch = made(name).eval(), clips()
    assert isinstance(engine.as_victim(net, batch.x), engine.TwoStream)
    assert torch.equal(net(batch.x), net.decide(net.embed(batch.x)))
    threat = avr.Threat.linf(audio=0.02, visual="8/255")
    rows = avr.evaluate(net, [batch], [avr.PGD(steps=3)], threat)
    _, grad = engine.gradient(engine.surrogate(net, batch.x), avr.objectives.margin, batch.x, batch.label, threat)
    for g in grad:
        assert (g.flatten(1).abs().amax(1) > 0).all()  # reaches every clip, in both modalities
    assert len(rows.table().splitlines()) > 1


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
    yield "fewer frames than the model takes", lambda: made("ast-videomae").visual(torch.zeros(1, 2, 3, 40, 48)), "at least 4 frames, got 2"  # fmt: skip


@pytest.mark.parametrize(("call", "message"), [pytest.param(*case, id=name) for name, *case in refused()])
def test_refusals(call, message):
    with pytest.raises(ValueError, match=f"(?s)expected .*{message}"):
        call()


@pytest.mark.parametrize("name", ["nobody/ears", "/nowhere/ears"])
def test_weights_that_cannot_be_had(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        OSError, match=f"(?s)expected the weights '{name}' in a folder.*hf download {name}.*as audio, or"
    ):
        pair(name, name, classes=4, rate=RATE)
