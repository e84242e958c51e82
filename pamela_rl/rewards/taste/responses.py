"""Ratings and choices as one list of normal observations of what people think of images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pamela_rl.rewards.preference import RatingData
from pamela_rl.rewards.taste.evidence import LOGISTIC, response_columns


@dataclass(frozen=True)
class Responses:
    """Responses of all users, one per row, ``(n,)`` each; a user's repeated ratings of an image are one row.

    Attributes:
        users: Row of the user.
        first: Row of the image.
        second: Row of the second image of a choice, or -1.
        values: Mean rating; for a choice +1/2, -1/2, or 0 for a tie, float64.
        counts: Ratings in the mean, 1 for a choice, float64.
        sums_of_squares: Squared deviations of repeats from their mean, summed, float64.
        repeats: Ratings beyond the first, float64.
        curvature: Curvature of the bound on a choice's logistic likelihood, 0 to 1/4, float64.
    """

    users: Tensor
    first: Tensor
    second: Tensor
    values: Tensor
    counts: Tensor
    sums_of_squares: Tensor
    repeats: Tensor
    curvature: Tensor

    @classmethod
    def of(cls, data: RatingData) -> Responses:
        """Collect the training responses."""
        columns = [torch.from_numpy(column) for column in response_columns(data.train, data.choices)]
        users, first, second = (column.long() for column in columns[:3])
        values, counts, squares, repeats = (column.double() for column in columns[3:])
        return cls(users, first, second, values, counts, squares, repeats, torch.full_like(values, 0.25))

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, rows: Tensor) -> Responses:
        """Return some responses."""
        return Responses(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @property
    def is_choice(self) -> Tensor:
        """Which responses are choices, ``(n,)``."""
        return self.second >= 0

    def observations(self, noise: Tensor, misfit: Tensor | float, known: Tensor) -> tuple[Tensor, Tensor]:
        """Return each response as a normal observation: its value without what is known of it, and its variance.

        A choice is Bradley-Terry on the difference, in units of the noise of comparing two ratings; its logistic
        likelihood enters through the normal bound of Jaakkola and Jordan (2000).

        Args:
            noise: Variance of a single rating of each response's user, ``(n,)``.
            misfit: Variance of what is the same in all ratings of an image by a user, and different at every image.
            known: Score of a rating's image, difference of scores of a choice's, ``(n,)``.
        """
        comparison = 2 * (noise + misfit).detach() / LOGISTIC**2  # squared rating points in a squared logit
        targets = torch.where(self.is_choice, self.values * comparison.sqrt() / self.curvature, self.values) - known
        return targets, torch.where(self.is_choice, comparison / self.curvature, misfit + noise / self.counts)

    @property
    def images(self) -> Tensor:
        """Rows of the images that there are responses to, rising, ``(m,)``."""
        return torch.cat([self.first, self.second[self.is_choice]]).unique()

    def known(self, score: Tensor) -> Tensor:
        """Return what the same score of every image, ``()``, tells of each response: of a choice nothing, ``(n,)``."""
        return torch.where(self.is_choice, 0.0, score.double())

    def repeat_loss(self, noise: Tensor) -> Tensor:
        """Return the negative log-likelihood of repeats around their means, ``(n,)`` or as ``noise`` is broadcast to."""
        return 0.5 * (self.repeats * noise.log() + self.sums_of_squares / noise)

    def tightened(self, mean: Tensor, variance: Tensor, noise: Tensor) -> Responses:
        """Return a copy with the bound on choices fitted to the posterior of each response's difference, ``(n,)``."""
        xi = ((mean.square() + variance) * LOGISTIC**2 / (2 * noise)).sqrt().clamp(min=1e-6)
        return replace(self, curvature=torch.where(self.is_choice, torch.tanh(xi / 2) / (2 * xi), self.curvature))

    def rows_of(self, values: Tensor) -> Tensor:
        """Return ``values`` of each response's image, ``(n, k)``, from those of all images, ``(m, k)``; differences for choices."""
        against = torch.where(self.is_choice[:, None], values[self.second.clamp(min=0)], 0.0)
        return values[self.first] - against
