"""A second reward to detect reward hacking: never trained against, and blind to other things than the first."""

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
    """Scores images like a reward, but returns a ``Verdict``, which training steps do not accept.

    Create it with ``of``, which refuses a reward that is blind to the same things as the judged one.

    Attributes:
        basis: In what it is independent of the reward, in words.
    """

    _model: PersonalReward
    basis: str

    @classmethod
    def of(cls, reward: PersonalReward, other: PersonalReward) -> Judge:
        """Make ``other`` a judge of ``reward``.

        What a reward gets wrong, it gets from its encoder or from its ratings; so a judge must differ in one of them.
        With the same encoder it must not share people or images; people to be judged are introduced to it by other
        ratings. With another encoder it may: it then tells what only one pair of eyes sees, but not a mistake in the
        ratings.

        Raises:
            ConfigError: Both have the same encoder and share images, raters or the seed, or the data of one of them is
                not known.
        """
        own, others = reward.fitted_on, other.fitted_on
        for name, fitted_on in (("reward", own), ("judge", others)):
            if not fitted_on.users or not fitted_on.images:
                raise ConfigError(
                    f"the {name} does not say which people and images it was fitted on, so that it may share some "
                    "with the other; fit it with fitted_on=."
                )
        people, images = own.users & others.users, own.images & others.images
        if reward.encoder.fingerprint != other.encoder.fingerprint:
            seen = "the same ratings" if images else "ratings of other images"
            return cls(other, f"{seen} through another encoder ({other.encoder.name})")
        for what, shared in (("people", people), ("images", images)):
            if shared:
                raise ConfigError(
                    f"the judge learned from {len(shared)} {what} that the reward learned from too, e.g. "
                    f"{min(shared)!r}, through the same encoder; split the ratings with split_for_judge before fitting "
                    "either, or give the judge another encoder."
                )
        if own.seed == others.seed:
            raise ConfigError(f"reward and judge were both fitted with seed {own.seed}; give the judge another.")
        return cls(other, "other people's ratings of other images")

    @property
    def user_ids(self) -> tuple[str, ...]:
        """Users that the judge knows."""
        return self._model.model.user_ids

    @property
    def encoder_name(self) -> str:
        """Name of the encoder that it sees by."""
        return self._model.encoder.name

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> Verdict:
        """Predict the rating of each image by its user, as ``PersonalReward`` does."""
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
