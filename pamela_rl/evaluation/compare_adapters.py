"""A run's adapters compared: for each user the base model, their own adapter and another user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from pamela_rl.diffusion.adapters import load_adapter
from pamela_rl.diffusion.content_filters import SafetyFlags
from pamela_rl.diffusion.saved_adapters import images_spent
from pamela_rl.evaluation.compare import BASE, OTHER, OWN, Arm, UserComparison, compare_user
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import folder_name
from pamela_rl.types import Scorer


def compare_adapters(
    pipeline: Any,
    run: Path,
    users: Sequence[str],
    prompts: Sequence[str],
    scorers: Mapping[str, Scorer],
    seeds_per_prompt: int = 2,
    num_inference_steps: int = 20,
    guidance_scale: float = 1.0,
    negative_prompt: str = "",
) -> list[UserComparison]:
    """Draw the same prompts from the same noise with the base, each user's own adapter, and the next user's.

    Args:
        pipeline: The base model; the adapters are loaded into it.
        run: A finished run.
        users: Of the run, at least two.
        prompts: Held out.
        scorers: By name.
        seeds_per_prompt: Images of each prompt and arm.
        num_inference_steps: Of each image.
        guidance_scale: 1 draws without guidance.
        negative_prompt: For guidance.

    Raises:
        AdapterError: The run has no adapter of a user.
    """
    for user in users:
        load_adapter(pipeline, run, user)
    plain = PipelineGenerator(pipeline, None, num_inference_steps, guidance_scale, negative_prompt=negative_prompt)
    base, scorers = Arm(BASE, plain), {**scorers, **SafetyFlags.of(pipeline)}
    adapters = {user: (replace(plain, adapter=folder_name(user)), images_spent(run, user)) for user in users}
    comparisons = []
    for row, user in enumerate(tqdm(users, desc="comparing", unit="person")):
        other = users[(row + 1) % len(users)]
        arms = [base, Arm(OWN, *adapters[user]), Arm(OTHER, *adapters[other])]
        comparisons.append(compare_user(user, arms, prompts, seeds_per_prompt, scorers))
    return comparisons
