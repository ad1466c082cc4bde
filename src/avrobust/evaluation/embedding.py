"""Features of both modalities: t-SNE for a figure, and class separation in numbers.  Arrays in, numbers out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from avrobust.extras import needs

Points = Float[np.ndarray, "n d"]
Places = Float[np.ndarray, "n 2"]
Classes = Int[np.ndarray, " n"]


def embed(audio: Points, visual: Points, seed: int) -> tuple[Places, Places]:
    """Both modalities' features in one plane, by t-SNE (van der Maaten & Hinton 2008): (audio, visual), (n 2) each.

    Clips that are close in the plane are close in feature space; distances between distant groups mean little.
    """
    with needs("report"):
        from sklearn.manifold import TSNE
    n = len(audio)
    perplexity = min(30.0, (2 * n - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed % 2**32)
    places = tsne.fit_transform(np.concatenate([audio, visual])).astype(np.float32)
    return places[:n], places[n:]


@dataclass(frozen=True)
class Spread:
    """How well one modality's features separate the classes, by cosine distance, which ignores the features' length.

    `silhouette` of the classes, in [-1, 1]: 1 is fully separated.  `within` and `between`: mean distance of two clips of the
    same class, and of different classes; nan where there is no such pair.
    """

    silhouette: float
    within: float
    between: float


def spread(points: Points, label: Classes) -> Spread:
    """The class separation of features.

    >>> found = spread(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), np.array([0, 0, 1, 1]))
    >>> found.silhouette > 0.9, found.within < 0.1 * found.between
    (True, True)
    """
    with needs("report"):
        from sklearn.metrics import silhouette_score
    line = unit(points)
    far = 1 - line @ line.T
    same = label[:, None] == label[None]
    pair = ~np.eye(len(label), dtype=bool)
    judged = 1 < len(np.unique(label)) < len(label)
    return Spread(
        silhouette=float(silhouette_score(points, label, metric="cosine")) if judged else float("nan"),
        within=_mean(far[same & pair]),
        between=_mean(far[~same]),
    )


def alignment(audio: Points, visual: Points) -> float:
    """The mean cosine between both features of a clip; what MinSim lowers and MaxSim raises.

    >>> alignment(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]]))
    0.0
    """
    return _mean((unit(audio) * unit(visual)).sum(1))


def unit(points: Points) -> Points:
    """Each feature at length 1."""
    long: Points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    return long


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
