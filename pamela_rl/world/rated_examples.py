"""People's rated images as examples to learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pamela_rl.agreement.answers import Answers, read_answers
from pamela_rl.data.settings import SourceSettings
from pamela_rl.errors import DataError
from pamela_rl.training.examples import RatedExamples


def read_prompted_answers(source: SourceSettings, users: Sequence[str]) -> Answers:
    """Read people's answers about images whose prompts are known; needs no model.

    Args:
        source: Where they are; a column of prompts is needed.
        users: Who must be among them.

    Raises:
        DataError: A file cannot be read, an image has no prompt, or a user answered nothing.
    """
    answers = read_answers(source)
    if not all(answers.prompts):
        raise DataError(
            f"{answers.ratings.source} does not say which prompts its images were made for, which learning from them needs; "
            "add a column 'prompt', as pamela draw writes it."
        )
    known = answers.people
    for user in users:
        if user not in known:
            raise DataError(f"{user!r} rated nothing in {answers.ratings.source}; those who did: {', '.join(known)}.")
    return answers


def rated_examples(answers: Answers, user: str, height: int, width: int) -> RatedExamples:
    """Collect one user's images.

    Args:
        answers: Of the user and others.
        user: Whose.
        height: Of the images, in pixels; they are cut to the middle and scaled.
        width: Of the images, in pixels.

    Raises:
        DataError: An image cannot be decoded, or the user liked none better than another.
    """
    ratings = answers.ratings.rows[answers.ratings.rows["user_id"] == user].groupby("image")["rating"].mean()
    choices = None if answers.choices is None else answers.choices.rows[answers.choices.rows["user_id"] == user]
    chosen: list[tuple[str, str]] = []
    if choices is not None:
        for row in choices.itertuples():
            if row.choice in ("a", "b"):
                pair = (str(row.image_a), str(row.image_b))
                chosen.append(pair if row.choice == "a" else (pair[1], pair[0]))
    names = list(dict.fromkeys([*map(str, ratings.index), *(name for pair in chosen for name in pair)]))
    place = {name: row for row, name in enumerate(names)}
    prompt_of = dict(zip(answers.images, answers.prompts, strict=True))
    images = torch.stack([_fitted(answers.store.open(name), height, width) for name in names])
    values = torch.tensor([float(ratings.get(name, np.nan)) for name in names], dtype=torch.float64)
    pairs = torch.tensor([[place[a], place[b]] for a, b in chosen]) if chosen else None
    return RatedExamples.of(user, images, [prompt_of[name] for name in names], values, pairs)


def _fitted(image: Image.Image, height: int, width: int) -> Tensor:
    pixels = np.array(ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
