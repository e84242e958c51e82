"""Adapters for people of one's own, from settings to published folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from accelerate import Accelerator

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.data.prompts import PromptSource, read_metadata, read_prompts
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import OutOfMemory
from pamela_rl.rewards.choice import compares, describe, in_words, personal_folder
from pamela_rl.rewards.function import Metadata
from pamela_rl.rewards.hacking import hacking_warning
from pamela_rl.rewards.opening import open_choice, open_scorers, open_watched
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.saved import SavedReward
from pamela_rl.rewards.settings import WORLD
from pamela_rl.storage import SHIPPED_PIPELINES
from pamela_rl.training.examples import RatedExamples
from pamela_rl.training.memory_plan import fitting_batches, total_bytes
from pamela_rl.training.neighbours import starts_of
from pamela_rl.training.next_steps import MAX_NAMED, next_steps
from pamela_rl.training.outcomes import outcome_table, read_outcomes
from pamela_rl.training.people import People, personalize_users
from pamela_rl.training.personalize import Provenance
from pamela_rl.training.plan import people_together, plan_run
from pamela_rl.training.processes import new_accelerator, open_policy
from pamela_rl.training.slots import people_at_a_time
from pamela_rl.training.workers import Worker, launched, part_from_the_others, work_with_ray
from pamela_rl.types import Reward, Scorer
from pamela_rl.world.algorithm_settings import open_tuned_algorithm
from pamela_rl.world.captions import validation_prompts, world_prompts
from pamela_rl.world.rated_examples import rated_examples, read_prompted_answers
from pamela_rl.world.reference_images import reference_images
from pamela_rl.world.run_settings import TrainSettings
from pamela_rl.world.scorers import world_scorers


def train_users(settings: TrainSettings) -> None:
    """Train and publish one adapter a user, and say what to do with them.

    Processes of a launcher share out the users, where there are enough, and each user's images where there are not.

    Raises:
        PamelaError: A part is missing or does not fit, or the training fails.
    """
    if settings.ray is not None:
        work_with_ray(settings.ray, partial(_work_in, os.getcwd(), settings))
        print(f"\n{outcome_table(read_outcomes(settings.output_dir))}")
        return
    worker, sharded = launched(), settings.model.shard or "ACCELERATE_USE_FSDP" in os.environ
    if worker.count > 1 and not sharded and _num_users(settings) >= worker.count:
        _work(settings, part_from_the_others())
    else:
        _work(settings, Worker())


def _num_users(settings: TrainSettings) -> int:
    """Count those who are asked for by name, or whom the reward knows; 0 where only reading their images would tell."""
    folder = personal_folder(settings.reward)
    known = () if folder is None else SavedReward.read(folder).user_ids
    return len(settings.named or known)


def _work_in(folder: str, settings: TrainSettings, worker: Worker) -> None:
    """Work from the folder that the settings' paths begin in."""
    os.chdir(folder)
    _work(settings, worker)


def _work(settings: TrainSettings, worker: Worker) -> None:
    """Train whom no other worker has."""
    accelerator = new_accelerator(settings.output_dir, settings.trackers)
    algorithm = open_tuned_algorithm(settings.algorithm, settings.model.name)
    metadata = {} if settings.prompts is None else read_metadata(settings.prompts)
    reward, scorers = _open_scorers(settings, accelerator, metadata)
    samples = algorithm.learns_from == "rollouts"
    answers = None if samples else read_prompted_answers(settings.source, settings.named)
    users = settings.named or list(answers.people if answers else reward.model.user_ids if reward else ())
    starts = settings.starts(users)
    policy = open_policy(settings.model, accelerator)
    policy.adapt(settings.train.lora.targets)
    examples = {user: rated_examples(answers, user, policy.height, policy.width) for user in users if answers}
    if settings.model.name in SHIPPED_PIPELINES:
        scorers |= world_scorers(users, settings.content in (None, WORLD))
    config, watching = settings.train.used_in(settings.num_inference_steps), list(scorers.values())
    source = _prompts(settings, examples).held_out(config.validation, split=samples)
    if settings.batch_size == "auto":
        config = fitting_batches(
            policy, config, algorithm, accelerator.num_processes, watching, total_bytes(policy.device)
        )
    if reward is not None and samples and settings.start is None and settings.neighbours:
        starts = starts_of(
            policy, reward.ratings_by, reward.model.user_ids, source.prompts, users, config, settings.output_dir,
            settings.num_inference_steps,
        )  # fmt: skip
    provenance = _provenance(settings, policy, reward, metadata, samples)
    maximised: Reward | None = None
    if settings.reward is not None and samples:
        reference = None
        if compares(settings.reward):
            reference = reference_images(policy, source.prompts, config, settings, provenance.base_model)
        maximised = open_choice(settings.reward, reward, str(accelerator.device), metadata, reference)
        scorers["reward"] = maximised  # of which a personal one is a part
        watching = list(scorers.values())
    plan = plan_run(policy, config, algorithm, accelerator.num_processes, watching, source)
    begun = people_at_a_time(settings.output_dir) if settings.together == "auto" else None
    together = begun or people_together(settings.together, len(users), plan, policy.device)  # whatever is free by now
    plan = plan.for_people(together)
    if worker.rank == 0:
        for_whom = ", ".join(users) if len(users) <= MAX_NAMED else f"{len(users):,} people"
        for_whom = f"For {'each of ' * (len(users) > 1)}{for_whom}"
        told = f"reward: {in_words(settings.reward)}\n" if isinstance(settings.reward, dict) and samples else ""
        accelerator.print(f"{for_whom}:\n{plan.text()}\n{told}{_warning(settings, algorithm, reward, scorers)}")
    people = People(
        policy, maximised, source.prompts, users, config, algorithm, settings.output_dir, accelerator,
        provenance, scorers, settings.num_inference_steps, plan.memory.total, examples,
        starts, reward.fitted_on.answers if reward else None, together, source.validation, worker,
    )  # fmt: skip
    try:
        outcomes = personalize_users(people)
    except OutOfMemory as error:
        if settings.batch_size != "auto":
            raise
        raise OutOfMemory(f"{error} batch_size is auto; give --batch_size null with a --train.batch_size.") from error
    adapters = {outcome.user: Path(outcome.adapter) for outcome in outcomes if outcome.adapter}
    if worker.rank == 0:
        accelerator.print(
            next_steps(adapters, settings.output_dir, personal_folder(settings.reward), settings.model, scorers)
        )
    accelerator.end_training()


def _prompts(settings: TrainSettings, examples: Mapping[str, RatedExamples]) -> PromptSource:
    """Return the settings' prompts, else the world's; of rated images their own, beside which the others are validated on."""
    asked = None if settings.prompts is None else read_prompts(settings.prompts)
    if not examples:
        return world_prompts() if asked is None else PromptSource(asked, "")
    own = list(dict.fromkeys(prompt for mine in examples.values() for prompt in mine.prompts))
    others = asked or (validation_prompts() if settings.model.name in SHIPPED_PIPELINES else [])
    return PromptSource(own, "", [prompt for prompt in others if prompt not in set(own)])


def _open_scorers(
    settings: TrainSettings, accelerator: Accelerator, metadata: Metadata
) -> tuple[PersonalReward | None, dict[str, Scorer]]:
    if settings.reward is None:
        return None, {}
    content = settings.content or (WORLD if settings.model.name in SHIPPED_PIPELINES else "none")
    watched, folder = (content, settings.watch, str(accelerator.device), metadata), personal_folder(settings.reward)
    if folder is None:
        return None, open_watched(*watched)
    return open_scorers(folder, settings.judge, settings.encoder, settings.judge_encoder, *watched)


def _warning(
    settings: TrainSettings, algorithm: Algorithm, reward: PersonalReward | None, scorers: dict[str, Scorer]
) -> str:
    if reward is None or algorithm.learns_from != "rollouts":
        return ""
    judge = getattr(scorers.get("judge"), "encoder_name", None)
    return hacking_warning(reward.encoder.name, judge, settings.train.validation.patience, algorithm.kl_target)


def _provenance(
    settings: TrainSettings, policy: Policy, reward: PersonalReward | None, metadata: Metadata, samples: bool
) -> Provenance:
    if settings.reward is None or not samples:
        return Provenance.of(settings.model, policy, "none: learned from rated images")
    encoder = "" if reward is None else reward.encoder.fingerprint
    return Provenance.of(settings.model, policy, describe(settings.reward, encoder, metadata))
