"""A held-out reward to detect reward hacking: fitted on other users' ratings of other pictures, with another seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from pamela_rl.data.ratings import RatingTable
from pamela_rl.errors import ConfigError, DataError
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.types import Verdict


@dataclass(frozen=True)
class Judge:
    """Scores pictures like a reward, but returns a ``Verdict``, which training steps do not accept.

    Create it with ``independent_of``, which refuses a reward that shares data with the judged one.
    """

    _model: PersonalReward

    @classmethod
    def independent_of(cls, reward: PersonalReward, other: PersonalReward) -> Judge:
        """Make ``other`` a judge of ``reward``.

        Both may know the users whose adapters are judged, but from ratings of different pictures; all other raters must
        be different. Another encoder is recommended, because both rewards are blind to what a shared encoder does not
        represent.

        Raises:
            ConfigError: They share pictures, raters or the seed, or the data of one of them is not known.
        """
        own, others = reward.fitted_on, other.fitted_on
        for name, fitted_on in (("reward", own), ("judge", others)):
            if not fitted_on.users or not fitted_on.images:
                raise ConfigError(
                    f"the {name} does not say which people and pictures it was fitted on, so that it may share some "
                    "with the other; fit it with fitted_on=."
                )
        for what, shared in (("people", own.users & others.users), ("pictures", own.images & others.images)):
            if shared:
                raise ConfigError(
                    f"the judge learned from {len(shared)} {what} that the reward learned from too, e.g. "
                    f"{min(shared)!r}; split the ratings with split_for_judge before fitting either."
                )
        if own.seed == others.seed:
            raise ConfigError(f"reward and judge were both fitted with seed {own.seed}; give the judge another.")
        return cls(other)

    @property
    def user_ids(self) -> tuple[str, ...]:
        """Users that the judge knows."""
        return self._model.model.user_ids

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> Verdict:
        """Predict the rating of each picture by its user, as ``PersonalReward`` does."""
        output = self._model(images, prompts, user_ids)
        return Verdict(output.mean.detach(), None if output.std is None else output.std.detach())


@dataclass(frozen=True)
class JudgeSplit:
    """Ratings for a reward and for its judge, without common pictures, and without common users except those judged.

    Attributes:
        reward: Training ratings of the reward.
        judge: Training ratings of the judge.
        support: Ratings of the judge's pictures by the reward's users; ``introduce`` the users to judge with them.
    """

    reward: RatingTable
    judge: RatingTable
    support: RatingTable


def split_for_judge(table: RatingTable, share: float = 0.3, seed: int = 0) -> JudgeSplit:
    """Split off a fraction of the users and of the pictures for a judge.

    Ratings of the reward's pictures by the judge's users are not used.

    Raises:
        DataError: A part would be empty.
    """
    rows, numbers = table.rows, np.random.default_rng(seed)
    masks = {}
    for column in ("user_id", "image"):
        names = rows[column].unique()
        masks[column] = rows[column].isin(numbers.permutation(names)[: round(share * len(names))])
    judge_users, judge_images = masks["user_id"], masks["image"]
    parts = [rows[~judge_users & ~judge_images], rows[judge_users & judge_images], rows[~judge_users & judge_images]]
    if any(part.empty for part in parts):
        raise DataError(
            f"with a share of {share:g} of {rows['user_id'].nunique()} people and {rows['image'].nunique()} pictures "
            "set apart, the reward or its judge has no rating left; use a share nearer to one half or more ratings."
        )
    return JudgeSplit(*(replace(table, rows=part) for part in parts))
