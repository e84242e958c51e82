"""Images of the base model for the prompts of a run, drawn once: rewards are put on one scale by them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.policy import Policy
from pamela_rl.rewards.combined import Reference
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import ensure_writable

NUM_IMAGES = 64


def reference_images(
    policy: Policy,
    prompts: Sequence[str],
    config: TrainConfig,
    num_inference_steps: int,
    run: Path,
    is_main: bool,
) -> Reference:
    """Return the run's reference images, ``reference.safetensors`` in its folder; drawn where they are not there yet.

    Several processes draw the same ones, and the main one keeps them.
    """
    path = ensure_writable(run) / "reference.safetensors"
    if path.exists():
        return Reference.read(path)
    asked = [prompts[row * len(prompts) // NUM_IMAGES] for row in range(NUM_IMAGES)]
    draw = PipelineGenerator(
        policy.pipeline, None, num_inference_steps, config.sampling.guidance_scale, config.sampled_at_once, policy.height,
        policy.width,
    )  # fmt: skip
    with policy.all_on_device():
        drawn = Reference.of(draw(asked, range(NUM_IMAGES)), asked)
    if is_main:
        drawn.write(path)
    return drawn
