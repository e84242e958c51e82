"""Quality of the world's generated images: reconstruction, subject and attribute accuracy, attribute frequencies."""

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

GUIDANCE_SCALE = 1.5


@torch.no_grad()
def sample_images(
    pipeline: Any, prompts: list[str], num_inference_steps: int = 20, guidance_scale: float = 1.0
) -> Tensor:
    """Draw one picture per prompt with the pipeline's own sampler, seeds 0, 1, 2, …; ``(n, 3, 64, 64)`` in [0, 1]."""
    images = []
    transformer = getattr(pipeline, "transformer", None)  # the flow model samples without T5 tokens
    options = {} if transformer is None else {"max_sequence_length": transformer.config["_max_sequence_length"]}
    for first in tqdm(range(0, len(prompts), 50), desc="drawing", leave=False):
        part = prompts[first : first + 50]
        generators = [torch.Generator().manual_seed(first + row) for row in range(len(part))]
        images.append(
            pipeline(
                part,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                generator=generators,
                output_type="pt",
                **options,
            ).images
        )
    return torch.cat(images).float().cpu()


def sample_subjects(pipeline: Any, count: int) -> Tensor:
    """Draw ``count`` pictures of prompts that name only a subject, all subjects in turn."""
    return sample_images(pipeline, [f"a {SUBJECTS[row % len(SUBJECTS)]}" for row in range(count)])


@torch.no_grad()
def reconstruction_error(vae: Any, count: int = 400) -> float:
    """Return the mean absolute error of the autoencoder on fresh drawings, on [-1, 1]."""
    pixels = to_pixels(torch.from_numpy(draw_scenes(random_scenes(count, 777), 777)))
    errors = [
        (vae.decode(vae.encode(part).latent_dist.mean).sample.clamp(-1, 1) - part).abs().mean().item()
        for part in pixels.split(100)
    ]
    return sum(errors) / len(errors)


def attribute_accuracy(
    pipeline: Any, judge: ContentJudge, name: str, guidance_scale: float = 1.0, count: int = 200
) -> float:
    """Return the share of pictures that show the value of the one attribute their prompt names."""
    values = ATTRIBUTES[name]
    scenes = [
        Scene(**{**vars(scene), name: values[row % len(values)]}) for row, scene in enumerate(random_scenes(count, 55))
    ]
    prompts = [caption(scene, {name}) for scene in scenes]
    predicted = judge.classify(sample_images(pipeline, prompts, guidance_scale=guidance_scale))[name]
    return sum(a == scene.attribute(name) for a, scene in zip(predicted, scenes, strict=True)) / count


def measure_image_quality(pipeline: Any, judge: ContentJudge, count: int = 400) -> dict[str, Any]:
    """Measure the shipped models.

    Returns:
        ``reconstruction_mae``; ``subject_accuracy``, the share of pictures whose subject the judge recognises;
        ``corrupted_share``; ``attribute_frequencies`` of prompts that name none; ``attribute_accuracy``, and
        ``attribute_accuracy_guided``, the same with a guidance scale of 1.5.
    """
    predicted = judge.classify(sample_subjects(pipeline, count))
    requested = [SUBJECTS[row % len(SUBJECTS)] for row in range(count)]
    counts = {name: Counter(predicted[name]) for name in ATTRIBUTES}
    return {
        "reconstruction_mae": round(reconstruction_error(pipeline.vae), 4),
        "subject_accuracy": sum(a == b for a, b in zip(predicted["subject"], requested, strict=True)) / count,
        "corrupted_share": predicted["condition"].count("corrupted") / count,
        "attribute_frequencies": {
            name: {v: counts[name][v] / count for v in values} for name, values in ATTRIBUTES.items()
        },
        "attribute_accuracy": {name: attribute_accuracy(pipeline, judge, name) for name in ATTRIBUTES},
        "attribute_accuracy_guided": {
            name: attribute_accuracy(pipeline, judge, name, GUIDANCE_SCALE) for name in ATTRIBUTES
        },
    }
