"""The plan of a training, worked out by a worker that has nothing else to do, for the estimate on the page."""

from __future__ import annotations

import json
from dataclasses import replace

from pamela_rl.diffusion.loading import prepare_policy
from pamela_rl.storage import write_text
from pamela_rl.studio.estimate import plan_file
from pamela_rl.studio.jobs.models import Models
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.training.plan import plan_run
from pamela_rl.world.algorithm_settings import open_tuned_algorithm
from pamela_rl.world.run_settings import TrainSettings

BACKWARD = 2  # a call that is learned from takes as long as so many more


def write_plan(settings: StudioSettings, models: Models) -> None:
    """Write memory and calls of an iteration, once for the same settings.

    A call is one image and one denoising step.

    Raises:
        PamelaError: The model cannot be loaded, or cannot be trained.
    """
    file = plan_file(settings)
    if file.exists():
        return
    pipeline = models.generator().pipeline
    policy = prepare_policy(pipeline, replace(settings.model, compile="no", shard=False), pipeline.device)
    algorithm = open_tuned_algorithm(TrainSettings.algorithm, settings.model.name)
    plan = plan_run(policy, settings.train, algorithm, 1)
    calls = plan.sampling_calls + plan.reference_calls + (1 + BACKWARD) * plan.training_calls
    write_text(file, json.dumps({"bytes": plan.memory.total, "calls": calls * plan.rows_per_call}))
