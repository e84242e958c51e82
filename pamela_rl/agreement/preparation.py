"""Ratings from any source, encoded, and split where that is how they are measured: ready to fit models to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from pamela_rl.agreement.answers import Answers, read_answers
from pamela_rl.agreement.ceiling import implied_ceiling, rerating_agreement
from pamela_rl.agreement.per_user import Agreement
from pamela_rl.agreement.study import Study, make_study
from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.leaks import find_leaks
from pamela_rl.data.near_duplicates import near_duplicates
from pamela_rl.data.ratings import RatingTable
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.splits import SplitAssignment, SplitFractions, assign_splits
from pamela_rl.errors import DataError
from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.personal import FittedOn
from pamela_rl.rewards.preference import Encoder, RatingData, feature_parts

METADATA = ("group", "style", "type")  # of images, where the table has them
FEW_PEOPLE = 10  # are measured by cross-validation over images
JUDGE_ALONE, JUDGE_SHARE = 200, 0.3  # answers a person from which on the judge has images of its own; their share


@dataclass(frozen=True)
class JudgeData:
    """What a second reward is fitted on, which watches the first.

    Attributes:
        encoder: Another than the reward's.
        data: Ratings and choices, with that encoder's features.
        fitted_on: Their users and images.
        alone: Whether the reward was shown none of these images.
    """

    encoder: Encoder
    data: RatingData
    fitted_on: FittedOn
    alone: bool


@dataclass(frozen=True)
class PreparedStudy:
    """A study, and what belongs to it.

    Attributes:
        study: Ratings, encoded, and split if people or images are held out once.
        encoder: What made the features.
        ceilings: Agreement that no model can beat but by luck, where it is known.
        open_image: Opens the image of a row of features.
        judge: Data of a judge, or None for none.
    """

    study: Study
    encoder: Encoder
    ceilings: list[Agreement]
    open_image: Callable[[int], Image.Image]
    judge: JudgeData | None = None


def prepare_study(
    source: SourceSettings,
    encoder_name: str,
    cache: Path,
    seed: int = 0,
    *,
    judge_encoder: str | None = None,
    unseen_users: float | None = None,
    group_near_duplicates: bool = True,
) -> PreparedStudy:
    """Read and encode ratings, decide how models are measured on them, and print how many there are.

    Tables with splits of their own keep them. Of many people's tables images and people are held out; those of up to
    ``FEW_PEOPLE`` are left whole, to be cross-validated over images. Where users rated an image twice, the agreement of
    their two ratings gives the ceilings.

    Args:
        source: Where the ratings are.
        encoder_name: As ``open_encoder`` takes it.
        cache: Where features are kept between runs.
        seed: Of splits.
        judge_encoder: Of a judge, another than the reward's, or None for no judge. From ``JUDGE_ALONE`` answers a
            person on, some images are the judge's alone.
        unseen_users: Share of people held out as newcomers; None holds out a fifth of more than ``FEW_PEOPLE``.
        group_near_duplicates: Whether images that are nearly the same stay on one side.

    Raises:
        DataError: A file cannot be read, a row is wrong, the splits leak, or all ratings are the same.
        ConfigError: An encoder cannot be loaded.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = open_encoder(encoder_name, device)
    answers = read_answers(source)
    groups = near_duplicates(answers.images, answers.store) if group_near_duplicates else {}
    _tell_of_groups(groups)
    features = answers.encoded(encoder, cache)
    judged = frozenset[str]()
    if judge_encoder is not None and median(answers.people.values()) >= JUDGE_ALONE:
        judged = _images_of_judge(answers.images, groups, seed)
    kept, with_prompts = answers.without(judged), any(answers.prompts)
    study = make_study(
        kept.ratings, features, answers.images, kept.choices, METADATA, seed, groups=groups,
        prompts=with_prompts and encoder.reads_prompts, num_parts=feature_parts(encoder),
        sides=_sides(kept, groups, unseen_users, seed),
    )  # fmt: skip
    judge = None
    if judge_encoder is not None:
        eyes = open_encoder(judge_encoder, device)
        own = answers.only(judged) if judged else answers
        held = make_study(
            own.ratings, own.encoded(eyes, cache), own.images, own.choices, METADATA, seed + 1,
            prompts=with_prompts and eyes.reads_prompts, num_parts=feature_parts(eyes),
        )  # fmt: skip
        judge = JudgeData(eyes, held.everything, held.fitted_on_everything, bool(judged))
    ceilings = _ceilings(answers.ratings)
    return PreparedStudy(study, encoder, ceilings, lambda row: answers.store.open(answers.images[row]), judge)


def _sides(
    answers: Answers, groups: Mapping[str, str], unseen_users: float | None, seed: int
) -> SplitAssignment | None:
    """Return None for tables with splits of their own, if these do not leak, and for those to be cross-validated.

    Raises:
        DataError: The splits leak, or there are too few people or images for the share of people that is asked for.
    """
    tables: list[RatingTable | ChoiceTable] = [answers.ratings] if len(answers.ratings.rows) else []
    tables += [answers.choices] if answers.choices else []
    if all("split" in table.rows.columns for table in tables):
        found = find_leaks(*tables)
        if found:
            raise DataError(f"the splits of {tables[0].source} leak. {' '.join(found)}")
        return None
    if len(answers.people) <= FEW_PEOPLE and unseen_users is None:
        return None
    fractions = SplitFractions() if unseen_users is None else SplitFractions(unseen_users=unseen_users)
    try:
        return assign_splits(tables, seed, fractions, groups)
    except DataError as error:
        if unseen_users is not None:
            raise
        print(f"{error} Until then models are cross-validated over images.")
        return None


def _images_of_judge(images: Sequence[str], groups: Mapping[str, str], seed: int) -> frozenset[str]:
    names = sorted({groups.get(image, image) for image in images})
    chosen = np.random.default_rng((seed, 2)).permutation(names)[: round(JUDGE_SHARE * len(names))]
    return frozenset(image for image in images if groups.get(image, image) in set(chosen))


def _ceilings(table: RatingTable) -> list[Agreement]:
    if not table.rows.duplicated(["user_id", "image"]).any():
        return []
    try:
        again = rerating_agreement(table)
    except DataError as error:
        print(f"No ceiling is shown: {error}")
        return []
    return [again, implied_ceiling(again)]


def _tell_of_groups(groups: Mapping[str, str]) -> None:
    sizes = Counter(groups.values())
    if sizes and max(sizes.values()) > max(2, len(groups) / 3):
        print(
            f"{max(sizes.values())} of {len(groups)} images are nearly the same, and are held out together when the "
            "reward is measured; --near_duplicates apart measures on them one by one."
        )
