"""How good the world's pictures are: reconstruction, faithfulness, variety, and obedience to named attributes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pamela_rl.world.autoencoder import to_pixels
from pamela_rl.world.captions import caption
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.scenes import ATTRIBUTES, SUBJECTS, Scene, draw_scenes, random_scenes

GUIDANCE = 1.5


@torch.no_grad()
def draw_prompts(
    pipeline: Any, prompts: list[str], num_inference_steps: int = 20, guidance_scale: float = 1.0
) -> Tensor:
    """Draw one picture a prompt with the pipeline's own sampler, seeds 0, 1, 2, …; ``(n, 3, 64, 64)`` in [0, 1]."""
    pictures = []
    transformer = getattr(pipeline, "transformer", None)  # the flow twin is drawn without tokens in T5's place
    options = {} if transformer is None else {"max_sequence_length": transformer.config["_max_sequence_length"]}
    for first in tqdm(range(0, len(prompts), 50), desc="drawing", leave=False):
        part = prompts[first : first + 50]
        generators = [torch.Generator().manual_seed(first + row) for row in range(len(part))]
        pictures.append(
            pipeline(
                part,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                generator=generators,
                output_type="pt",
                **options,
            ).images
        )
    return torch.cat(pictures).float().cpu()


def sample_subjects(pipeline: Any, count: int) -> Tensor:
    """Draw ``count`` pictures of prompts that name only a subject, all subjects in turn."""
    return draw_prompts(pipeline, [f"a {SUBJECTS[row % len(SUBJECTS)]}" for row in range(count)])


@torch.no_grad()
def reconstruction_error(vae: Any, count: int = 400) -> float:
    """Return the mean absolute error of the autoencoder on fresh drawings, on [-1, 1]."""
    pixels = to_pixels(torch.from_numpy(draw_scenes(random_scenes(count, 777), 777)))
    errors = [
        (vae.decode(vae.encode(part).latent_dist.mean).sample.clamp(-1, 1) - part).abs().mean().item()
        for part in pixels.split(100)
    ]
    return sum(errors) / len(errors)


def followed(pipeline: Any, judge: ContentJudge, name: str, guidance_scale: float = 1.0, count: int = 200) -> float:
    """Return the share of pictures that show the value of one attribute that their prompt names, and it alone."""
    values = ATTRIBUTES[name]
    scenes = [
        Scene(**{**vars(scene), name: values[row % len(values)]}) for row, scene in enumerate(random_scenes(count, 55))
    ]
    prompts = [caption(scene, {name}) for scene in scenes]
    shown = judge.see(draw_prompts(pipeline, prompts, guidance_scale=guidance_scale))[name]
    return sum(a == scene.attribute(name) for a, scene in zip(shown, scenes, strict=True)) / count


def measure_world(pipeline: Any, judge: ContentJudge, count: int = 400) -> dict[str, Any]:
    """Measure the shipped models.

    Returns:
        ``reconstruction_mae``; ``subject_seen``, the share of pictures whose subject the judge sees; ``variety``, the
        share of each value of each open attribute; ``followed``, for each attribute, the share of pictures that show
        the value their prompt names, and ``followed_guided``, the same with a guidance scale of 1.5.
    """
    seen = judge.see(sample_subjects(pipeline, count))
    asked = [SUBJECTS[row % len(SUBJECTS)] for row in range(count)]
    variety = {name: Counter(seen[name]) for name in ATTRIBUTES}
    return {
        "reconstruction_mae": round(reconstruction_error(pipeline.vae), 4),
        "subject_seen": sum(a == b for a, b in zip(seen["subject"], asked, strict=True)) / count,
        "spoilt": seen["condition"].count("spoilt") / count,
        "variety": {name: {v: variety[name][v] / count for v in values} for name, values in ATTRIBUTES.items()},
        "followed": {name: followed(pipeline, judge, name) for name in ATTRIBUTES},
        "followed_guided": {name: followed(pipeline, judge, name, GUIDANCE) for name in ATTRIBUTES},
    }
