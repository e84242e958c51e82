"""A second reward that no training can use: fitted on other people's ratings of other pictures, with another seed."""

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
    """Scores pictures for people as a reward does, but answers with a ``Verdict``, which no training step takes.

    Make one with ``apart_from``, which refuses a reward that shares anything with the one it is to judge.
    """

    _model: PersonalReward

    @classmethod
    def apart_from(cls, reward: PersonalReward, other: PersonalReward) -> Judge:
        """Make a judge of ``reward`` out of ``other``.

        Both may know the people whose adapters are judged, but from ratings of different pictures; everybody else who
        taught the one did not teach the other. Another encoder is better still; with a single one, what that encoder
        cannot see fools both.

        Raises:
            ConfigError: They share pictures, raters or the seed, or one of them does not say what it was fitted on.
        """
        mine, theirs = reward.fitted_on, other.fitted_on
        for name, facts in (("reward", mine), ("judge", theirs)):
            if not facts.users or not facts.images:
                raise ConfigError(
                    f"the {name} does not say which people and pictures it was fitted on, so nobody can tell that it "
                    "is apart from the other; fit it with fitted_on=."
                )
        for what, shared in (("people", mine.users & theirs.users), ("pictures", mine.images & theirs.images)):
            if shared:
                raise ConfigError(
                    f"the judge learned from {len(shared)} {what} that the reward learned from too, e.g. "
                    f"{min(shared)!r}; split the ratings with split_for_judge before fitting either."
                )
        if mine.seed == theirs.seed:
            raise ConfigError(f"reward and judge were both fitted with seed {mine.seed}; give the judge another.")
        return cls(other)

    @property
    def user_ids(self) -> tuple[str, ...]:
        """People the judge knows."""
        return self._model.model.user_ids

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> Verdict:
        """Predict each person's rating of each picture, as ``PersonalReward``."""
        output = self._model(images, prompts, user_ids)
        return Verdict(output.mean.detach(), None if output.std is None else output.std.detach())


@dataclass(frozen=True)
class JudgeSplit:
    """Ratings for a reward and for its judge, with no picture in common and no person but those to be judged.

    Attributes:
        reward: What the reward may learn from.
        judge: What the judge may learn from.
        shown: The reward's people's ratings of the judge's pictures: with them ``introduce`` whoever is judged.
    """

    reward: RatingTable
    judge: RatingTable
    shown: RatingTable


def split_for_judge(table: RatingTable, share: float = 0.3, seed: int = 0) -> JudgeSplit:
    """Set a share of the people and a share of the pictures apart for a judge.

    Ratings that the judge's people gave to the reward's pictures are in no part: that is the price.

    Raises:
        DataError: A part would be empty.
    """
    rows, numbers = table.rows, np.random.default_rng(seed)
    apart = {}
    for column in ("user_id", "image"):
        names = rows[column].unique()
        apart[column] = rows[column].isin(numbers.permutation(names)[: round(share * len(names))])
    person, picture = apart["user_id"], apart["image"]
    parts = [rows[~person & ~picture], rows[person & picture], rows[~person & picture]]
    if any(part.empty for part in parts):
        raise DataError(
            f"with a share of {share:g} of {rows['user_id'].nunique()} people and {rows['image'].nunique()} pictures "
            "set apart, the reward or its judge has no rating left; use a share nearer to one half or more ratings."
        )
    return JudgeSplit(*(replace(table, rows=part) for part in parts))
