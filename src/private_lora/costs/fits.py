"""A law of the sizes of products, fitted to measured ones."""

from __future__ import annotations

import numpy as np


def features(shapes: np.ndarray) -> np.ndarray:
    """[1, K, D, K D] of shapes (n x 2: inputs, outputs): n x 4."""
    k, d = shapes.T
    return np.stack([np.ones(len(shapes)), k, d, k * d], axis=1)


def fit(shapes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Coefficients >= 0 of [1, K, D, K D] with the least squares of relative errors; all 0 where no value is above 0."""
    from scipy.optimize import nnls  # slow to import, and most tables fit nothing

    shapes, values = shapes[values > 0], values[values > 0]
    if not len(values):
        return np.zeros(4)
    weighted = features(shapes) / values[:, None]
    scale = weighted.max(axis=0)
    return nnls(weighted / scale, np.ones(len(values)))[0] / scale
