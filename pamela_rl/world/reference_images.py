"""Images of the base model for the prompts of a run, drawn once: rewards are put on one scale by them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.policy import Policy
from pamela_rl.rewards.combined import Reference
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import ensure_writable
from pamela_rl.world.run_settings import TrainSettings

NUM_IMAGES = 64


def reference_images(
    policy: Policy, prompts: Sequence[str], config: TrainConfig, settings: TrainSettings, base_model: str
) -> Reference:
    """Return the reference images, drawn where the run's folder ``reference`` does not hold them yet.

    Several processes draw the same ones.

    Args:
        policy: Without an adapter.
        prompts: Of the training.
        config: Of the training.
        settings: Of the run.
        base_model: What the images follow from, besides their prompts and how they are drawn.
    """
    asked = [prompts[row * len(prompts) // NUM_IMAGES] for row in range(NUM_IMAGES)]
    how = settings.num_inference_steps, config.sampling.guidance_scale
    digest = hashlib.sha256(json.dumps([base_model, asked, how]).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    path = ensure_writable(settings.output_dir / "reference") / f"{digest}.safetensors"
    if path.exists():
        return Reference.read(path)
    draw = PipelineGenerator(policy.pipeline, None, *how, config.sampled_at_once, policy.height, policy.width)
    with policy.all_on_device():
        drawn = Reference.of(draw(asked, range(NUM_IMAGES)), asked)
    drawn.write(path)
    return drawn
