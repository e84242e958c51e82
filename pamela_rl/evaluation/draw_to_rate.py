"""Images drawn for a user to rate: spread evenly over prompts, each from noise of its own, resumed where it stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from pamela_rl.data.prompts import check_prompts
from pamela_rl.diffusion.adapters import load_adapter_folder
from pamela_rl.diffusion.loading import DTYPES, load_pipeline, prepare_policy
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.contact_sheets import to_png
from pamela_rl.evaluation.rated_drawing import RatedDrawing
from pamela_rl.evaluation.rating_folder import DrawnImages, update_ratings
from pamela_rl.evaluation.rating_sheet import RatingSheet
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.taste.newcomer import next_images
from pamela_rl.rewards.taste.taste_basis import TasteBasis
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
    pipeline = load_pipeline(model.name, dtype=DTYPES[model.dtype], config=model.config)
    policy = prepare_policy(pipeline, replace(model, gradient_checkpointing=False), device)
    if adapter is not None:
        load_adapter_folder(pipeline, adapter, _ADAPTER)
    if model.offload and device != "cpu":
        pipeline.enable_model_cpu_offload(device=device)
    return PipelineGenerator(
        pipeline, None if adapter is None else _ADAPTER, drawing.num_inference_steps, drawing.guidance_scale,
        drawing.batch_size, policy.height, policy.width, drawing.negative_prompt or "",
    )  # fmt: skip


@dataclass(frozen=True)
class Question:
    """Whose opinion is sought: of many images those are kept whose rating tells most about this user's taste.

    Attributes:
        reward: That knows the user.
        user_id: Who will rate.
        num_candidates: Images drawn to choose from.
    """

    reward: PersonalReward
    user_id: str
    num_candidates: int


def draw_informative(
    folder: Path, drawing: RatedDrawing, prompts: Sequence[str], num_images: int, question: Question
) -> RatingSheet:
    """Draw many images into memory, and keep those in a folder that are worth most to be rated, as ``draw_missing`` does.

    Args:
        folder: As of ``draw_missing``; images that are in it already are kept, and no others are chosen.
        drawing: How images are drawn, e.g. with the user's own adapter.
        prompts: Gone through in turn.
        num_images: To keep.
        question: Whose opinion is sought.

    Raises:
        ConfigError: As ``draw_missing``; or the reward is of a kind that does not say what it knows.
        DataError: As ``draw_missing``.
    """
    model = question.reward.model
    if not isinstance(model, TasteBasis):
        raise ConfigError(
            f"the reward is a {type(model).__name__}, which does not say what it is unsure of; use a taste basis."
        )
    prompts, before = check_prompts(prompts), DrawnImages.read(folder, drawing.facts())
    numbers, drawn = [int(Path(name).stem) for name in before.prompts], dict[int, bytes]()
    if not numbers:
        draw, size, parts = open_generator(drawing), drawing.batch_size, []
        asked = [prompts[number % len(prompts)] for number in range(question.num_candidates)]
        for first in tqdm(range(0, question.num_candidates, size), desc="candidates", unit="batch"):
            batch = range(first, min(first + size, question.num_candidates))
            seeds = [generator_for(drawing.seed, number).initial_seed() for number in batch]
            texts = [asked[number] for number in batch]
            images = draw(texts, seeds)
            drawn |= {number: to_png(image) for number, image in zip(batch, images, strict=True)}
            with torch.no_grad():
                parts.append(question.reward.features(images, texts).features)
        numbers = next_images(model, question.user_id, ImageFeatures(torch.cat(parts)), num_images)
    return draw_missing(folder, drawing, prompts, sorted(numbers), drawn)


def draw_missing(
    folder: Path,
    drawing: RatedDrawing,
    prompts: Sequence[str],
    numbers: Sequence[int],
    ready: Mapping[int, bytes] | None = None,
) -> RatingSheet:
    """Draw the images that a folder lacks, and keep its table and page up to date after every call of the model.

    Image i shows prompt ``i mod len(prompts)`` from the noise of the key (seed, i), whatever is drawn with it. An image
    that was drawn before keeps its prompt. The model is opened where an image is missing.

    Args:
        folder: Gets images, ``drawn.json``, ``ratings.csv`` and ``rate.html``.
        drawing: How images are drawn.
        prompts: Gone through in turn.
        numbers: Of the images that the folder then holds at least.
        ready: PNG files of images that are drawn already, by number.

    Returns:
        The table.

    Raises:
        ConfigError: The folder holds something else, or images that were drawn otherwise.
        DataError: There are no prompts, or the table cannot be read.
        StorageError: An image cannot be written.
    """
    prompts, before = check_prompts(prompts), DrawnImages.read(folder, drawing.facts())
    names = {number: f"{number:04d}.png" for number in numbers}
    wanted = {name: prompts[number % len(prompts)] for number, name in names.items()}
    drawn = DrawnImages(before.settings, {**wanted, **before.prompts})
    ensure_writable(folder)
    with writing("the list of what is drawn", folder):
        drawn.write(folder)  # before the images, so that each has its prompt whenever the run is stopped
    missing = [number for number, name in names.items() if not (folder / name).exists()]
    for number in set(missing) & set(ready or {}):
        _write(folder / names[number], (ready or {})[number])
    missing = [number for number in missing if number not in (ready or {})]
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
