"""Published models: their checkpoints' names and shapes, their answers computed another way, and attacks on each of them."""

from types import SimpleNamespace

import pytest
import tokenizers
import torch
import transformers as hf
from torch import nn

import avrobust as avr
from avrobust import AV, Batch, engine, training
from avrobust.config import from_plain, to_plain
from avrobust.files import CheckpointError
from avrobust.models import Spec, published
from avrobust.models.published.cavmae import their_name
from test_hf import TINY as SMALLEST
from test_hf import clap, clip

TINY = published.CavMaeSize(width=16, heads=2, separate=2, joint=1, frames=64)
RATE = 16_000
CLASSES = ["dog", "rain", "violin", "crowd"]


def clips(n: int = 4, frames: int = 2) -> AV:
    g = torch.Generator().manual_seed(0)
    wave = (torch.rand(n, RATE // 2, generator=g) - 0.5) * torch.linspace(0.2, 1, n)[:, None]
    pictures = torch.rand(n, frames, 3, 40, 56, generator=g) * 0.5 + torch.linspace(0, 0.5, n).view(-1, 1, 1, 1, 1)
    return AV(audio=wave, visual=pictures)


def cav_mae(**settings):
    net = published.cav_mae(None, 5, rate=RATE, size=TINY, **settings)
    torch.manual_seed(0)
    for name, p in net.named_parameters():
        if "norm" in name or "last" in name or "classifier" in name:
            nn.init.normal_(p, 1.0, 0.3)  # no normalisation is another's, and classes differ
    return net


# What `CAVMAEFT(label_dim, modality_specific_depth=11)` of YuanGongND/cav-mae has, by name.
def cav_mae_checkpoint(classes: int) -> dict[str, tuple[int, ...]]:
    norm, shapes = {"weight": (768,), "bias": (768,)}, {}

    def put(name: str, parts: dict[str, tuple[int, ...]]) -> None:
        shapes.update({f"{name}.{leaf}": shape for leaf, shape in parts.items()})

    for kind, colours, places in (("a", 1, 512), ("v", 3, 196)):
        put(f"patch_embed_{kind}.proj", {"weight": (768, colours, 16, 16), "bias": (768,)})
        shapes |= {f"modality_{kind}": (1, 1, 768), f"pos_embed_{kind}": (1, places, 768)}
    for kind, depth in (("a", 11), ("v", 11), ("u", 1)):
        for block in (f"blocks_{kind}.{i}" for i in range(depth)):
            for which in ("norm1", "norm1_a", "norm1_v", "norm2", "norm2_a", "norm2_v"):
                put(f"{block}.{which}", norm)
            put(f"{block}.attn.qkv", {"weight": (2304, 768), "bias": (2304,)})
            put(f"{block}.attn.proj", {"weight": (768, 768), "bias": (768,)})
            put(f"{block}.mlp.fc1", {"weight": (3072, 768), "bias": (3072,)})
            put(f"{block}.mlp.fc2", {"weight": (768, 3072), "bias": (768,)})
    for which in ("norm", "norm_a", "norm_v", "mlp_head.0"):
        put(which, norm)
    put("mlp_head.1", {"weight": (classes, 768), "bias": (classes,)})
    return shapes


def tensors(shapes, prefix: str = "module."):
    """One number in each tensor, so that the file is small; another in each."""
    return {
        f"{prefix}{name}": torch.full((1,), i / 1000).expand(shape) for i, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize(("classes", "prefix"), [(309, "module."), (527, "")])
def test_a_cav_mae_checkpoint_loads_by_its_names(classes, prefix, tmp_path):
    given = tensors(cav_mae_checkpoint(classes), prefix)
    torch.save(given, tmp_path / "vgg.pth")
    net = published.cav_mae(tmp_path / "vgg.pth", classes, rate=RATE)
    assert not net.training and not any(tensor.is_meta for tensor in [*net.parameters(), *net.buffers()])
    assert all(torch.equal(tensor, given[prefix + their_name(name)]) for name, tensor in net.state_dict().items())
    assert len(given) == len(net.state_dict()) == 478


class Code:
    def __reduce__(self):
        return print, ("it ran",)


def refused():
    fine = cav_mae_checkpoint(309)
    pretrained = {name: shape for name, shape in fine.items() if "mlp_head" not in name}
    yield (
        "other classes",
        tensors(cav_mae_checkpoint(527)),
        r"'mlp_head.1.weight' is \(527, 768\) instead of \(309, 768\)",
    )
    yield (
        "pretraining",
        tensors(pretrained | {"decoder_embed.weight": (512, 768)}),
        "'mlp_head.0.weight' is missing",
    )
    yield "another network", {"module.fc.weight": torch.zeros(2, 2)}, "got those of another network: .* and 476 more"
    yield "more than tensors", {"epoch": 3}, "'epoch' is a int"
    yield "code", Code(), "a pickle that would run"


@pytest.mark.parametrize(("held", "message"), [pytest.param(*case, id=name) for name, *case in refused()])
def test_another_cav_mae_checkpoint_is_refused(held, message, tmp_path, capsys):
    torch.save(held, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=f"(?s)other.pth: expected .*{message}.*(Give|Save|save)"):
        published.cav_mae(tmp_path / "other.pth", 309, rate=RATE)
    assert not capsys.readouterr().out


def test_a_cav_mae_checkpoint_that_is_not_there(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"none.pth: expected a checkpoint of CAV-MAE, got no such file. Download"
    ):
        published.cav_mae(tmp_path / "none.pth", 309, rate=RATE)


def test_cav_mae_is_a_network_of_a_study(tmp_path):
    spec = published.CavMaeSpec(modality="A", size=TINY).for_clips(classes=5, rate=RATE)
    assert from_plain(to_plain(spec), Spec) == spec
    net = spec.build(seed=3).eval()
    training.save(net, tmp_path / "net.safetensors", {})
    again, _ = training.load(tmp_path / "net.safetensors")
    assert torch.equal(again(clips()), net(clips()))


def by_torch(block, norms: str):
    """The same block by PyTorch's own layer."""
    layer = nn.TransformerEncoderLayer(16, 2, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    state = block.state_dict()
    told = {"self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj.": "attn.proj.", "linear1.": "mlp.fc1."}
    told |= {"linear2.": "mlp.fc2.", "norm1.": f"norm1{norms}.", "norm2.": f"norm2{norms}."}
    layer.load_state_dict({new + leaf: state[old + leaf] for new, old in told.items() for leaf in ("weight", "bias")})
    return layer.eval()


@pytest.mark.parametrize(("modality", "norms"), [("AV", ""), ("A", "_a"), ("V", "_v")])
@torch.no_grad()
def test_cav_mae_computed_by_torchs_layers(modality, norms):
    net, whole, x = cav_mae(modality=modality), cav_mae(), clips(2, frames=1)
    pictures = whole.audio.front_end(x.audio).transpose(1, 2)[:, None], whole.visual.front_end(x.visual)[:, 0]
    streams = []
    for encoder, picture in zip(whole.encoders, pictures, strict=True):
        patches = nn.functional.unfold(picture, 16, stride=16).transpose(1, 2)
        z = patches @ encoder.patches.weight.flatten(1).T + encoder.patches.bias + encoder.places + encoder.modality
        for block in encoder.blocks:
            z = by_torch(block, "")(z)
        streams.append(z)
    z = {"": torch.cat(streams, 1), "_a": streams[0], "_v": streams[1]}[norms]
    z = by_torch(whole.fusion.blocks[0], norms)(z)
    z = whole.fusion.last(whole.fusion.get_submodule(f"norm{norms}")(z).mean(1))
    expected = nn.functional.linear(z, whole.classifier.weight, whole.classifier.bias)
    assert expected.std() > 1e-3
    net.load_state_dict({name: whole.state_dict()[name] for name in net.state_dict()})
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
@torch.no_grad()
def test_cav_mae_answers_the_mean_probability_over_frames(multi_label):
    net, x = cav_mae(multi_label=multi_label), clips(2, frames=3)
    probabilities = torch.sigmoid if multi_label else nn.functional.softmax
    each = [probabilities(net(AV(x.audio, x.visual[:, [i]])), **({} if multi_label else {"dim": 1})) for i in range(3)]
    found = probabilities(net(x), **({} if multi_label else {"dim": 1}))
    torch.testing.assert_close(found, torch.stack(each).mean(0), rtol=1e-4, atol=1e-6)


def tokenizer():
    words = ["[PAD]", "[UNK]", *["this", "is", "a", "photo", "sound", "of", "."], *CLASSES]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing("$A [EOS]", special_tokens=[("[EOS]", 2)])
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


def spread(model: nn.Module) -> nn.Module:
    """The model with weights that tell clips and texts apart, which the first ones hardly do."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                p *= 4
            elif "logit" in name:
                p.copy_(torch.randn(p.shape))
    return model.eval()


def two_models():
    """CLAP and CLIP with their processors, tiny."""
    torch.manual_seed(0)
    (hears, listens), (sees, looks), words = clap(), clip(), tokenizer()
    hears.text_config.vocab_size = sees.text_config.vocab_size = len(words)
    sees.text_config.eos_token_id = 2  # where CLIP reads a text's embedding
    models = AV(audio=spread(hf.ClapModel(hears)), visual=spread(hf.CLIPModel(sees)))
    return models, AV(hf.ClapProcessor(listens, words), hf.CLIPProcessor(looks, words))


def clap_and_clip(**settings):
    models, processors = two_models()
    return published.zero_shot(*models, CLASSES, rate=RATE, processors=processors, **settings)


def pe_av_parts():
    torch.manual_seed(0)
    block = {**SMALLEST, "head_dim": 8}
    codec = {"model_type": "dac", "downsampling_ratios": [4, 5], "encoder_hidden_size": 4, "codebook_dim": 8}
    text = hf.ModernBertConfig(
        **SMALLEST, vocab_size=16, pad_token_id=0, **{f"{t}_token_id": 1 for t in ("bos", "eos", "cls", "sep")}
    )
    hears = hf.PeAudioEncoderConfig(dac_config=codec, **block)
    sees = hf.PeVideoEncoderConfig(vision_config=hf.ViTConfig(**SMALLEST, image_size=32, num_labels=12), **block)
    both = hf.PeAudioVideoEncoderConfig(audio_config=hears, video_config=sees, **block)

    class PeVideoVideoProcessor:
        """The real one needs torchvision."""

        do_resize, size, resample = True, {"height": 32, "width": 32}, 2
        do_rescale, rescale_factor, do_normalize, image_mean, image_std = True, 1 / 255, True, [0.5] * 3, [0.5] * 3
        do_sample_frames, num_frames = False, None

    listens = hf.PeAudioFeatureExtractor(sampling_rate=RATE, hop_length=20)
    processor = SimpleNamespace(
        feature_extractor=listens, video_processor=PeVideoVideoProcessor(), tokenizer=tokenizer()
    )
    return spread(hf.PeAudioVideoModel(hf.PeAudioVideoConfig(text_config=text, audio_video_config=both))), processor


def pe_av():
    model, processor = pe_av_parts()
    return published.pe_av(model, CLASSES, rate=RATE, processor=processor)


class FakeImageBind(nn.Module):
    """What ImageBind takes and answers: clips of (b s ...) are averaged, embeddings have length 1 and a scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunks = nn.ModuleDict({"audio": nn.Linear(204, 8), "vision": nn.Linear(224, 8)})

    def forward(self, inputs):
        return {
            key: 20 * nn.functional.normalize(self.trunks[key](x.flatten(0, 1)).mean((1, 2)), dim=1).view(*x.shape[:2], 8).mean(1)
            for key, x in inputs.items()
        }  # fmt: skip


def imagebind():
    return published.imagebind(FakeImageBind(), torch.eye(5, 8), rate=RATE)


@torch.no_grad()
def test_zero_shot_is_the_sum_of_what_both_models_answer():
    models, processors = two_models()
    x, words = clips(frames=1), processors.audio.tokenizer
    net = published.zero_shot(*models, CLASSES, rate=RATE, processors=processors, weights=AV(0.5, 2.0))
    inputs = AV(
        {"input_features": net.audio.encoder.front_end(x.audio)},
        {"pixel_values": net.visual.encoder.front_end(x.visual)[:, 0]},
    )
    texts = AV([f"This is a sound of {c}." for c in CLASSES], [f"a photo of {c}" for c in CLASSES])
    tokens = texts.map(lambda texts: {k: v for k, v in words(texts, return_tensors="pt", padding=True).items() if k != "token_type_ids"})  # fmt: skip
    heard = models.audio(**inputs.audio, **tokens.audio).logits_per_audio
    seen = models.visual(**inputs.visual, **tokens.visual).logits_per_image
    assert heard.std(1).min() > 1e-3 and seen.std(1).min() > 1e-3
    torch.testing.assert_close(net(x), 0.5 * heard + 2 * seen, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_several_prompts_are_averaged():
    def text(prompts):
        return clap_and_clip(prompts=AV(prompts, "a {}"), weights=AV(1.0, 0.0)).classifier.weight

    a, b, both = text("sound of {}"), text("a {} ."), text(["sound of {}", "a {} ."])
    torch.testing.assert_close(both, a.norm(dim=1)[0] * nn.functional.normalize(a + b, dim=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_zero_shot_from_folders(tmp_path, stored):
    for modality, model in two_models()[0].items():
        model.to(stored).save_pretrained(tmp_path / modality)
        getattr(two_models()[1], modality).save_pretrained(tmp_path / modality)
    net = published.zero_shot(tmp_path / "audio", str(tmp_path / "visual"), CLASSES, rate=RATE)
    models, processors = two_models()
    rounded = models.map(lambda model: model.to(stored).float())
    assert torch.equal(net(clips()), published.zero_shot(*rounded, CLASSES, rate=RATE, processors=processors)(clips()))


@torch.no_grad()
def test_pe_av_answers_what_its_model_does():
    """Which takes as many texts as clips: here there are as many."""
    (model, processor), net, x = pe_av_parts(), pe_av(), clips(len(CLASSES))
    tokens = processor.tokenizer(CLASSES, return_tensors="pt")
    out = model(
        **{key: tokens[key] for key in ("input_ids", "attention_mask")},
        input_values=net.audio.front_end(x.audio),
        pixel_values_videos=net.visual.front_end(x.visual),
    )
    assert out.logits_audio_video_text.std(1).min() > 1e-3
    torch.testing.assert_close(net(x), out.logits_audio_video_text, rtol=1e-4, atol=1e-5)


def test_pe_av_lets_gradients_through_where_its_model_does_not():
    (model, _), net, x = pe_av_parts(), pe_av(), clips(2)
    wave = net.audio.front_end(x.audio).requires_grad_()
    with pytest.raises(RuntimeError, match=r"does not require grad|not have been used"):
        torch.autograd.grad(model.requires_grad_(False).audio_model.audio_encoder(wave).pooler_output.sum(), wave)
    [found] = torch.autograd.grad(net.audio.encoder(wave).pooler_output.sum(), wave)
    assert (found.flatten(1).abs().amax(1) > 0).all()


def test_imagebinds_inputs():
    """Its sound: three cuts of two seconds, from the beginning to the end, by the fbank that AST's extractor computes too."""
    wave = torch.rand(1, 5 * RATE, generator=torch.Generator().manual_seed(0)) - 0.5
    found = published.imagebind_inputs(RATE).audio(wave)
    fbank = hf.ASTFeatureExtractor(max_length=204, mean=-4.268, std=9.138 / 2)
    for i, start in enumerate((0, 24_000, 48_000)):
        cut = fbank(wave[0, start : start + 32_000].numpy(), sampling_rate=RATE, return_tensors="pt")["input_values"]
        torch.testing.assert_close(found[:, i, 0], cut.transpose(1, 2), rtol=0, atol=1e-4)
    published.imagebind_inputs(RATE).audio(wave[:, : RATE // 2])  # a shorter clip is all three cuts


def refused_models():
    models, processors = two_models()
    no_text = AV(processors.audio.feature_extractor, processors.visual)
    given = {"rate": RATE, "processors": processors}
    yield "no tokenizer", lambda: published.zero_shot(*models, CLASSES, rate=RATE, processors=no_text), "a processor with a tokenizer beside the ClapModel"  # fmt: skip
    yield "CLIP for sound", lambda: published.zero_shot(models.visual, models.visual, CLASSES, **given), "a ClapModel, got a CLIPModel without audio_model"  # fmt: skip
    yield "a class twice", lambda: published.zero_shot(*models, ["dog", "dog"], **given), "the names of two classes or more, each once"  # fmt: skip
    yield "a prompt for no class", lambda: published.zero_shot(*models, CLASSES, **given, prompts=AV("dog", "{}")), "prompts with {}.*got 'dog'"  # fmt: skip
    yield "another tokenizer", lambda: published.zero_shot(*models, ["cat", "cow"], **given), "another embedding for each class, got the same for 'cat' and 'cow'"  # fmt: skip
    yield "blocks without end", lambda: published.CavMaeSize(joint=10**9), "a width that is .*1000 blocks"
    yield "CLIP as PE-AV", lambda: published.pe_av(models.visual, CLASSES, rate=RATE, processor=processors.visual), "a PeAudioVideoModel, got a CLIPModel"  # fmt: skip


@pytest.mark.parametrize(("call", "message"), [pytest.param(*case, id=name) for name, *case in refused_models()])
def test_what_is_no_such_model_is_refused(call, message):
    with pytest.raises(ValueError, match=f"(?s)expected {message}.*(Give|Write|Leave)"):
        call()


@pytest.mark.parametrize("call", ["zero_shot", "pe_av"])
def test_weights_that_cannot_be_had(call, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    names = ("nobody/ears", "nobody/eyes") if call == "zero_shot" else ("nobody/ears",)
    with pytest.raises(OSError, match=r"(?s)expected the weights 'nobody/ears' in a folder.*hf download nobody/ears"):
        getattr(published, call)(*names, CLASSES, rate=RATE)


def test_a_multi_label_cav_mae_is_evaluated_by_its_labels():
    net, y = cav_mae(multi_label=True), (torch.arange(20).view(4, 5) % 3 == 0).float()
    threat = avr.Threat.linf(audio=0.02, visual="8/255")
    rows = avr.evaluate(net, [Batch(clips(), y)], [avr.PGD(steps=2)], [threat], task=avr.tasks.MultiLabel())
    used = torch.tensor(rows.where(attack="PGD-2 (BCE)").column("used_visual"))
    assert len(used) == 4 and used.min() > 0.5 and used.max() <= 1 + 1e-5


@torch.no_grad()
def test_a_linear_layer_on_pe_av_depends_on_its_seed_alone():
    model, processor = pe_av_parts()
    one, same, other = (published.pe_av(model, 5, rate=RATE, processor=processor, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one(clips()), same(clips())) and not torch.equal(one(clips()), other(clips()))


# Each, and the modality that it ignores.
MODELS = {
    "cav-mae": (cav_mae, None),
    "cav-mae, audio": (lambda: cav_mae(modality="A"), "visual"),
    "clap and clip": (clap_and_clip, None),
    "pe-av": (pe_av, None),
    "imagebind": (imagebind, None),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_published_model_is_attacked_as_two_streams(name):
    (make, ignored), batch = MODELS[name], Batch(clips(), torch.arange(4))
    net = make()
    victim = engine.as_victim(net, batch.x)
    assert isinstance(victim, engine.TwoStream) and victim.as_written
    assert net.rate == (RATE if ignored != "audio" else None)
    threat = avr.Threat.linf(audio=0.02, visual="8/255")
    _, grad = engine.gradient(engine.surrogate(net, batch.x), avr.objectives.margin, batch.x, batch.label, threat)
    for modality, g in grad.items():
        assert (g.flatten(1).abs().amax(1) > 0).all() == (modality != ignored)
    rows = avr.evaluate(net, [batch], [avr.PGD(steps=2)], [threat]).where(attack="PGD-2")
    for modality in ("audio", "visual"):
        used = torch.tensor(rows.column(f"used_{modality}"))
        assert len(used) == 4 and used.max() <= 1 + 1e-5 and (used.min() > 0.5 or modality == ignored)
