"""A rewriter trained for users of the world: tastes in words, GRPO against their rewards, and what it gained."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from diffusers.utils import logging

from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.evaluation.compare_rewriters import compare_rewriters
from pamela_rl.rewards.opening import open_reward
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.settings import WORLD
from pamela_rl.rewards.taste_description import describe_taste
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.steering.rewriter import PromptRewriter, load_language_model
from pamela_rl.steering.rewriter_reward import RewriteReward
from pamela_rl.steering.rewriter_training import train_rewriter
from pamela_rl.steering.settings import GrpoSettings, RewriteRewardSettings
from pamela_rl.storage import ensure_writable, write_text
from pamela_rl.training.personalize import versions
from pamela_rl.types import ImageGenerator
from pamela_rl.world.captions import PHRASEBOOK, open_prompts, train_and_held_out_prompts
from pamela_rl.world.rewriter import train_language_model
from pamela_rl.world.scorers import world_scorers

REFERENCE_SEED = 50_000
COMPARED_SEED = 10_000_000


def train_personal_rewriter(
    folder: Path,
    reward_folder: Path,
    users: Sequence[str],
    language_model: str,
    grpo: GrpoSettings,
    rewrite_reward: RewriteRewardSettings,
    *,
    num_inference_steps: int = 10,
    max_new_tokens: int = 24,
    reference_images: int = 192,
    held_out_prompts: int = 16,
    seeds_per_prompt: int = 1,
) -> PromptRewriter:
    """Train a rewriter, publish it, and print how much better its held-out prompts are than the untrained one's.

    Args:
        folder: Gets ``rewriter/``, ``training/`` and ``comparison.json``.
        reward_folder: Of the users' reward.
        users: To rewrite for.
        language_model: "world" trains a tiny one from nothing; else a name on the hub or a folder.
        grpo: Of the training.
        rewrite_reward: How images become the reward of a rewrite.
        num_inference_steps: Denoising steps of the images to learn from and to compare.
        max_new_tokens: Longest rewrite.
        reference_images: Of the base model, from which tastes are put into words.
        held_out_prompts: To compare on, at most 16.
        seeds_per_prompt: Images of each prompt in the comparison.

    Raises:
        ConfigError: A part is missing or does not fit.
    """
    started = time.monotonic()
    ensure_writable(folder)
    logging.set_verbosity_error()  # a rewrite may run on past what the text encoder reads; that is no news
    reward, scorers = open_reward(reward_folder, WORLD), world_scorers(users)
    draw = PipelineGenerator(load_pipeline(WORLD), None, num_inference_steps)
    descriptions = describe_users(reward, users, draw, reference_images)
    for user, description in descriptions.items():
        print(f"   {user} {description}")
    untrained = _untrained(language_model, folder, descriptions, max_new_tokens)
    print(f"{time.monotonic() - started:.0f} s: GRPO, {grpo.num_steps} steps.")
    prompts, held_out = train_and_held_out_prompts()
    score_rewrites = RewriteReward(draw, reward, scorers["faithfulness"], rewrite_reward, reward.fitted_on.scale)
    rewriter = train_rewriter(untrained, prompts, users, score_rewrites, grpo, folder / "training")
    base = None if language_model == WORLD else language_model
    facts = {"images_spent": score_rewrites.images_spent, "seed": grpo.seed}
    rewriter.save(folder / "rewriter", base, {**facts, "versions": {**versions(), "trl": version("trl")}})
    print(f"{time.monotonic() - started:.0f} s: held-out prompts, same noise, trained and untrained rewriter.")
    seeds = [COMPARED_SEED + seed for seed in range(seeds_per_prompt)]
    rows = compare_rewriters(rewriter, users, draw, {"reward": reward, **scorers}, held_out[:held_out_prompts], seeds)
    write_text(folder / "comparison.json", json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(
            f"   {row['user_id']}: true rating {row['true_rating/untrained']:.2f} -> {row['true_rating/trained']:.2f}, "
            f"faithful {row['faithfulness/untrained']:.0%} -> {row['faithfulness/trained']:.0%}; {row['example']!r}"
        )
    seconds = f"{time.monotonic() - started:.0f} s"
    print(f"{score_rewrites.images_spent} pictures, {seconds}; all of it is in {folder}.")
    return rewriter


def describe_users(
    reward: PersonalReward, users: Sequence[str], draw: ImageGenerator, num_images: int
) -> dict[str, str]:
    """Put each user's taste into words, from the reward's scores of images of the base model."""
    prompts = list(itertools.islice(itertools.cycle(open_prompts()), num_images))
    images = draw(prompts, [REFERENCE_SEED + row for row in range(len(prompts))])
    return {user: describe_taste(reward, user, images, prompts, PHRASEBOOK).sentence() for user in users}


def _untrained(name: str, folder: Path, descriptions: dict[str, str], max_new_tokens: int) -> PromptRewriter:
    """The language model before it is trained for these users; the world's own is trained from nothing."""
    if name == WORLD:
        model, tokenizer = train_language_model(folder / "language_model")
    else:
        model, tokenizer = load_language_model(name)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
    return PromptRewriter(model, tokenizer, descriptions, max_new_tokens=max_new_tokens)
