"""The prompts of a run, encoded before it begins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from accelerate import Accelerator

from pamela_rl.config import TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.policy import Policy
from pamela_rl.training.validation import fixed_batch

FOLDER = "encoded_prompts"  # in a run's


def encode_ahead(
    policy: Policy,
    source: PromptSource,
    others: Iterable[str],
    config: TrainConfig,
    run: Path,
    base_model: str,
    accelerator: Accelerator,
) -> None:
    """Encode what a run will draw and validate with, so that text encoders work once and then rest; kept in its folder.

    Args:
        policy: The pipeline.
        source: To train on and to validate on; those that no iteration comes to are left out.
        others: Further ones, e.g. those of rated images.
        config: Of each training.
        run: The run's folder.
        base_model: Its name and precision, which decide the numbers.
        accelerator: One of its processes encodes for all.
    """
    drawn = source.draw(0, config.num_iterations * config.prompts_per_iteration, 1, config.seed).prompts
    watched = fixed_batch(source, config.validation.num_images).prompts if config.validation.samples else ()
    scale = max(config.sampling.guidance_scale, config.drawn.guidance_scale)
    folder = run / FOLDER / hashlib.sha256(base_model.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    with accelerator.main_process_first():
        policy.encode_ahead([*drawn, *watched, *others], config.sampling.negative_prompt, scale, folder)
