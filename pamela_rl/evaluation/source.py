"""What a comparison needs of a finished run: its users, adapters, scorers, prompts and pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pamela_rl.data.phrases import PHOTOGRAPHIC, Phrasebook
from pamela_rl.diffusion.adapters import load_adapter
from pamela_rl.diffusion.content_filters import SafetyFlags
from pamela_rl.diffusion.loading import DTYPES, load_pipeline
from pamela_rl.diffusion.saved_adapters import list_adapters
from pamela_rl.diffusion.settings import Dtype
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.saved import chosen_users
from pamela_rl.steering.remote import RemoteGenerator
from pamela_rl.types import Scorer


@dataclass(frozen=True)
class Source:
    """Everything arms are made of.

    Attributes:
        run: Folder of the run that the adapters are of.
        pipeline: With the adapters of all users compared loaded, named as ``folder_name`` does; None for a service.
        remote: A service that draws instead of a pipeline; it has no adapters.
        users: To compare for.
        reward: The personal reward.
        scorers: By name: ``reward``, where there are any ``judge``, ``faithfulness``, ``true_rating``, ``flagged`` (by the
            pipeline's safety checker), and what else is watched.
        prompts: Held out.
        reference_prompts: To draw reference images from, for tastes in words.
        phrasebook: What prompts may add.
        adapted: Whether users have adapters.
    """

    run: Path
    pipeline: Any
    remote: RemoteGenerator | None
    users: list[str]
    reward: PersonalReward
    scorers: Mapping[str, Scorer]
    prompts: list[str]
    reference_prompts: list[str]
    phrasebook: Phrasebook
    adapted: bool = True

    @property
    def content(self) -> Scorer | None:
        """What tells whether images show what was asked for."""
        return self.scorers.get("faithfulness")


def open_source(
    run: Path,
    base_model: str,
    reward: PersonalReward,
    scorers: Mapping[str, Scorer],
    prompts: Sequence[str],
    reference_prompts: Sequence[str] | None = None,
    phrasebook: Phrasebook = PHOTOGRAPHIC,
    users: Sequence[str] = (),
    remote: RemoteGenerator | None = None,
    dtype: Dtype = "float32",
    device: str = "cpu",
    base_model_config: Path | None = None,
) -> Source:
    """Load the pipeline that draws, with a run's adapters.

    Args:
        run: A folder with ``adapters/``.
        base_model: "world", "flow", a hub id, a folder or a single file.
        reward: The personal reward.
        scorers: All of them by name, the reward's among them.
        prompts: Held out.
        reference_prompts: To draw reference images from, for tastes in words; None takes ``prompts``.
        phrasebook: What prompts may add.
        users: To compare for; none means everybody with an adapter.
        remote: Draws instead of ``base_model``; users then need no adapter.
        dtype: Of the base model's weights.
        device: Where it lives.
        base_model_config: For a single file: the folder of a pipeline of the same kind.

    Raises:
        ConfigError: There is no such pipeline.
        AdapterError: The run has no adapters, or none of a user.
    """
    adapters = list_adapters(run) if remote is None else {}
    chosen = list(users) or _in_order(run, adapters) or list(reward.model.user_ids)
    pipeline = None
    if remote is None:
        pipeline = load_pipeline(base_model, device, DTYPES[dtype], config=base_model_config)
        for user in chosen:
            load_adapter(pipeline, run, user)
    flags = {} if pipeline is None else SafetyFlags.of(pipeline)
    described = list(prompts if reference_prompts is None else reference_prompts)
    return Source(
        run,
        pipeline,
        remote,
        chosen,
        reward,
        {**scorers, **flags},
        list(prompts),
        described,
        phrasebook,
        remote is None,
    )


def _in_order(run: Path, adapters: Mapping[str, Path]) -> list[str]:
    """Users with an adapter, or all where nobody has one, in the order in which the run chose them if that is known."""
    order = chosen_users(run / "rewards") or sorted(adapters)
    return [user for user in order if user in adapters or not adapters] or sorted(adapters)
