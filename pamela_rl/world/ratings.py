"""Ratings by the simulated users, in the layout of the paper's data, in five splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.world.captions import caption
from pamela_rl.world.corruptions import corrupt, soften, vary_tone
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters
from pamela_rl.world.scenes import ATTRIBUTES, SUBJECTS, Scene, draw_scenes, random_scenes

NUM_IMAGES = 5_000
RATERS_PER_IMAGE = 15
SEEN_USERS = 156  # of 200, as in the paper; the others appear in the unseen splits only
SEEN_IMAGES = 3_500  # in training; the rest split between validation and test


@dataclass(frozen=True)
class WorldRatings:
    """The ratings a reward is fitted to, and the ground truth behind them.

    Attributes:
        table: ``user_id, image, prompt, rating, split`` and ``image_index``, the row in ``images``.
        images: RGB in [0, 1], ``(n, 3, 64, 64)``.
        prompts: Of each image, ``(n,)``.
        expected_ratings: Every user's noise-free rating of each image, ``(n, u)``; for evaluation, never for fitting.
    """

    table: pd.DataFrame
    images: Tensor
    prompts: tuple[str, ...]
    expected_ratings: Tensor


def draw_rated_images(count: int, seed: int) -> tuple[Tensor, tuple[str, ...]]:
    """Draw pictures like those of a model: some with changed tone, all softened, some corrupted, some unfaithful to their prompt."""
    scenes = random_scenes(count, seed)
    drawn = torch.from_numpy(draw_scenes(scenes, seed + 1)).permute(0, 3, 1, 2).float() / 255
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    kind = torch.rand(count, generator=generator)[:, None, None, None]
    images = torch.where(kind < 0.45, vary_tone(drawn, generator), drawn)
    images = soften(images, generator)
    images = torch.where(kind > 0.92, corrupt(images, generator), images)
    return images, tuple(_prompt(scene, rng) for scene in scenes)


def _prompt(scene: Scene, rng: np.random.Generator) -> str:
    """Name the subject and at most one attribute; 6 % of the prompts name another subject than is shown."""
    if rng.random() < 0.06:
        scene = Scene(**{**vars(scene), "subject": str(rng.choice(SUBJECTS))})
    named = {str(rng.choice(list(ATTRIBUTES)))} if rng.random() < 0.5 else set()
    return caption(scene, named)


def make_ratings(raters: Raters, judge: ContentJudge, seed: int = 11, num_images: int = NUM_IMAGES) -> WorldRatings:
    """Simulate ratings.

    Seen users rate training, validation and test images, unseen users only validation and test images:
    ``test_seen`` holds new images and known users, ``test_unseen`` new images and new users.

    Args:
        raters: All users.
        judge: Recognises what a picture shows.
        seed: Of images, of who rates what, and of rating noise.
        num_images: Number of images.
    """
    images, prompts = draw_rated_images(num_images, seed)
    expected_ratings = torch.cat(
        [
            raters.expected_ratings(images[rows], [prompts[int(r)] for r in rows], judge)
            for rows in torch.arange(num_images).split(500)
        ]
    )
    rng = np.random.default_rng(seed)
    all_users = np.arange(len(raters.user_ids))
    seen_users, unseen_users = all_users[:SEEN_USERS], all_users[SEEN_USERS:]
    train_end = round(num_images * SEEN_IMAGES / NUM_IMAGES)
    val_end = train_end + (num_images - train_end) * 2 // 5
    parts = [
        _assign("train", np.arange(train_end), seen_users, RATERS_PER_IMAGE, rng),
        _assign("val_seen", np.arange(train_end, val_end), seen_users, RATERS_PER_IMAGE - 4, rng),
        _assign("val_unseen", np.arange(train_end, val_end), unseen_users, 2, rng),
        _assign("test_seen", np.arange(val_end, num_images), seen_users, RATERS_PER_IMAGE - 4, rng),
        _assign("test_unseen", np.arange(val_end, num_images), unseen_users, 4, rng),
    ]
    table = pd.concat(parts, ignore_index=True)
    # copies: pandas returns read-only arrays, and torch warns about those
    rows, users = (table[column].to_numpy(copy=True) for column in ("image_index", "user_index"))
    table["rating"] = raters.rate(expected_ratings[rows], users, rng)
    table["user_id"] = np.array(raters.user_ids)[users]
    table["image"] = [f"world-{seed}-{row:05d}" for row in rows]
    table["prompt"] = np.array(prompts)[rows]
    return WorldRatings(table, images, prompts, expected_ratings)


def _assign(
    split: str, images: NDArray[np.int64], users: NDArray[np.int64], count: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Choose ``count`` different users for each image."""
    chosen = np.argsort(rng.random((len(images), len(users))), axis=1)[:, :count]
    return pd.DataFrame({"image_index": np.repeat(images, count), "user_index": users[chosen.ravel()], "split": split})
