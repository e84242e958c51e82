"""Looks: the same prompts and noise drawn again every few iterations, so that one sees the taste come, and turn bad."""

from __future__ import annotations

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
from pamela_rl.diffusion.adapters import adapter_state, load_adapter_state
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.reference import kl_to_reference
from pamela_rl.diffusion.rollout import choose_steps, rollout, schedule_of
from pamela_rl.diffusion.transitions import Schedule
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.contact_sheets import save_contact_sheet
from pamela_rl.evaluation.distances import diversity
from pamela_rl.storage import ensure_writable, writing
from pamela_rl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pamela_rl.training.record import RunLog
from pamela_rl.training.trackers import track, track_pictures
from pamela_rl.types import PromptBatch, Scorer

JUDGE = "judge"
STEPS_MEASURED = 2  # of each picture, for its distance to the base model
_SHEET_SIDE = 256  # pixels of a picture's longer side on a sheet
_NOISE = 1 << 40  # in place of an iteration in the noise's key: the same at every look, unlike any iteration's


class Looks:
    """Draws, scores and records; keeps the adapter the judge liked best, and says when to stop.

    The record is ``validation.jsonl``, one row a look, its ``iteration`` the number of iterations behind it: row 0 is the
    base model. The best adapter so far is in ``best/``.

    Args:
        policy: The pipeline, its adapter on.
        name: The adapter's name on it.
        scorers: The reward and the monitors, by name; with a ``judge`` the best adapter is kept.
        prompts: Of one person; the same few are drawn every time.
        config: Of the run.
        folder: The person's folder.
        done: Iterations that are behind a run that is taken up again.
        accelerator: Devices and processes.

    Raises:
        ConfigError: The run shall stop by the judge, but there is none.
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
        # with training's steps but without added noise, as the adapter's user will draw; but the KL of a step is measured as if there were some
        self._quiet = replace(config.sampling, eta=0.0, window_start=0, window_size=None)
        self._yardstick = replace(self._quiet, eta=config.sampling.eta or None)
        self._batch = _fixed_pictures(prompts, config.validation.num_images)
        self._log = RunLog(folder / "validation.jsonl", done + 1, accelerator.is_main_process, partial(track, accelerator))
        self._sheets = folder / "validation"

    def take(self, iteration: int) -> None:
        """Look, if it is time, after so many iterations."""
        every = self._config.validation.every
        if every == 0 or iteration % every or any(row["iteration"] == iteration for row in self._log.rows):
            return
        row, images = self._scores()
        better = JUDGE in self._scorers and row[f"eval/{JUDGE}_mean"] > self._best_score()
        self._keep_pictures(images, iteration)
        if better and self._accelerator.is_main_process:
            weights = adapter_state(self._policy, self._name)
            save_checkpoint(self._best, Checkpoint(iteration, weights, {}, {}, {}, {}))
        self._log.log(iteration, row)  # last: a look that is on record is not taken again

    def exhausted(self) -> bool:
        """Tell whether the judge has liked nothing better for as many looks as the run has patience."""
        patience = self._config.validation.patience
        scores = [_judged(row) for row in self._log.rows] if patience else []
        return bool(patience and len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience]))

    def restore_best(self) -> None:
        """Put the adapter that the judge liked best back on, if the run was to stop by it."""
        self._accelerator.wait_for_everyone()
        best = load_checkpoint(self._best) if self._config.validation.patience else None
        if best is not None:
            load_adapter_state(self._policy, self._name, best.adapter)

    def _choose(self, schedule: Schedule, count: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Choose by copies, so that pictures do not depend on how many steps could be chosen."""
        copies = [generator.clone_state() for generator in generators]
        return choose_steps(schedule_of(self._policy, self._yardstick), STEPS_MEASURED, copies)

    def _best_score(self) -> float:
        return max(map(_judged, self._log.rows), default=float("-inf"))

    def _scores(self) -> tuple[dict[str, float], Tensor]:
        """Draw this process's share of the pictures; return everybody's means and pictures."""
        config, size = self._config, len(self._batch) // self._accelerator.num_processes
        mine = slice(self._accelerator.process_index * size, (self._accelerator.process_index + 1) * size)
        batch = self._batch[mine]
        cut = min(config.batch_size, size)
        with self._accelerator.autocast():
            drawn = rollout(self._policy, batch, self._quiet, config.seed, _NOISE, cut, self._choose)
            kl = kl_to_reference(self._policy, drawn, self._yardstick, cut)
        scores = {"eval/kl_to_reference": float(self._accelerator.gather(kl).mean())}
        for name, scorer in self._scorers.items():
            values = self._accelerator.gather(_score(scorer, drawn.images, batch, config.reward.std_weight).float())
            scores[f"eval/{name}_mean"] = float(values.nanmean())
        images = self._accelerator.gather(drawn.images).cpu()
        return scores | {"eval/diversity": diversity(images, self._batch.group_ids[: len(images)].numpy())}, images

    def _keep_pictures(self, images: Tensor, iteration: int) -> None:
        """Leave the pictures as a sheet, one column a prompt, and show them in the trackers."""
        shrink = _SHEET_SIDE / max(images.shape[-2:])
        small = interpolate(images, scale_factor=shrink, mode="bilinear", antialias=True) if shrink < 1 else images
        sheet = small.view(-1, IMAGES_PER_PROMPT, *small.shape[1:]).transpose(0, 1).flatten(0, 1)
        if self._accelerator.is_main_process:
            with writing("the pictures of a look", self._sheets):
                path = ensure_writable(self._sheets) / f"{iteration:06d}.png"
                partial = path.with_suffix(".partial")
                save_contact_sheet(sheet, partial, len(images) // IMAGES_PER_PROMPT, scale=1)
                partial.replace(path)
        track_pictures(self._accelerator, "eval/pictures", images, iteration)


def _judged(row: Mapping[str, Any]) -> float:
    """What the judge said at a look; what was no number is logged as null, and worse than anything."""
    value = row.get(f"eval/{JUDGE}_mean")
    return float("-inf") if value is None else float(value)


@torch.no_grad()
def _score(scorer: Scorer, images: Tensor, batch: PromptBatch, std_weight: float) -> Tensor:
    output = scorer(images, batch.prompts, batch.user_ids)
    return output.lower_confidence_bound(std_weight)


def _fixed_pictures(prompts: PromptSource, num_images: int) -> PromptBatch:
    """Some prompts, spread evenly over all, several pictures each."""
    count = num_images // IMAGES_PER_PROMPT
    chosen = [prompts.prompts[row * len(prompts.prompts) // count] for row in range(count)]
    ids = torch.arange(count * IMAGES_PER_PROMPT)
    repeated = tuple(prompt for prompt in chosen for _ in range(IMAGES_PER_PROMPT))
    return PromptBatch(repeated, (prompts.user_id,) * len(ids), ids // IMAGES_PER_PROMPT, ids)
