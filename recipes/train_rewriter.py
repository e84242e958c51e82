r"""A language model learns to rewrite prompts for the people of the world: GRPO against their personal rewards.

python recipes/train_rewriter.py --config recipes/configs/rewriter.yaml
python recipes/train_rewriter.py --config recipes/configs/rewriter.yaml \
    --language_model Qwen/Qwen3-0.6B --max_new_tokens 64 --grpo.learning_rate 5e-5 --grpo.batch_size 16
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from command_line import run
from diffusers.utils import logging
from run_source import WORLD

from pamela_rl.data.rewriting import MAX_LETTERS
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.taste_words import describe_taste
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.steering.rewriter import PromptRewriter, RewritingGenerator, load_language_model
from pamela_rl.steering.rewriter_reward import RewriteWorth, WorthSettings
from pamela_rl.steering.rewriter_training import GrpoSettings, train_rewriter
from pamela_rl.storage import ensure_writable, write_text
from pamela_rl.training.personalize import versions
from pamela_rl.types import ImageGenerator, Scorer
from pamela_rl.world import ENCODER, load_judge, load_pipeline
from pamela_rl.world.captions import PHRASEBOOK, open_prompts, train_and_held_out_prompts
from pamela_rl.world.judge import Faithfulness
from pamela_rl.world.raters import TrueRating, make_raters
from pamela_rl.world.rewriter import train_language_model


@dataclass(frozen=True)
class RewriterConfig:
    """The recipe's settings.

    Attributes:
        output_dir: Where the rewriter, its metrics and its measure go.
        rewards: Folder of the rewards that the quickstart fitted, with ``personal/`` and ``rewards.json``.
        users: Whom to rewrite for; none means the people in ``rewards.json``.
        language_model: "world" trains a tiny one from nothing; else a name on the hub or a folder.
        num_inference_steps: Denoising steps of the pictures to learn from and to compare.
        held_out_prompts: Prompts to compare on, at most 16.
        seeds_per_prompt: Pictures of each prompt in the comparison.
        max_new_tokens: Longest rewrite.
        reference_pictures: Of the base model, from which tastes are put into words.
        grpo: Of the training.
        worth: What a rewrite is worth.
    """

    output_dir: Path = Path("outputs/rewriter")
    rewards: Path = Path("outputs/quickstart/rewards")
    users: list[str] = field(default_factory=list)
    language_model: str = "world"
    num_inference_steps: int = 10
    held_out_prompts: int = 16
    seeds_per_prompt: int = 1
    max_new_tokens: int = 24
    reference_pictures: int = 192
    grpo: GrpoSettings = field(default_factory=GrpoSettings)
    worth: WorthSettings = field(default_factory=WorthSettings)

    def __post_init__(self) -> None:
        if min(self.num_inference_steps, self.held_out_prompts, self.seeds_per_prompt) < 1:
            raise ConfigError("num_inference_steps, held_out_prompts and seeds_per_prompt count; use 1 or more.")
        if not 1 <= self.max_new_tokens <= MAX_LETTERS:
            raise ConfigError(f"max_new_tokens is {self.max_new_tokens}; use 1 to {MAX_LETTERS}, e.g. 24.")


def describe_people(
    reward: PersonalReward, users: Sequence[str], draw: ImageGenerator, num_pictures: int
) -> dict[str, str]:
    """Put each person's taste into words, from the reward's view of pictures of the base model."""
    prompts = list(itertools.islice(itertools.cycle(open_prompts()), num_pictures))
    images = draw(prompts, [50_000 + place for place in range(len(prompts))])
    return {user: describe_taste(reward, user, images, prompts, PHRASEBOOK).sentence() for user in users}


def compare(
    rewriter: PromptRewriter,
    users: Sequence[str],
    draw: ImageGenerator,
    scorers: dict[str, Scorer],
    prompts: Sequence[str],
    seeds: Sequence[int],
) -> list[dict[str, str | float]]:
    """Score held-out prompts rewritten by the trained and the untrained rewriter, drawn from the same noise."""
    pairs = [(prompt, seed) for prompt in prompts for seed in seeds]
    asked, noise = [prompt for prompt, _ in pairs], [seed for _, seed in pairs]
    rows = []
    for user in users:
        row: dict[str, str | float] = {"user_id": user}
        for arm, which in (("untrained", rewriter.untrained()), ("trained", rewriter)):
            images = RewritingGenerator(which, user, draw)(asked, noise)
            for name, scorer in scorers.items():
                row[f"{name}/{arm}"] = scorer(images, asked, [user] * len(asked)).mean.mean().item()
        row["example"] = rewriter(asked[0], user, noise[0])
        rows.append(row)
    return rows


def train(config: RewriterConfig) -> None:
    """Train, publish, compare."""
    started = time.monotonic()
    ensure_writable(config.output_dir)
    logging.set_verbosity_error()  # a rewrite may run on past what the text encoder reads; that is no news
    encoder, content = FeatureEncoder.load(ENCODER), load_judge()
    reward = PersonalReward.load(config.rewards / "personal", encoder)
    users = config.users or _people(config.rewards)
    draw = PipelineGenerator(load_pipeline(), None, config.num_inference_steps)
    descriptions = describe_people(reward, users, draw, config.reference_pictures)
    for user, description in descriptions.items():
        print(f"   {user} {description}")
    untrained = _untrained(config, descriptions)
    print(f"{time.monotonic() - started:.0f} s: GRPO, {config.grpo.num_steps} steps.")
    prompts, held_out = train_and_held_out_prompts()
    worth = RewriteWorth(draw, reward, Faithfulness(content), config.worth)
    rewriter = train_rewriter(untrained, prompts, users, worth, config.grpo, config.output_dir / "training")
    made = {"images_spent": worth.images_spent, "seed": config.grpo.seed}
    base = None if config.language_model == WORLD else config.language_model
    facts = {**made, "versions": {**versions(), "trl": version("trl")}}
    rewriter.save(config.output_dir / "rewriter", base, facts)
    print(f"{time.monotonic() - started:.0f} s: held-out prompts, same noise, trained and untrained rewriter.")
    scorers: dict[str, Scorer] = {
        "reward": reward,
        "true_rating": TrueRating(make_raters(), content),
        "faithfulness": Faithfulness(content),
    }
    seeds = [10_000_000 + seed for seed in range(config.seeds_per_prompt)]
    rows = compare(rewriter, users, draw, scorers, held_out[: config.held_out_prompts], seeds)
    write_text(config.output_dir / "comparison.json", json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(
            f"   {row['user_id']}: true rating {row['true_rating/untrained']:.2f} -> {row['true_rating/trained']:.2f}, "
            f"faithful {row['faithfulness/untrained']:.0%} -> {row['faithfulness/trained']:.0%}; {row['example']!r}"
        )
    print(f"{worth.images_spent} pictures, {time.monotonic() - started:.0f} s; all of it is in {config.output_dir}.")


def _untrained(config: RewriterConfig, descriptions: dict[str, str]) -> PromptRewriter:
    """The language model as it is before it learns to please, the world's own trained from nothing."""
    if config.language_model == WORLD:
        model, tokenizer = train_language_model(config.output_dir / "language_model")
    else:
        model, tokenizer = load_language_model(config.language_model)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
    return PromptRewriter(model, tokenizer, descriptions, max_new_tokens=config.max_new_tokens)


def _people(folder: Path) -> list[str]:
    path = folder / "rewards.json"
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["users"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"no people can be read from {path} ({error}); run the quickstart first, or name them with --users."
        ) from error


if __name__ == "__main__":
    run(RewriterConfig, __doc__ or "", train)
