"""Ratings of the world's people, in the layout of the paper's data: who rated what, in five splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.world.captions import caption
from pamela_rl.world.corruptions import soften, spoil, vary_tone
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters
from pamela_rl.world.scenes import ATTRIBUTES, SUBJECTS, Scene, draw_scenes, random_scenes

NUM_IMAGES = 5_000
RATERS_PER_IMAGE = 15
SEEN_USERS = 156  # of 200, as in the paper; the others appear in the unseen splits only
SEEN_IMAGES = 3_500  # shown in training; the rest split between validation and test


@dataclass(frozen=True)
class WorldRatings:
    """Everything a reward may learn from, and what only the world knows.

    Attributes:
        table: ``user_id, image, prompt, rating, split`` and ``image_index``, the row in ``images``.
        images: RGB in [0, 1], ``(n, 3, 64, 64)``.
        prompts: What each image was asked to show, ``(n,)``.
        expectations: Everyone's noise-free rating of each image, ``(n, u)``; for measuring, never for fitting.
    """

    table: pd.DataFrame
    images: Tensor
    prompts: tuple[str, ...]
    expectations: Tensor


def rated_pictures(count: int, seed: int) -> tuple[Tensor, tuple[str, ...]]:
    """Draw pictures as models make them: most are sound, some softened or off in tone, some spoilt, some unfaithful."""
    scenes = random_scenes(count, seed)
    drawn = torch.from_numpy(draw_scenes(scenes, seed + 1)).permute(0, 3, 1, 2).float() / 255
    generator = torch.Generator().manual_seed(seed)
    numbers = np.random.default_rng(seed)
    kind = torch.rand(count, generator=generator)[:, None, None, None]
    images = torch.where(kind < 0.45, vary_tone(drawn, generator), drawn)
    images = soften(images, generator)
    images = torch.where(kind > 0.92, spoil(images, generator), images)
    return images, tuple(_prompt(scene, numbers) for scene in scenes)


def _prompt(scene: Scene, numbers: np.random.Generator) -> str:
    """Name the subject and at most one attribute; six in a hundred pictures show another subject than was asked."""
    if numbers.random() < 0.06:
        scene = Scene(**{**vars(scene), "subject": str(numbers.choice(SUBJECTS))})
    named = {str(numbers.choice(list(ATTRIBUTES)))} if numbers.random() < 0.5 else set()
    return caption(scene, named)


def make_ratings(raters: Raters, judge: ContentJudge, seed: int = 11, num_images: int = NUM_IMAGES) -> WorldRatings:
    """Let people rate pictures.

    Seen users rate training, validation and test images; the others only validation and test images. So
    ``test_seen`` holds new images of known people, ``test_unseen`` new images of new people.

    Args:
        raters: Everybody.
        judge: Of content, through which people see what a picture shows.
        seed: Of pictures, of who rates what, and of noise.
        num_images: How many pictures.
    """
    images, prompts = rated_pictures(num_images, seed)
    expectations = torch.cat(
        [
            raters.true_expectations(images[rows], [prompts[int(r)] for r in rows], judge)
            for rows in torch.arange(num_images).split(500)
        ]
    )
    numbers = np.random.default_rng(seed)
    everyone = np.arange(len(raters.user_ids))
    seen_users, unseen_users = everyone[:SEEN_USERS], everyone[SEEN_USERS:]
    train_end = round(num_images * SEEN_IMAGES / NUM_IMAGES)
    val_end = train_end + (num_images - train_end) * 2 // 5
    parts = [
        _assign("train", np.arange(train_end), seen_users, RATERS_PER_IMAGE, numbers),
        _assign("val_seen", np.arange(train_end, val_end), seen_users, RATERS_PER_IMAGE - 4, numbers),
        _assign("val_unseen", np.arange(train_end, val_end), unseen_users, 2, numbers),
        _assign("test_seen", np.arange(val_end, num_images), seen_users, RATERS_PER_IMAGE - 4, numbers),
        _assign("test_unseen", np.arange(val_end, num_images), unseen_users, 4, numbers),
    ]
    table = pd.concat(parts, ignore_index=True)
    # copies, since what pandas hands out is read-only, of which torch warns
    rows, users = (table[column].to_numpy(copy=True) for column in ("image_index", "user_index"))
    table["rating"] = raters.rate(expectations[rows], users, numbers)
    table["user_id"] = np.array(raters.user_ids)[users]
    table["image"] = [f"world-{seed}-{row:05d}" for row in rows]
    table["prompt"] = np.array(prompts)[rows]
    return WorldRatings(table, images, prompts, expectations)


def _assign(
    split: str, images: NDArray[np.int64], users: NDArray[np.int64], count: int, numbers: np.random.Generator
) -> pd.DataFrame:
    """Choose ``count`` different people for each image."""
    chosen = np.argsort(numbers.random((len(images), len(users))), axis=1)[:, :count]
    return pd.DataFrame({"image_index": np.repeat(images, count), "user_index": users[chosen.ravel()], "split": split})
