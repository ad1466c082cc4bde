"""CAV-MAE (Gong et al. 2023, "Contrastive audio-visual masked autoencoder"), fine-tuned to classify.

The architecture in our own words; modules have the names of the published checkpoints (YuanGongND/cav-mae, BSD), so that
these load as they are.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avrobust.files import CheckpointError
from avrobust.models import torch_file
from avrobust.models.frontends import AudioFrontEnd, FrameSettings, MelFilters, MelSettings, VisualFrontEnd
from avrobust.models.visual import IMAGENET_MEAN, IMAGENET_STD
from avrobust.types import AV, Signals

# The modes of its fine-tuning, and which normalisations the joint blocks use in each: "", or those of one modality.
NORMS = {"multimodal": "", "audioonly": "_a", "videoonly": "_v"}
PATCH, BANDS, SIDE = 16, 128, 224  # pixels, mel bands, pixels


@dataclass(frozen=True)
class CavMaeSize:
    """Widths and depths; the defaults are those of every published checkpoint, 164 million weights."""

    width: int = 768
    heads: int = 12
    separate: int = 11  # blocks of each modality
    joint: int = 1  # blocks of both
    frames: int = 1024  # of the spectrogram, 10 ms each


def cav_mae(
    path: Path | str, classes: int, *, rate: int, mode: str = "multimodal", multi_label: bool = False
) -> "CavMae":
    """The fine-tuned CAV-MAE in a `.pth` file of its authors, to be evaluated on clips of `rate` samples a second.

    AudioSet's have 527 classes and `multi_label=True`, VGGSound's 309 and False.  `mode` is the one that the checkpoint was
    fine-tuned in: "audioonly" ignores the frames, "videoonly" the waveform.

    Raises `CheckpointError`, naming the file, where it is not there or damaged, holds more than tensors, or holds another
    network: other classes, or CAV-MAE as it was pretrained (a decoder, no classifier).
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"{path}: expected a checkpoint of CAV-MAE, got no such file. Download a fine-tuned one from the table "
            "'Pretrained+Finetuned Models' of YuanGongND/cav-mae."
        )
    inputs = cav_mae_inputs(rate)
    with torch.device("meta"):  # weights are read, not drawn
        net = CavMae(classes, inputs, mode=mode, multi_label=multi_label)
    weights = torch_file.named_tensors(path)
    torch_file.check_names(
        weights, net.state_dict(), path, f"a CAV-MAE that was fine-tuned on {classes} classes",
        "a fine-tuned checkpoint of that many classes; one of pretraining has a decoder_embed and no mlp_head, and "
        "classifies nothing",
    )  # fmt: skip
    net.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)
    return net.eval()


def cav_mae_inputs(rate: int, frames: int = CavMaeSize.frames) -> AV[nn.Module]:
    """The front ends of CAV-MAE: 128 mel bands at 16 kHz, normalised by -5.081 and 4.4849; frames of 224 x 224 pixels.

    As its `dataloader.py` and its recipes for AudioSet and VGGSound have them.  Largest difference from torchaudio's
    `compliance.kaldi.fbank`, which it calls, on 20 real clips of music and speech: 5.5e-4 of values from -2.4 to 2.7 (its own
    rounding: it computes in float32; 1.0e-4 where it gets float64).  Longer clips are cut at 10.26 s; after shorter ones the
    spectrogram is 0 before it is normalised.  Frames are resized by the bilinear filter and cropped, as its
    `extract_video_frame.py` does.  It then stores them as JPEG; here they are not compressed, and not rounded to 8 bits
    (1 grey level, see `resize`).

    >>> cav_mae_inputs(rate=16_000).map(lambda front_end, s: front_end(s).shape, AV(torch.zeros(1, 800), torch.zeros(1, 2, 3, 90, 160)))
    AV(audio=torch.Size([1, 1024, 128]), visual=torch.Size([1, 2, 3, 224, 224]))
    """
    mel = MelSettings(
        rate=16_000, frame=400, hop=160, fft=512, kaldi=True, mel=MelFilters(BANDS, 20, 8_000, "kaldi"), frames=frames,
        floor=1.192092955078125e-07, log=math.e, mean=-5.081, std=4.4849,
    )  # fmt: skip
    pixels = FrameSettings(
        resize=SIDE, filter="bilinear", crop=(SIDE, SIDE), crop_to_even=True, mean=IMAGENET_MEAN, std=IMAGENET_STD
    )
    return AV(audio=AudioFrontEnd(mel, rate), visual=VisualFrontEnd(pixels))


class CavMae(nn.Module):
    """A transformer for patches of the spectrogram, one for patches of a frame, and one for both together.

    `embed` gives the patches of each modality behind its own blocks, (b 512 d) and (b t 196 d); `decide` runs the joint
    blocks once per frame.  The answer for t frames is the mean over them of the predicted probabilities, as in the published
    evaluation (of 10 frames): as logits, of one class per clip or, `multi_label`, of each label.  With one frame they are
    the network's own logits.  Weights are random; `cav_mae` loads published ones.

    >>> net = CavMae(3, cav_mae_inputs(16_000, frames=64), CavMaeSize(width=16, heads=2, separate=1, frames=64)).eval()
    >>> net(AV(audio=torch.zeros(2, 8_000), visual=torch.zeros(2, 1, 3, 48, 64))).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        classes: int,
        inputs: AV[nn.Module],
        size: CavMaeSize | None = None,
        *,
        mode: str = "multimodal",
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        if mode not in NORMS:
            raise ValueError(f"expected a mode of {', '.join(NORMS)}, got {mode!r}. Give the one of the fine-tuning.")
        size = size or CavMaeSize()
        self.mode, self.multi_label = mode, multi_label
        self.inputs = nn.ModuleDict(dict(inputs.items()))
        positions = {"a": (BANDS // PATCH) * (size.frames // PATCH), "v": (SIDE // PATCH) ** 2}
        for kind, colours in (("a", 1), ("v", 3)):
            patches = nn.Conv2d(colours, size.width, PATCH, PATCH)
            self.add_module(f"patch_embed_{kind}", nn.ModuleDict({"proj": patches}))
            modality, places = torch.empty(1, 1, size.width), torch.empty(1, positions[kind], size.width)
            self.register_parameter(f"modality_{kind}", nn.Parameter(nn.init.normal_(modality, std=0.02)))
            self.register_parameter(f"pos_embed_{kind}", nn.Parameter(nn.init.normal_(places, std=0.02)))
        for kind, depth in (("a", size.separate), ("v", size.separate), ("u", size.joint)):
            self.add_module(f"blocks_{kind}", nn.ModuleList(Block(size.width, size.heads) for _ in range(depth)))
        for norms in NORMS.values():
            self.add_module(f"norm{norms}", nn.LayerNorm(size.width))
        self.mlp_head = nn.Sequential(nn.LayerNorm(size.width), nn.Linear(size.width, classes))

    def embed(self, x: Signals) -> AV[Tensor]:
        """The patches of each modality; of one that the mode ignores, (b 0)."""
        hears, sees = self.mode != "videoonly", self.mode != "audioonly"
        return AV(
            audio=self._heard(x.audio) if hears else x.audio.new_zeros((len(x.audio), 0)),
            visual=self._seen(x.visual) if sees else x.visual.new_zeros((len(x.visual), 0)),
        )

    def decide(self, f: AV[Tensor]) -> Float[Tensor, "b k"]:
        """Logits of what `embed` gives."""
        times = f.visual.shape[1] if self.mode != "audioonly" else 1
        heard = [f.audio[:, None].expand(-1, times, -1, -1)] if self.mode != "videoonly" else []
        seen = [f.visual] if self.mode != "audioonly" else []
        z = torch.cat(heard + seen, 2).flatten(0, 1)
        norms = NORMS[self.mode]
        for block in self.get_submodule("blocks_u").children():
            z = block(z, norms)
        z = self.get_submodule(f"norm{norms}")(z).mean(1)
        return over_frames(self.mlp_head(z).unflatten(0, (len(f.audio), times)), self.multi_label)

    def forward(self, x: Signals) -> Float[Tensor, "b k"]:
        """Logits of the clips."""
        return self.decide(self.embed(x))

    def _heard(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b p d"]:
        return self._patches(self.inputs["audio"](wave).mT[:, None], "a")

    def _seen(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b t p d"]:
        images: Tensor = self.inputs["visual"](frames)
        z = self._patches(images.flatten(0, 1), "v")
        return z.view(*frames.shape[:2], *z.shape[1:])

    def _patches(self, picture: Float[Tensor, "b c h w"], kind: str) -> Float[Tensor, "b p d"]:
        """A picture's or a spectrogram's patches (lines one after the other) behind the blocks of its modality."""
        z: Tensor = self.get_submodule(f"patch_embed_{kind}.proj")(picture).flatten(2).mT
        z = z + self.get_parameter(f"pos_embed_{kind}") + self.get_parameter(f"modality_{kind}")
        for block in self.get_submodule(f"blocks_{kind}").children():
            z = block(z)
        return z


class Block(nn.Module):
    """Self-attention and two layers, each behind a normalisation; of these there is one for both modalities and one for each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        for norms in NORMS.values():
            self.add_module(f"norm1{norms}", nn.LayerNorm(width))
            self.add_module(f"norm2{norms}", nn.LayerNorm(width))
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(
            OrderedDict(fc1=nn.Linear(width, 4 * width), act=nn.GELU(), fc2=nn.Linear(4 * width, width))
        )

    def forward(self, z: Float[Tensor, "b p d"], norms: str = "") -> Float[Tensor, "b p d"]:
        """The tokens behind the block."""
        z = z + self.attn(self.get_submodule(f"norm1{norms}")(z))
        out: Tensor = z + self.mlp(self.get_submodule(f"norm2{norms}")(z))
        return out


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, z: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
        """Each token, from all of them."""
        q, k, v = self.qkv(z).unflatten(2, (3, self.heads, z.shape[2] // self.heads)).permute(2, 0, 3, 1, 4)
        out: Tensor = self.proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


def over_frames(logits: Float[Tensor, "b t k"], multi_label: bool) -> Float[Tensor, "b k"]:
    """Logits of the mean over frames of the probabilities; of a single frame, its own.

    >>> over_frames(torch.tensor([[[0.0, 0.0], [3.0, 0.0]]]), multi_label=False).softmax(1)
    tensor([[0.7263, 0.2737]])
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    if multi_label:
        yes, no = (nn.functional.logsigmoid(z).logsumexp(1) for z in (logits, -logits))
        return yes - no
    return logits.log_softmax(2).logsumexp(1) - math.log(logits.shape[1])
