"""Fusions of audio and visual features: the five that Tian & Xu 2021 compare in Table 2, and spatial attention.

Below, a and v are the features of audio and video, * is element by element, s is the logistic function, and
U, V are learnt affine maps.  The paper names its fusions but prints no formulas: where the cited works use one
modality to change the other, both change each other here, for the paper speaks of "updated audio and visual
information" that is then summed or concatenated.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avrobust.types import AV


class Fusion(nn.Module):
    """The base of fusions: features of both modalities in, one vector of `width` numbers per clip out.

    A fusion is built from the features' widths.  `spatial`: it takes visual features as a map (b d t h w) rather than
    as one vector per clip.
    """

    width: int
    spatial: bool = False

    def __init__(self, widths: AV[int]) -> None:
        super().__init__()


class Concat(Fusion):
    """[a; v].  The published code puts video first; here audio comes first, as everywhere."""

    def __init__(self, widths: AV[int]) -> None:
        super().__init__(widths)
        self.width = widths.audio + widths.visual

    def forward(self, f: AV[Tensor]) -> Float[Tensor, "b d"]:
        """Both features side by side."""
        return torch.cat([f.audio, f.visual], dim=1)


class Sum(Fusion):
    """a + v."""

    def __init__(self, widths: AV[int]) -> None:
        super().__init__(widths)
        self.width = same(widths)

    def forward(self, f: AV[Tensor]) -> Float[Tensor, "b d"]:
        """The features' sum."""
        return f.audio + f.visual


class FiLM(Fusion):
    """(a * (1 + U v) + U' v) + (v * (1 + V a) + V' a): each scales and shifts the other, then the sum.

    Perez, Strub, de Vries, Dumoulin, Courville: "FiLM: visual reasoning with a general conditioning layer", AAAI
    2018; the 1 is theirs: the layer starts near the identity.  There one modality conditions the other.
    """

    def __init__(self, widths: AV[int]) -> None:
        super().__init__(widths)
        self.width = same(widths)
        self.from_visual = nn.Linear(widths.visual, 2 * widths.audio)
        self.from_audio = nn.Linear(widths.audio, 2 * widths.visual)

    def forward(self, f: AV[Tensor]) -> Float[Tensor, "b d"]:
        """The sum of the modulated features."""
        scale_a, shift_a = self.from_visual(f.visual).chunk(2, dim=1)
        scale_v, shift_v = self.from_audio(f.audio).chunk(2, dim=1)
        z: Tensor = f.audio * (1 + scale_a) + shift_a + f.visual * (1 + scale_v) + shift_v
        return z


class Gated(Fusion):
    """(s(U v) * a, s(V a) * v), for `GatedSum` and `GatedConcat`: each modality opens and closes the other.

    Kiela, Grave, Joulin, Mikolov: "Efficient large-scale multi-modal classification", AAAI 2018.  There one
    modality gates the other; here both do.
    """

    def __init__(self, widths: AV[int]) -> None:
        super().__init__(widths)
        self.from_visual = nn.Linear(widths.visual, widths.audio)
        self.from_audio = nn.Linear(widths.audio, widths.visual)

    def gate(self, f: AV[Tensor]) -> AV[Tensor]:
        """Both features, each times its gate."""
        return AV(
            audio=torch.sigmoid(self.from_visual(f.visual)) * f.audio,
            visual=torch.sigmoid(self.from_audio(f.audio)) * f.visual,
        )


class GatedSum(Gated):
    """s(U v) * a + s(V a) * v."""

    def __init__(self, widths: AV[int]) -> None:
        super().__init__(widths)
        self.width = same(widths)

    def forward(self, f: AV[Tensor]) -> Float[Tensor, "b d"]:
        """The sum of the gated features."""
        g = self.gate(f)
        return g.audio + g.visual


class GatedConcat(Gated):
    """[s(U v) * a; s(V a) * v]."""

    def __init__(self, widths: AV[int]) -> None:
        super().__init__(widths)
        self.width = widths.audio + widths.visual

    def forward(self, f: AV[Tensor]) -> Float[Tensor, "b d"]:
        """The gated features side by side."""
        g = self.gate(f)
        return torch.cat([g.audio, g.visual], dim=1)


class Attention(Fusion):
    """[a; sum of w_i v_i over positions i]: audio attends to video (section 4.5), w = softmax(a . v_i / sqrt(d)).

    Tian et al.: "Audio-visual event localization in unconstrained videos", ECCV 2018; Senocak et al.: "Learning to
    localize sound source in visual scenes", CVPR 2018.  The paper's softmax has no sqrt(d): on 512 features its
    weights soon are 0 and 1, and training hardly changes them; see `RawAttention`.

    A visual-only network has a learnt query in place of a, the same for every clip: its attention depends on the video
    alone.
    """

    spatial = True
    scaled = True

    def __init__(self, widths: AV[int]) -> None:
        super().__init__(widths)
        if widths.audio:
            same(widths)
        self.query = None if widths.audio else nn.Parameter(torch.zeros(widths.visual))  # uniform attention at first
        self.width = widths.audio + widths.visual

    def heat(self, f: AV[Tensor]) -> Float[Tensor, "b t h w"]:
        """The attention weight of each position: positive, with sum 1 per clip."""
        query = f.audio if self.query is None else self.query.expand(len(f.visual), -1)
        affinity = torch.einsum("bd,bdthw->bthw", query, f.visual)
        if self.scaled:
            affinity = affinity / query.shape[1] ** 0.5
        return affinity.flatten(1).softmax(1).view_as(affinity)

    def forward(self, f: AV[Tensor]) -> Float[Tensor, "b d"]:
        """The audio features beside the attended visual features."""
        seen = torch.einsum("bthw,bdthw->bd", self.heat(f), f.visual)
        return torch.cat([f.audio, seen], dim=1)


class RawAttention(Attention):
    """`Attention` with the paper's own weights, softmax(a . v_i)."""

    scaled = False


def same(widths: AV[int]) -> int:
    """The width of features that are to be added."""
    if widths.audio != widths.visual:
        raise ValueError(
            f"expected features of one width to add, got {widths.audio} (audio) and {widths.visual} (visual). "
            "Use the fusion 'concat' or 'gated-concat', or encoders of the same width."
        )
    return widths.audio


FUSIONS: dict[str, type[Fusion]] = {
    "concat": Concat,
    "sum": Sum,
    "film": FiLM,
    "gated-sum": GatedSum,
    "gated-concat": GatedConcat,
    "attention": Attention,
    "attention-raw": RawAttention,
}
