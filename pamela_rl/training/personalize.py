"""One user's adapter, from a fresh LoRA to a published folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.config import IMAGES_PER_PROMPT, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import remove_adapter, save_adapter
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import DRAWN_WITH, SAMPLES, STRENGTH
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.evaluation.contact_sheets import contact_sheet, to_png
from pamela_rl.evaluation.training_curves import draw_curves
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import folder_name, read_metrics, writing
from pamela_rl.training.examples import RatedExamples
from pamela_rl.training.loop import settings_of, train
from pamela_rl.training.trackers import tracked
from pamela_rl.training.validation import STRENGTHS
from pamela_rl.types import Reward, Scorer

NUM_SAMPLES = 8  # images on the sheet beside the weights
PACKAGES = ("pamela_rl", "torch", "diffusers", "transformers", "peft", "accelerate")


@dataclass(frozen=True)
class Provenance:
    """What an adapter was made from; a run refuses to resume when any of it changed.

    Attributes:
        base_model: Name or folder of the pipeline.
        reward: Which reward, e.g. its kind and its encoder's fingerprint.
        ratings: Digest of the person's answers that the reward learned from, where known.
    """

    base_model: str
    reward: str
    ratings: str | None = None

    @classmethod
    def of(cls, model: ModelSettings, policy: Policy, reward: str) -> Provenance:
        """Name the base model with its size, its precision and what else of its settings changes what is learned."""
        how = ["detach_unconditional"] if model.detach_unconditional else []
        how += [model.quantization] if model.quantization != "no" else []
        how += [f"family {hashlib.sha256(model.family.read_bytes()).hexdigest()[:16]}"] if model.family else []
        return cls(" ".join([model.name, f"{policy.height} x {policy.width}", model.dtype, *how]), reward)

    @classmethod
    def found(cls, policy: Policy, reward: Reward | None) -> Provenance:
        """Name what can be told from a pipeline and a reward alone."""
        source = str(getattr(policy.pipeline.config, "_name_or_path", None) or type(policy.pipeline).__name__)
        encoder = getattr(getattr(reward, "encoder", None), "fingerprint", "")
        scored_by = "none" if reward is None else f"{type(reward).__name__} {encoder}".strip()
        return cls(f"{source} {policy.height} x {policy.width}", scored_by)

    def to_json(self) -> dict[str, str]:
        """Return the facts by name, those that are known."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def of_answers(self, digest: str | None) -> Provenance:
        """Return the same of one person, whose answers have a digest."""
        return replace(self, ratings=digest)


def versions() -> dict[str, str]:
    """Map every package that can change a result to its version; "unknown" where it is on the path but not installed."""
    return {package: _release(package) for package in PACKAGES}


def _release(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout on the path: no reason to lose an adapter that is trained
        return "unknown"


def _strength(folder: Path) -> dict[str, str]:
    """The recommended strength, where a judge has told it."""
    path = folder / STRENGTHS
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {STRENGTH: f"{facts['recommended']:g}"} if "recommended" in facts else {}


def _use(policy: Policy, config: TrainConfig, num_inference_steps: int) -> dict[str, str]:
    """How the adapter's images are meant to be drawn: as those beside it."""
    drawn = config.drawn
    used = (num_inference_steps, f"{drawn.guidance_scale:g}", drawn.negative_prompt, policy.height, policy.width)
    return {name: str(value) for name, value in zip(DRAWN_WITH, used, strict=True)}


def num_images_spent(rows: Sequence[Mapping[str, Any]], config: TrainConfig, samples: bool = True) -> int:
    """Count the images a run sampled for validation and, where its algorithm ``samples``, for training.

    Args:
        rows: Of its ``metrics.jsonl``.
        config: Of the run.
        samples: Whether the algorithm learns from images that it samples.
    """
    validations = 1 + len(rows) // config.validation.every if config.validation.every else 0
    validations += len(config.validation.strengths)
    trained = len(rows) * config.images_per_iteration if samples else 0
    return trained + validations * config.validation.num_images


def personalize(
    policy: Policy,
    reward: Reward | None,
    prompts: PromptSource,
    config: TrainConfig,
    algorithm: Algorithm,
    run: Path,
    accelerator: Accelerator | None = None,
    provenance: Provenance | None = None,
    monitors: Mapping[str, Scorer] | None = None,
    num_inference_steps: int = 20,
    planned_bytes: int | None = None,
    examples: RatedExamples | None = None,
    start: Path | None = None,
    bar: Any = None,
) -> Path:
    """Train one user's adapter, publish it under ``<run>/adapters/``, and leave the base model as it was.

    Args:
        policy: The pipeline.
        reward: What is maximised; None where the algorithm learns from rated images.
        prompts: Of one user.
        config: Of the training.
        algorithm: How it learns, e.g. ``DDPO()``.
        run: The run's folder; ``users/<user>/`` holds metrics, curves, validation images, and the checkpoint.
        accelerator: Devices, processes, mixed precision; None makes one.
        provenance: Written into the adapter; None names the pipeline's folder or hub id, and the reward's class and encoder.
        monitors: Scorers that are logged, not trained against, by name.
        num_inference_steps: Of the sample images, and of validation unless its settings say otherwise.
        planned_bytes: Memory of the plan, shown beside the peak after the first iteration.
        examples: Images that the user rated, for algorithms that learn from these.
        start: Folder of an adapter to go on from; None starts from the base model.
        bar: A tqdm bar that several people share; None shows one of their own.

    Returns:
        The adapter's folder.

    Raises:
        PamelaError: As ``train`` and ``save_adapter`` do.
    """
    accelerator = accelerator or Accelerator()
    config = config.used_in(num_inference_steps)
    user, prompts = prompts.user_id, prompts.held_out(config.validation, algorithm.learns_from == "rollouts")
    folder = run / "users" / folder_name(user)
    facts = (provenance or Provenance.found(policy, reward)).to_json()
    with tracked(accelerator, run.name, user, {**asdict(config), **settings_of(algorithm), **facts}, folder):
        name = train(
            policy, reward, prompts, config, algorithm, folder, accelerator, monitors, facts, planned_bytes, examples, start,
            bar,
        )  # fmt: skip
    if accelerator.is_main_process or policy.sharded:
        sample_prompts = [prompts.watched[row % len(prompts.watched)] for row in range(NUM_SAMPLES)]
        draw = PipelineGenerator(
            policy.pipeline, None, num_inference_steps, config.drawn.guidance_scale, min(NUM_SAMPLES, config.sampled_at_once),
            policy.height, policy.width, config.drawn.negative_prompt,
        )  # fmt: skip
        with policy.all_on_device(), policy.drawing():
            samples = draw(sample_prompts, range(NUM_SAMPLES))
    if accelerator.is_main_process:
        rows = read_metrics(folder / "metrics.jsonl")
        recipe = f"{algorithm.name}, {len(rows)} iterations x {config.images_per_iteration} images"
        spent = str(num_images_spent(rows, config, algorithm.learns_from == "rollouts"))
        made = {"recipe": recipe, "seed": str(config.seed), "images_spent": spent}
        info = {**facts, **_strength(folder), **made, **_use(policy, config, num_inference_steps), **versions()}
        save_adapter(policy, name, user, run, info, {SAMPLES: to_png(contact_sheet(samples, NUM_SAMPLES // 2))})
        with writing("the run's curves", folder):
            draw_curves(folder, config.validation.num_images // IMAGES_PER_PROMPT)
    accelerator.wait_for_everyone()
    remove_adapter(policy, name)
    return run / "adapters" / folder_name(user)
