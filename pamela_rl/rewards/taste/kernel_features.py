"""Features of a Gaussian process: tastes for images like those that were rated, none for others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

MIN_UNEXPLAINED = 0.01  # share of the variance at an image that makes it worth a landmark
BUFFERS = ("landmarks", "centre", "weights", "length", "linear", "variance", "rating_mean")
JITTER = 1e-6  # of the kernel's 1, so that images that are nearly the same can both be landmarks


def directions(features: Tensor, centre: Tensor, parts: int) -> Tensor:
    """Return the direction of each part of features from its centre, ``(n, parts, d / parts)``, float64.

    A part that is the same in all images has none: zeros.
    """
    away = (features.double() - centre).unflatten(-1, (parts, -1))
    return normalize(away, dim=-1, eps=1e-9)


def unit(features: Tensor, centre: Tensor, weights: Tensor) -> Tensor:
    """Return unit vectors, ``(n, d)``, whose cosines are means of the parts' cosines, weighted by ``weights``, ``(p,)``."""
    return (directions(features, centre, len(weights)) * weights.sqrt()[:, None]).flatten(-2)


def kernel(cosine: Tensor, length: Tensor, linear: Tensor) -> Tensor:
    """Return the kernel between unit vectors, 1 for equal ones, in the shape of their cosines.

    It is a mean of a squared exponential of their distance and of their cosine, the latter weighted by ``linear``.

    Args:
        cosine: Of the vectors.
        length: Distance over which tastes change, ``()``.
        linear: Weight of the cosine beside 1, ``()``.
    """
    return (((cosine - 1) / length.square()).exp() + linear * cosine) / (1 + linear)  # |a - b|^2 = 2 - 2 cos


class KernelFeatures(nn.Module):
    """Maps encoder features to the design row ``[1, psi(x)]``, with psi(x) psi(y)' = k(x, y) on the landmarks.

    It takes the place of ``TasteFeatures`` in a taste basis: a normal prior over the weights of psi is a Gaussian
    process over images, exact at the landmarks. What the landmarks leave open at other images is ``unexplained``. The
    first coordinates do not depend on later landmarks (they are whitened by Cholesky's factor), so landmarks can be
    added without changing what is known of anybody.
    """

    landmarks: Tensor
    centre: Tensor
    weights: Tensor
    length: Tensor
    linear: Tensor
    variance: Tensor
    rating_mean: Tensor

    def __init__(
        self,
        landmarks: Tensor,
        centre: Tensor,
        weights: Tensor,
        length: Tensor,
        linear: Tensor,
        variance: Tensor,
        rating_mean: Tensor,
    ):
        """Build from hyperparameters.

        Args:
            landmarks: Directions of images, ``(m, d)``, float64.
            centre: Of encoder features, ``(d,)``, float64.
            weights: Of the parts of features, which sum to 1, ``(p,)``.
            length: Of the kernel, ``()``.
            linear: Weight of its cosine, ``()``.
            variance: Prior variance of tastes over images, squared rating points, ``()``.
            rating_mean: Shared score of every image, ``()``.
        """
        super().__init__()
        given = (landmarks, centre, weights, length, linear, variance, rating_mean)
        for name, value in zip(BUFFERS, given, strict=True):
            self.register_buffer(name, value.double())
        gram = kernel(self.landmarks @ self.landmarks.T, self.length, self.linear)
        eye = torch.eye(len(gram), dtype=torch.float64)
        self.register_buffer("factor", torch.linalg.cholesky(gram + JITTER * eye), persistent=False)

    @classmethod
    def shaped_like(cls, state: Mapping[str, Tensor]) -> KernelFeatures:
        """Return the features that ``state`` was taken from."""
        return cls(*(state[name] for name in BUFFERS))

    def extended(self, features: Tensor) -> KernelFeatures:
        """Return a copy with further landmarks, whose coordinates come last.

        Args:
            features: Of the encoder, ``(n, d)``; those that the landmarks explain already, or that are repeated, are
                left out.
        """
        new = features[self.unexplained(features) > MIN_UNEXPLAINED * self.variance].unique(dim=0)
        landmarks = torch.cat([self.landmarks, unit(new, self.centre, self.weights)])
        return KernelFeatures(landmarks, *(getattr(self, name) for name in BUFFERS[1:]))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shared score, ``(b,)``, and the design row, ``(b, 1 + m)``, float64, in rating units."""
        psi = self.coordinates(features)
        return self.rating_mean.expand(len(psi)), torch.cat([torch.ones_like(psi[:, :1]), psi], dim=1)

    def unexplained(self, features: Tensor) -> Tensor:
        """Return the prior variance at images that no landmark speaks for, squared rating points, ``(b,)``."""
        return self.variance * (1 + JITTER - self.coordinates(features).square().sum(dim=1)).clamp(min=0)

    def coordinates(self, features: Tensor) -> Tensor:
        """Return psi, ``(b, m)``, float64."""
        cosine = unit(features, self.centre, self.weights) @ self.landmarks.T
        likeness = kernel(cosine, self.length, self.linear)
        return torch.linalg.solve_triangular(self.factor, likeness.T, upper=False).T
