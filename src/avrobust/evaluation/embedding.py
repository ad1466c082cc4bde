"""Features of both modalities as a picture (Figure 5), and in numbers."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from avrobust.types import AV

Points = Float[np.ndarray, "n d"]


def embed(f: AV[Points], seed: int) -> AV[Float[np.ndarray, "n 2"]]:
    """Both modalities' features in one plane, by t-SNE (van der Maaten & Hinton 2008).

    Clips that are near each other there are near each other in truth; distances between far groups mean little.
    """
    n = len(f.audio)
    perplexity = min(30.0, (2 * n - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed % 2**32).fit_transform(np.concatenate(tuple(f)))
    return AV(audio=points[:n].astype(np.float32), visual=points[n:].astype(np.float32))


@dataclass(frozen=True)
class Spread:
    """How features lie: by modality, the silhouette of the classes in [-1, 1] and the ratio of the mean distance
    between clips of one class to that of clips of different ones (cosine distance, which feature scale leaves alone);
    and the mean cosine between both features of a clip."""

    silhouette: AV[float]
    compactness: AV[float]
    cosine: float


def spread(f: AV[Points], label: Int[np.ndarray, " n"]) -> Spread:
    """Of features and classes.  nan where a class stands alone or each clip is one.

    >>> points = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> found = spread(AV(points, points), np.array([0, 0, 1, 1]))
    >>> found.silhouette.audio > 0.9, found.compactness.audio < 0.1, round(found.cosine, 3)
    (True, True, 1.0)
    """
    unit = f.map(lambda p: p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-12))
    return Spread(
        silhouette=f.map(lambda p: _silhouette(p, label)),
        compactness=unit.map(lambda p: _compactness(p, label)),
        cosine=float((unit.audio * unit.visual).sum(1).mean()) if f.audio.shape == f.visual.shape else float("nan"),
    )


def _silhouette(points: Points, label: Int[np.ndarray, " n"]) -> float:
    if not 1 < len(set(label.tolist())) < len(label):
        return float("nan")
    return float(silhouette_score(points, label, metric="cosine"))


def _compactness(unit: Points, label: Int[np.ndarray, " n"]) -> float:
    far = 1 - unit @ unit.T
    same = label[:, None] == label[None]
    other = ~np.eye(len(label), dtype=bool)
    within, between = far[same & other], far[~same]
    return float(within.mean() / between.mean()) if within.size and between.size else float("nan")
