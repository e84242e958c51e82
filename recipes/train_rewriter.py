r"""A language model learns to rewrite prompts for the people of the world: GRPO against their personal rewards.

pamela rewriter --config rewriter.yaml
pamela rewriter --config rewriter.yaml \
    --language_model Qwen/Qwen3-0.6B --max_new_tokens 64 --grpo.learning_rate 5e-5 --grpo.batch_size 16
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pamela_rl.cli.command_line import run
from pamela_rl.data.rewriting import MAX_CHARACTERS
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.saved import check_rewards, read_chosen_users
from pamela_rl.steering.settings import GrpoSettings, RewriteRewardSettings


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
        reference_images: Of the base model, from which tastes are put into words.
        grpo: Of the training.
        rewrite_reward: How a rewrite is scored.
    """

    output_dir: Path = Path("outputs/rewriter")
    rewards: Path = Path("outputs/quickstart/rewards")
    users: list[str] = field(default_factory=list)
    language_model: str = "world"
    num_inference_steps: int = 10
    held_out_prompts: int = 16
    seeds_per_prompt: int = 1
    max_new_tokens: int = 24
    reference_images: int = 192
    grpo: GrpoSettings = field(default_factory=GrpoSettings)
    rewrite_reward: RewriteRewardSettings = field(default_factory=RewriteRewardSettings)

    def __post_init__(self) -> None:
        if min(self.num_inference_steps, self.held_out_prompts, self.seeds_per_prompt) < 1:
            raise ConfigError("num_inference_steps, held_out_prompts and seeds_per_prompt count; use 1 or more.")
        if not 1 <= self.max_new_tokens <= MAX_CHARACTERS:
            raise ConfigError(f"max_new_tokens is {self.max_new_tokens}; use 1 to {MAX_CHARACTERS}, e.g. 24.")
        check_rewards(self.rewards / "personal", None, self.users)
        if not self.users:
            read_chosen_users(self.rewards)


def train(config: RewriterConfig) -> None:
    """Train, publish, compare."""
    from pamela_rl.world.personal_rewriter import train_personal_rewriter

    train_personal_rewriter(
        config.output_dir, config.rewards / "personal", config.users or read_chosen_users(config.rewards),
        config.language_model, config.grpo, config.rewrite_reward, num_inference_steps=config.num_inference_steps,
        max_new_tokens=config.max_new_tokens, reference_images=config.reference_images,
        held_out_prompts=config.held_out_prompts, seeds_per_prompt=config.seeds_per_prompt,
    )  # fmt: skip


if __name__ == "__main__":
    run(RewriterConfig, __doc__ or "", train)
