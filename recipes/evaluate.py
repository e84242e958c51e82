"""What steering did: every arm on the same held-out prompts and noise, at equal pictures, in one report.

pamela evaluate --run outputs/quickstart
pamela evaluate --run outputs/mine --base_model stable-diffusion-v1-5/stable-diffusion-v1-5 \
    --encoder ViT-SO400M-16-SigLIP2-384 --prompts held_out.txt --content clip_score
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from pamela_rl.cli.command_line import run
from pamela_rl.cli.given_command import given_command
from pamela_rl.config.checks import refuse_unused
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.settings import DrawingSettings, RunSettings, check_counts
from pamela_rl.steering.settings import ChatSettings, NoiseSearchSettings, PromptSearchSettings
from pamela_rl.storage import ensure_writable


@dataclass(frozen=True)
class EvaluateConfig(RunSettings):
    """The comparison's settings.

    Attributes:
        output_dir: Where the report goes; None is ``evaluation/`` in the run.
        arms: Which to compare; none means all that can be made.
        adapters: Further arms, name to the run their adapters are from, e.g. {long: outputs/long}.
        strengths: At which own adapters are drawn besides 0, the base model, and 1, as they were trained; none draws none.
        rewriter: Folder of a rewriter that pamela rewriter trained.
        seeds_per_prompt: Pictures of each prompt and arm.
        images_budget: Pictures an arm may spend on a person; None is what training the adapter took.
        reference_images: Of the base model, from which tastes are put into words.
        drawing: How pictures are drawn.
        search: Of prompts.
        noise: Of initial noise.
        chat: A language model that proposes prompts.
    """

    output_dir: Path | None = None
    arms: list[str] = field(default_factory=list)
    adapters: dict[str, Path] = field(default_factory=dict)
    strengths: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75, 1.25])
    rewriter: Path | None = None
    seeds_per_prompt: int = 2
    images_budget: int | None = None
    reference_images: int = 192
    drawing: DrawingSettings = field(default_factory=DrawingSettings)
    search: PromptSearchSettings = field(default_factory=PromptSearchSettings)
    noise: NoiseSearchSettings = field(default_factory=NoiseSearchSettings)
    chat: ChatSettings = field(default_factory=ChatSettings)

    def __post_init__(self) -> None:
        check_counts(seeds_per_prompt=self.seeds_per_prompt, images_budget=self.images_budget)
        if self.chat.model is None:
            refuse_unused(self, ("chat",), "there is no chat.model")
        if self.service.model is not None:
            refuse_unused(self, ("adapters",), "service.model draws, which takes no adapters")
        super().__post_init__()
        self.check_further_runs(self.adapters)
        self.check_drawing(self.drawing)
        if not all(0 < strength < math.inf for strength in self.strengths):
            raise ConfigError(
                f"strengths is {self.strengths}; use positive numbers, e.g. [0.5, 0.75]: 0 is the base model, drawn anyway."
            )
        if self.rewriter is not None and not self.rewriter.is_dir():
            raise ConfigError(f"rewriter is {self.rewriter}, but there is no such folder; train one first.")


def evaluate(config: EvaluateConfig) -> None:
    """Compare and say where the report is."""
    from pamela_rl.evaluation.compare_arms import compare_arms
    from pamela_rl.steering.opening import open_chat
    from pamela_rl.training.personalize import versions
    from pamela_rl.world.comparison import open_run

    folder = ensure_writable(config.output_dir or config.run / "evaluation")
    releases = ", ".join(f"{package} {release}" for package, release in versions().items())
    compare_arms(
        open_run(config, folder / "service"), folder, config.arms, seeds_per_prompt=config.seeds_per_prompt,
        images_budget=config.images_budget, reference_images=config.reference_images, drawing=config.drawing,
        search=config.search, noise=config.noise, rewriter=config.rewriter, further_runs=config.adapters,
        strengths=config.strengths,
        chat=open_chat(config.chat), context={"command": given_command(), "versions": releases},
    )  # fmt: skip


if __name__ == "__main__":
    run(EvaluateConfig, __doc__ or "", evaluate)
