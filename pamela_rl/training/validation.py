"""Validation: the same prompts and noise are sampled every few iterations, as people will draw them; shows progress and hacking."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import interpolate

from pamela_rl.config import IMAGES_PER_PROMPT, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import load_adapter_state
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.precision import computing
from pamela_rl.diffusion.reference import kl_to_reference
from pamela_rl.diffusion.rollout import choose_steps, rollout, schedule_of
from pamela_rl.diffusion.transitions import Schedule
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.contact_sheets import save_contact_sheet
from pamela_rl.evaluation.distances import diversity
from pamela_rl.storage import ensure_writable, write_text, writing
from pamela_rl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pamela_rl.training.processes import padded_shares
from pamela_rl.training.record import RunLog
from pamela_rl.training.trackers import track, track_images
from pamela_rl.types import PromptBatch, Scorer

JUDGE = "judge"
STRENGTHS = "strengths.json"
_KL = "kl_to_reference"
STEPS_MEASURED = 2  # of each image, for its distance to the base model
_SHEET_SIDE = 256  # pixels of an image's longer side on a contact sheet
_NOISE = 1 << 40  # in place of an iteration in the noise's key: the same at every validation, unlike any iteration's


class Validation:
    """Samples, scores and records; keeps the adapter with the judge's highest mean, and decides when to stop early.

    The record is ``validation.jsonl``, one row a validation, whose ``iteration`` counts completed iterations: row 0 is the
    base model. The best adapter so far is in ``best/``.

    Args:
        policy: With the adapter on.
        name: The adapter's name on it.
        scorers: The reward and the monitors, by name; with a ``judge`` the best adapter is kept.
        prompts: Of one user; the same few that it keeps apart are sampled every time.
        config: Of the run.
        folder: The user's.
        done: Completed iterations of a run that is resumed.
        accelerator: Devices and processes.

    Raises:
        ConfigError: There is a patience, but no judge.
    """

    def __init__(
        self,
        policy: Policy,
        name: str,
        scorers: Mapping[str, Scorer],
        prompts: PromptSource,
        config: TrainConfig,
        folder: Path,
        done: int,
        accelerator: Accelerator,
    ):
        if config.validation.patience and JUDGE not in scorers:
            raise ConfigError(
                f"validation.patience is {config.validation.patience} but there is no judge to stop by; give one among the "
                "monitors under the name 'judge', or set validation.patience to 0."
            )
        self._policy, self._name, self._scorers, self._accelerator = policy, name, scorers, accelerator
        self._config, self._best = config, folder / "best"
        self._sampling = config.drawn
        # the KL of a step is measured as if noise were added, which a chain of one step has no place for
        steps = max(2, self._sampling.num_inference_steps)
        self._kl_sampling = replace(self._sampling, eta=config.sampling.eta or None, num_inference_steps=steps)
        self._batch = fixed_batch(prompts, config.validation.num_images)
        self._log = RunLog(
            folder / "validation.jsonl", done + 1, accelerator.is_main_process, partial(track, accelerator)
        )
        self._sheets, self._strengths = folder / "validation", folder / STRENGTHS

    def run(self, iteration: int) -> None:
        """Validate after so many iterations, if it is time."""
        every = self._config.validation.every
        if every == 0 or iteration % every or any(row["iteration"] == iteration for row in self._log.rows):
            return
        values, images = self._sample()
        row = self._summary(values, images)
        better = JUDGE in self._scorers and row[f"eval/{JUDGE}_mean"] > self._best_score()
        self._save_images(images, iteration)
        if better and self._accelerator.is_main_process:
            assert self._policy.adapter is not None
            weights = self._policy.adapter.state()  # what was sampled, which may be an average of what is trained
            save_checkpoint(self._best, Checkpoint(iteration, weights, {}, {}, {}, {}))
        self._log.log(iteration, row)  # last: a validation that is on record is not repeated

    def run_strengths(self, iteration: int) -> None:
        """Sample the finished adapter at every strength of the settings, and write down what each gave: ``strengths.json``."""
        if not self._config.validation.strengths:
            return
        if (
            self._strengths.exists()
            and json.loads(self._strengths.read_text(encoding="utf-8"))["iteration"] == iteration
        ):
            return
        rows, judged = [], {}
        for strength in self._config.validation.strengths:
            self._policy.adapters[self._name].strength = strength
            values, images = self._sample()
            rows.append({"strength": strength, **self._summary(values, images)})
            judged[strength] = values[JUDGE].cpu().double() if JUDGE in values else None
        self._policy.adapters[self._name].strength = 1.0
        facts: dict[str, Any] = {"iteration": iteration, "rows": rows}
        if JUDGE in self._scorers:
            facts["recommended"] = weakest_as_good({s: v for s, v in judged.items() if v is not None})
        if self._accelerator.is_main_process:
            write_text(self._strengths, json.dumps(facts, indent=1) + "\n")

    def out_of_patience(self) -> bool:
        """Tell whether the judge's mean has not risen for ``validation.patience`` validations."""
        patience = self._config.validation.patience
        scores = [_judge_mean(row) for row in self._log.rows] if patience else []
        return bool(patience and len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience]))

    def restore_best(self) -> None:
        """Load the adapter with the judge's highest mean, if there is a patience."""
        self._accelerator.wait_for_everyone()
        best = load_checkpoint(self._best) if self._config.validation.patience else None
        if best is not None:
            load_adapter_state(self._policy, self._name, best.adapter)

    def _choose(self, schedule: Schedule, count: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Choose with copies of the generators, so that images do not depend on how many steps could be chosen."""
        copies = [generator.clone_state() for generator in generators]
        return choose_steps(schedule_of(self._policy, self._kl_sampling), STEPS_MEASURED, copies)

    def _best_score(self) -> float:
        return max(map(_judge_mean, self._log.rows), default=float("-inf"))

    def _sample(self) -> tuple[dict[str, Tensor], Tensor]:
        """Sample this process's share of the images; return scores, by name, and images of all processes."""
        config, accelerator, count = self._config, self._accelerator, len(self._batch)
        rows = padded_shares(count, accelerator.num_processes)[accelerator.process_index]
        batch = self._batch[rows]
        cut = min(config.sampled_at_once, len(rows), config.images_per_iteration // accelerator.num_processes)

        def gathered(mine: Tensor) -> Tensor:
            everybodys: Tensor = accelerator.gather(mine)
            return everybodys[:count]

        with computing(self._policy, self._accelerator):
            trajectory = rollout(self._policy, batch, self._sampling, config.seed, _NOISE, cut, self._choose)
            measured = trajectory
            if self._sampling.num_inference_steps == 1:
                longer = replace(self._kl_sampling, eta=0.0)
                measured = rollout(self._policy, batch, longer, config.seed, _NOISE, cut, self._choose)
            kl = kl_to_reference(self._policy, measured, self._kl_sampling, cut)
        values = {_KL: gathered(kl)}
        for name, scorer in self._scorers.items():
            values[name] = gathered(_score(scorer, trajectory.images, batch, config.reward.std_weight).float())
        return values, gathered(trajectory.images).cpu()

    def _summary(self, values: Mapping[str, Tensor], images: Tensor) -> dict[str, float]:
        """The means of all images."""
        means = {f"eval/{name}_mean": float(part.nanmean()) for name, part in values.items() if name != _KL}
        spread = diversity(images, self._batch.group_ids.numpy())
        return {"eval/kl_to_reference": float(values[_KL].mean()), **means, "eval/diversity": spread}

    def _save_images(self, images: Tensor, iteration: int) -> None:
        """Write the images as a contact sheet, one column a prompt, and log them to the trackers."""
        shrink = _SHEET_SIDE / max(images.shape[-2:])
        small = interpolate(images, scale_factor=shrink, mode="bilinear", antialias=True) if shrink < 1 else images
        sheet = small.view(-1, IMAGES_PER_PROMPT, *small.shape[1:]).transpose(0, 1).flatten(0, 1)
        if self._accelerator.is_main_process:
            with writing("the validation images", self._sheets):
                path = ensure_writable(self._sheets) / f"{iteration:06d}.png"
                partial = path.with_suffix(".partial")
                save_contact_sheet(sheet, partial, len(images) // IMAGES_PER_PROMPT, scale=1)
                partial.replace(path)
        track_images(self._accelerator, "eval/images", images, iteration)


def weakest_as_good(judged: Mapping[float, Tensor]) -> float:
    """Return the lowest strength whose scores are within a standard error of the best's, on the same prompts and noise.

    Args:
        judged: The judge's score of each image, by strength, ``(b,)``; images that have none at some strength are left out.
    """
    known = torch.stack(list(judged.values())).isfinite().all(dim=0)
    scores = {strength: values[known] for strength, values in judged.items()}
    best = max(scores, key=lambda strength: float(scores[strength].sum()))

    def as_good(strength: float) -> bool:
        loss = scores[best] - scores[strength]
        return len(loss) < 2 or float(loss.mean()) <= float(loss.std()) / len(loss) ** 0.5

    return min(filter(as_good, scores))


def _judge_mean(row: Mapping[str, Any]) -> float:
    """The judge's mean of a validation; one that is not finite is logged as null and ranks lowest."""
    value = row.get(f"eval/{JUDGE}_mean")
    return float("-inf") if value is None else float(value)


@torch.no_grad()
def _score(scorer: Scorer, images: Tensor, batch: PromptBatch, std_weight: float) -> Tensor:
    output = scorer(images, batch.prompts, batch.user_ids)
    return output.lower_confidence_bound(std_weight)


def fixed_batch(prompts: PromptSource, num_images: int) -> PromptBatch:
    """Some prompts, spread evenly over all to validate on, several images each."""
    count, watched = num_images // IMAGES_PER_PROMPT, prompts.watched
    chosen = [watched[row * len(watched) // count] for row in range(count)]
    ids = torch.arange(count * IMAGES_PER_PROMPT)
    repeated = tuple(prompt for prompt in chosen for _ in range(IMAGES_PER_PROMPT))
    return PromptBatch(repeated, (prompts.user_id,) * len(ids), ids // IMAGES_PER_PROMPT, ids)
