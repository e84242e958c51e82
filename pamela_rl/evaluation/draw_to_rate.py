"""Images drawn for a user to rate: spread evenly over prompts, each from noise of its own, resumed where it stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from pamela_rl.data.prompts import check_prompts
from pamela_rl.diffusion.adapters import load_adapter_folder
from pamela_rl.diffusion.loading import DTYPES, load_pipeline, prepare_policy
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.evaluation.contact_sheets import to_png
from pamela_rl.evaluation.rated_drawing import RatedDrawing
from pamela_rl.evaluation.rating_folder import DrawnImages, update_ratings
from pamela_rl.evaluation.rating_sheet import RatingSheet
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import ensure_writable, writing

_ADAPTER = "rated"  # the adapter's name on the pipeline


def open_generator(drawing: RatedDrawing) -> PipelineGenerator:
    """Open the base model, on a GPU where there is one, without memory for training.

    On a GPU ``offload`` moves every part there only while it runs.

    Raises:
        ConfigError: There is no such pipeline, or no family knows it.
        AdapterError: The adapter does not fit it.
    """
    model, adapter = drawing.model, drawing.adapter
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = load_pipeline(model.name, dtype=DTYPES[model.dtype])
    policy = prepare_policy(pipeline, replace(model, gradient_checkpointing=False), device)
    if adapter is not None:
        load_adapter_folder(pipeline, adapter, _ADAPTER)
    if model.offload and device != "cpu":
        pipeline.enable_model_cpu_offload(device=device)
    return PipelineGenerator(
        pipeline, None if adapter is None else _ADAPTER, drawing.num_inference_steps, drawing.guidance_scale,
        drawing.batch_size, policy.height, policy.width,
    )  # fmt: skip


def draw_missing(folder: Path, drawing: RatedDrawing, prompts: Sequence[str], num_images: int) -> RatingSheet:
    """Draw the images that a folder lacks, and keep its table and page up to date after every call of the model.

    Image i shows prompt ``i mod len(prompts)`` from the noise of the key (seed, i), whatever is drawn with it. An image
    that was drawn before keeps its prompt. The model is opened where an image is missing.

    Args:
        folder: Gets images, ``drawn.json``, ``ratings.csv`` and ``rate.html``.
        drawing: How images are drawn.
        prompts: Gone through in turn.
        num_images: The folder then holds at least so many.

    Returns:
        The table.

    Raises:
        ConfigError: The folder holds something else, or images that were drawn otherwise.
        DataError: There are no prompts, or the table cannot be read.
        StorageError: An image cannot be written.
    """
    prompts, before = check_prompts(prompts), DrawnImages.read(folder, drawing.facts())
    names = [f"{number:04d}.png" for number in range(num_images)]
    wanted = {name: prompts[number % len(prompts)] for number, name in enumerate(names)}
    drawn = DrawnImages(before.settings, {**wanted, **before.prompts})
    ensure_writable(folder)
    with writing("the list of what is drawn", folder):
        drawn.write(folder)  # before the images, so that each has its prompt whenever the run is stopped
    missing = [number for number, name in enumerate(names) if not (folder / name).exists()]
    if missing:
        draw, size = open_generator(drawing), drawing.batch_size
        for numbers in tqdm([missing[first : first + size] for first in range(0, len(missing), size)], unit="batch"):
            seeds = [generator_for(drawing.seed, number).initial_seed() for number in numbers]
            images = draw([drawn.prompts[names[number]] for number in numbers], seeds)
            for number, image in zip(numbers, images, strict=True):
                _write(folder / names[number], to_png(image))
            _update(folder, drawn)
    return _update(folder, drawn)


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with writing("an image", path):
        partial.write_bytes(content)
        os.replace(partial, path)


def _update(folder: Path, drawn: DrawnImages) -> RatingSheet:
    names = [name for name in sorted(drawn.prompts) if (folder / name).exists()]
    with writing("the table of ratings", folder):
        return update_ratings(folder, names, [drawn.prompts[name] for name in names])
