"""Front ends beside the processors that they stand for, and their gradients."""

import csv
import re
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from avrobust import AV
from avrobust.data.orchestra import audio, score
from avrobust.models import frontends as f

GREY = 1 / 255

# Each with the largest difference that is allowed.
AUDIO = {
    "ast": (transformers.ASTFeatureExtractor, {}, 1e-5),
    "ast-64-bands": (transformers.ASTFeatureExtractor, {"num_mel_bins": 64, "max_length": 50, "do_normalize": False}, 1e-4),
    "clap-fusion": (transformers.ClapFeatureExtractor, {"max_length_s": 2}, 1e-3),
    "clap-rand_trunc": (transformers.ClapFeatureExtractor, {"max_length_s": 2, "truncation": "rand_trunc"}, 1e-3),
    "clap-repeat": (transformers.ClapFeatureExtractor, {"max_length_s": 2, "padding": "repeat"}, 1e-3),
    "clap-pad": (transformers.ClapFeatureExtractor, {"max_length_s": 2, "padding": "pad"}, 1e-3),
    "pe-audio": (transformers.PeAudioFeatureExtractor, {}, 0.0),
    "wav2vec2": (transformers.Wav2Vec2FeatureExtractor, {}, 1e-4),
    "wav2vec2-raw": (transformers.Wav2Vec2FeatureExtractor, {"do_normalize": False}, 0.0),
    "whisper": (transformers.WhisperFeatureExtractor, {"chunk_length": 2}, 1e-3),
    "whisper-cut": (transformers.WhisperFeatureExtractor, {"chunk_length": 1, "feature_size": 128}, 1e-3),
}  # fmt: skip
# In grey levels: 1.5 where Pillow rounds twice, 0.01 where nothing is resized.
VISUAL = {
    "beit": ("BeitImageProcessor", {}, 1.5),
    "clip": ("CLIPImageProcessor", {}, 1.5),
    "clip-border": ("CLIPImageProcessor", {"do_resize": False, "crop_size": {"height": 101, "width": 64}}, 0.01),
    "clip-small": ("CLIPImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 33}}, 1.5),
    "convnext": ("ConvNextImageProcessor", {"size": {"shortest_edge": 64}}, 1.5),
    "convnext-384": ("ConvNextImageProcessor", {}, 1.5),
    "deit": ("DeiTImageProcessor", {}, 1.5),
    "dinov2": ("BitImageProcessor", {}, 1.5),
    "siglip": ("SiglipImageProcessor", {}, 1.5),
    "vit": ("ViTImageProcessor", {}, 1.5),
    "vit-raw": ("ViTImageProcessor", {"do_resize": False, "do_rescale": False, "do_normalize": False}, 0.01),
    "videomae": ("VideoMAEImageProcessor", {}, 1.5),
}  # fmt: skip


def audio_processor(case: str):
    kind, settings, _ = AUDIO[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # AST's own filters: some hold no frequency
        return kind(**settings)


def visual_processor(case: str):
    name, settings, _ = VISUAL[case]
    return (getattr(transformers, f"{name}Pil", None) or getattr(transformers, name))(**settings)


def by_audio_processor(processor, wave: NDArray[np.float32]) -> torch.Tensor:
    """What `transformers` makes of one clip."""
    out = processor([wave], sampling_rate=processor.sampling_rate, return_tensors="np")
    return torch.from_numpy(np.asarray(out[processor.model_input_names[0]])).float()


def by_visual_processor(processor, frames: NDArray[np.uint8]) -> torch.Tensor:
    """What `transformers` makes of one clip's frames (t h w 3)."""
    images = [np.ascontiguousarray(frame.transpose(2, 0, 1)) for frame in frames]
    pixels = torch.from_numpy(np.asarray(processor(images, return_tensors="np")["pixel_values"])).float()
    return pixels.view(len(frames), *pixels.shape[-3:])


def music(rate: int, seconds: float = 1.3, name: str = "cello") -> NDArray[np.float32]:
    """A solo with a silent stretch."""
    rng = np.random.default_rng(0)
    wave = audio.perform(name, score.compose(name, seconds, rng), round(seconds * rate), rate, rng)
    wave = 0.7 * wave / np.abs(wave).max()
    wave[: rate // 5] = 0
    return wave.astype(np.float32)


def noise(height: int, width: int, frames: int = 2) -> NDArray[np.uint8]:
    """Grey levels at random, half of them black or white: all that overshoots, does."""
    levels = np.random.default_rng(0).integers(-128, 384, (frames, height, width, 3))
    return levels.clip(0, 255).astype(np.uint8)


def as_frames(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(1 t 3 h w) in [0, 1]."""
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2)[None].float() / 255


def weighted(out: torch.Tensor) -> torch.Tensor:
    """One number that depends on every feature; a mean would not move where features are normalised."""
    return (out * torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)).sum()


@pytest.mark.parametrize("case", AUDIO)
@pytest.mark.parametrize("clip", ["cello", "xylophone", "silence"])
def test_audio_is_what_the_processor_makes(case, clip):
    processor = audio_processor(case)
    wave = music(processor.sampling_rate, name="cello" if clip == "silence" else clip) * (clip != "silence")
    found = f.audio_frontend(processor, processor.sampling_rate)(torch.from_numpy(wave)[None])
    torch.testing.assert_close(found, by_audio_processor(processor, wave), rtol=0, atol=AUDIO[case][2])


@pytest.mark.parametrize("case", VISUAL)
@pytest.mark.parametrize(
    "size", [(80, 97), (260, 300)], ids=str
)  # upright, the order of Pillow's passes is its release's
def test_frames_are_what_the_processor_makes(case, size):
    processor, pixels = visual_processor(case), noise(*size)
    found, expected = f.visual_frontend(processor)(as_frames(pixels))[0], by_visual_processor(processor, pixels)
    std = torch.tensor(processor.image_std if processor.do_normalize else [1.0] * 3).view(3, 1, 1)
    levels = (found - expected) * std * (255 if processor.do_rescale else 1)
    assert found.shape == expected.shape
    assert levels.abs().max() <= VISUAL[case][2]


@pytest.mark.parametrize("case", ["vit", "videomae"])
def test_upright_frames_are_what_the_processor_makes(case):
    processor, pixels = visual_processor(case), noise(400, 230)
    found, expected = f.visual_frontend(processor)(as_frames(pixels))[0], by_visual_processor(processor, pixels)
    torch.testing.assert_close(found, expected, rtol=0, atol=VISUAL[case][2] / 255 / 0.5)


def test_real_clips_give_what_the_docstrings_say(real_data: Path):
    rows = list(csv.DictReader((real_data / "grid_s1_words/manifest.csv").open()))[::400]
    for row in rows:
        with av.open(str(real_data / "grid_s1_words" / row["video"])) as file:
            pixels = next(file.decode(video=0)).to_ndarray(format="rgb24")[None]
        with av.open(str(real_data / "grid_s1_words" / row["audio"])) as file:
            convert = av.AudioResampler("flt", "mono", 48_000)
            wave = np.concatenate([part.to_ndarray()[0] for a in file.decode(audio=0) for part in convert.resample(a)])
        wave = wave[: 2 * 48_000]
        for case, allowed in {"clap-fusion": 1e-5, "pe-audio": 0.0, "wav2vec2": 1e-5}.items():
            processor = audio_processor(case)
            found = f.audio_frontend(processor, processor.sampling_rate)(torch.from_numpy(wave)[None])
            torch.testing.assert_close(found, by_audio_processor(processor, wave), rtol=0, atol=allowed)
        for case, allowed in {"siglip": 1.2, "vit": 1.05}.items():
            found = f.visual_frontend(visual_processor(case))(as_frames(pixels))[0]
            levels = (found - by_visual_processor(visual_processor(case), pixels)) / 2 * 255
            assert levels.abs().max() <= allowed


def test_video_processors_are_read():
    """They need torchvision, which may be missing: one that only says what it would do."""

    class PeVideoVideoProcessor:
        do_resize, size, resample = True, {"height": 8, "width": 8}, 2
        do_rescale, rescale_factor, do_normalize, image_mean, image_std = True, 1 / 255, True, [0.5] * 3, [0.5] * 3
        do_sample_frames, num_frames = True, 3

    front_end = f.visual_frontend(PeVideoVideoProcessor())
    assert front_end.settings.input == "pixel_values_videos"
    x = torch.rand(1, 6, 3, 12, 12)
    one_by_one = [front_end.settings.frames, *[int(i * 5 / 2) for i in range(3)]]
    assert one_by_one == [3, 0, 2, 5]
    torch.testing.assert_close(front_end(x), (f.resize(x[0, [0, 2, 5]], (8, 8), "bilinear")[None] - 0.5) / 0.5)


@pytest.mark.parametrize(("old", "new"), [(44_100, 16_000), (16_000, 48_000), (11_025, 16_000)])
def test_resampling_keeps_tones(old, new):
    def tone(hertz: float, rate: int) -> torch.Tensor:
        return torch.sin(2 * torch.pi * hertz * torch.arange(rate // 2, dtype=torch.float64) / rate)[None]

    resample = f.Resample(old, new)
    half, inside = min(old, new) / 2, slice(new // 20, -new // 20)
    for hertz in (100.0, 0.5 * half, 0.9 * half):
        found = resample(tone(hertz, old))
        assert found.shape[1] == -(-(old // 2) * new // old)
        torch.testing.assert_close(
            found[:, inside], tone(hertz, new)[:, : found.shape[1]][:, inside], rtol=0, atol=1e-4
        )
    if new < old:  # what lies above the new Nyquist frequency is gone
        assert resample(tone(1.02 * half, old))[:, inside].abs().max() < 1e-4


def test_another_rate_gives_the_same_spectrogram_up_to_its_band():
    """A clip at 48 kHz, and the same one at 16 kHz, as a processor at 48 kHz gets to see them."""
    processor = audio_processor("clap-fusion")
    low = torch.from_numpy(music(16_000))[None].double()
    high = f.Resample(16_000, 48_000)(low)
    torch.testing.assert_close(
        f.audio_frontend(processor, 16_000)(low), f.audio_frontend(processor, 48_000)(high), rtol=0, atol=0.05
    )


MEL = f.MelFilters(5, 20, 400, "htk")
SMALL = {
    "normalised": f.WaveSettings(800, normalise=True),
    "reflected": f.WaveSettings(800, multiple=64, channel=True),
    "kaldi": f.MelSettings(800, 32, 16, 64, f.MelFilters(5, 20, 400, "kaldi"), frames=12, floor=1e-7, log=2.0, kaldi=True, std=3.0),
    "repeated": f.MelSettings(800, 32, 16, 32, MEL, frames=11, floor=1e-10, log=10, decibels=10, samples=150, extend="repeat", copies=2),
    "cut": f.MelSettings(800, 32, 16, 32, MEL, frames=5, floor=1e-10, log=10, depth=1.0, samples=80, layout="mel first"),
}  # fmt: skip


@pytest.mark.parametrize("case", SMALL)
def test_gradients_of_audio(case):
    wave = (torch.rand(2, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5).requires_grad_()
    front_end = f.AudioFrontEnd(SMALL[case], rate=700).double()
    assert torch.autograd.gradcheck(front_end, wave)


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
def test_gradients_of_frames(filter):
    x = torch.rand(1, 3, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    settings = f.FrameSettings(
        resize=4, filter=filter, crop=(4, 5), scale=255.0, mean=(1.0,) * 3, std=(50.0,) * 3, frames=2
    )
    assert torch.autograd.gradcheck(f.VisualFrontEnd(settings).double(), x)


@pytest.mark.parametrize("case", AUDIO)
def test_gradients_are_finite_in_silence_and_reach_the_rest(case):
    processor = audio_processor(case)
    rate = processor.sampling_rate
    for clip in (music(rate), 0 * music(rate)):
        wave = torch.from_numpy(clip)[None].requires_grad_()
        (grad,) = torch.autograd.grad(weighted(f.audio_frontend(processor, rate)(wave)), wave)
        assert grad.isfinite().all()
        assert not clip.any() or grad[0, rate // 4 : rate // 2].count_nonzero() > 0.99 * (rate // 4)


@pytest.mark.parametrize("case", VISUAL)
def test_gradients_reach_every_pixel_that_is_kept(case):
    x = (as_frames(noise(90, 90)) * 0.5 + 0.25).requires_grad_()  # nothing overshoots
    (grad,) = torch.autograd.grad(weighted(f.visual_frontend(visual_processor(case))(x)), x)
    assert grad.isfinite().all()
    assert grad[..., 20:70, 20:70].count_nonzero() > 0.99 * grad[..., 20:70, 20:70].numel()


def test_a_clip_does_not_depend_on_its_batch_or_on_autocast():
    waves = torch.from_numpy(np.stack([music(16_000), music(16_000, name="flute")]))
    frames = torch.cat([as_frames(noise(50, 60)), as_frames(255 - noise(50, 60))])
    for front_end, x in (
        *((f.audio_frontend(audio_processor(case), 16_000), waves) for case in ("ast", "clap-fusion", "whisper")),
        (f.visual_frontend(visual_processor("clip-small")), frames),
    ):
        both = front_end(x)
        assert not front_end.state_dict()  # constants, not weights
        for i in range(2):
            torch.testing.assert_close(front_end(x[i : i + 1])[0], both[i], rtol=0, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(front_end(x), both)
        torch.testing.assert_close(front_end.double()(x.double()).float(), both, rtol=0, atol=1e-3)


def test_a_processor_may_be_a_part_of_another_or_a_file():
    clap, clip = audio_processor("clap-repeat"), visual_processor("clip-small")

    class Whole:
        feature_extractor, image_processor = clap, clip

    for given in (Whole(), clap, clap.to_dict()):
        assert f.audio_frontend(given, 48_000).settings == f.audio_frontend(clap, 48_000).settings
    for given in (Whole(), clip, clip.to_dict()):
        assert f.visual_frontend(given).settings == f.visual_frontend(clip).settings


def test_the_guide_runs():
    guide = (Path(__file__).parents[1] / "docs/guide/encoders.md").read_text()
    (block,) = [code for code in re.findall(r"```python\n(.*?)```", guide, re.S) if "my_net" in code]
    names = {"my_net": lambda a, v: a.mean((1, 2)) + v.mean((1, 2, 3, 4))}
    exec(block, names)
    x = AV(audio=torch.zeros(2, 22_050), visual=torch.zeros(2, 1, 3, 32, 48))
    assert names["model"](x).shape == (2,)


def refused():
    clap, vit = audio_processor("clap-pad"), visual_processor("vit")
    short, clip = torch.zeros(1, 100), torch.zeros(1, 2, 3, 8, 8)
    padded = transformers.CLIPImageProcessorPil(do_pad=True) if hasattr(transformers, "CLIPImageProcessorPil") else None
    yield "an unknown feature extractor", lambda: f.audio_frontend(transformers.SeamlessM4TFeatureExtractor(), 16_000), "ASTFeature.*Seamless.*of your own"  # fmt: skip
    yield "an unknown image processor", lambda: f.visual_frontend({"image_processor_type": "os"}), "BeitImage.*got os"
    yield "an image processor for audio", lambda: f.audio_frontend(vit, 16_000), "ASTFeature.*ViTImageProcessor"
    yield "a file that names none", lambda: f.audio_frontend({"rate": 1}, 16_000), "got dict"
    yield (
        "clips that CLAP crops at random",
        lambda: f.audio_frontend(clap, 48_000)(torch.zeros(1, 96_001)),
        "at most 2 s",
    )
    yield "another truncation", lambda: f.audio_frontend(transformers.ClapFeatureExtractor(truncation="none"), 48_000), "truncation of 'fusion'"  # fmt: skip
    yield "dither", lambda: f.audio_frontend(transformers.WhisperFeatureExtractor(dither=0.1), 16_000), "dither=0.1"
    yield (
        "a clip below one frame",
        lambda: f.audio_frontend(audio_processor("ast"), 16_000)(short),
        "at least 400 samples",
    )
    yield (
        "a clip too short to reflect",
        lambda: f.audio_frontend(audio_processor("pe-audio"), 48_000)(short),
        "more than 1820",
    )
    yield "a rate of 0", lambda: f.audio_frontend(clap, 0), "rates in Hz, got 0"
    yield "a rate without a common divisor", lambda: f.audio_frontend(clap, 47_999), "fraction of small numbers"
    yield "too few frames", lambda: f.visual_frontend(vit, frames=16)(clip), "at least 16 frames, got 2"
    yield "another filter", lambda: f.visual_frontend(type(vit)(resample=0)), "resample of 2, 3, got 0"
    yield "another size", lambda: f.visual_frontend(type(vit)(size={"longest_edge": 8})), "size of shortest_edge"
    yield "a border", lambda: f.visual_frontend(padded or pytest.skip("no such setting")), "does not pad"


@pytest.mark.parametrize(("call", "message"), [pytest.param(*case, id=name) for name, *case in refused()])
def test_refusals(call, message):
    with pytest.raises(ValueError, match=f"(?s)expected .*{message}"):
        call()
