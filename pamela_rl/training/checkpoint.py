"""Checkpoints: adapter, optimizer and counters, in safetensors and JSON, published by rename."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pamela_rl.algorithms.learner import weights_of
from pamela_rl.config import TrainConfig
from pamela_rl.config.checks import free_settings
from pamela_rl.errors import CheckpointError
from pamela_rl.storage import publish, recover, write_tensors, write_text, writing
from pamela_rl.training.checkpoint_folders import BEST, KEPT, LAST

FORMAT = 4
_PLAIN = "#number"  # suffix of the optimizer's entries that are no tensors
_GROUP = "group"  # prefix of the numbers of its groups


@dataclass(frozen=True)
class Checkpoint:
    """The state after some iterations; its tensors lie where they were computed until it is saved.

    Attributes:
        iteration: Iterations that are done.
        adapter: The adapter's weights, by PEFT's names.
        optimizer: The optimizer's tensors, as ``optimizer_tensors`` keys them.
        copies: Further sets of the adapter's weights, by the copy's name.
        counters: Totals over all iterations.
        scalars: The algorithm's own state.
    """

    iteration: int
    adapter: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    copies: dict[str, Tensor]
    counters: dict[str, int]
    scalars: dict[str, float]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copy the optimizer's state, flat, for safetensors: that of each parameter, and the numbers of its groups.

    Prodigy, schedules and averages keep numbers there; what else a group has are settings.
    """
    tensors = {}
    for index, group in enumerate(optimizer.param_groups):
        for name, value in group.items():
            if isinstance(value, int | float):
                tensors[f"{_GROUP}{index}.{name}"] = _number(value)
    # not by state_dict, in which bitsandbytes nests some of them
    for index, weight in enumerate(weights_of(optimizer)):
        for name, value in optimizer.state.get(weight, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value.detach().clone()
            else:  # bitsandbytes counts steps in plain integers
                tensors[f"{index}.{name}{_PLAIN}"] = _number(value)
    return tensors


def _number(value: int | float) -> Tensor:
    """Keep all of a number: torch's own floats are half as wide as Python's."""
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load what ``optimizer_tensors`` copied."""
    state: dict[int, dict[str, Any]] = {}
    groups = optimizer.state_dict()["param_groups"]
    for key, value in tensors.items():
        index, name = key.removeprefix(_GROUP).split(".", 1)
        if key.startswith(_GROUP):
            groups[int(index)][name] = value.item()
            continue
        plain = name.endswith(_PLAIN)
        state.setdefault(int(index), {})[name.removesuffix(_PLAIN)] = value.item() if plain else value
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole; the one before it stays until then.

    Raises:
        StorageError: It cannot be written; the one before it is whole.
    """
    what = f"the checkpoint after {checkpoint.iteration} iterations"
    with writing(what, folder), publish(folder) as partial:
        for name in ("adapter", "optimizer", "copies"):
            tensors = {key: value.to("cpu", copy=True) for key, value in getattr(checkpoint, name).items()}
            write_tensors(partial / f"{name}.safetensors", tensors)
        state: dict[str, Any] = {"format": FORMAT, "iteration": checkpoint.iteration}
        state |= {"counters": checkpoint.counters, "scalars": checkpoint.scalars}
        write_text(partial / "state.json", json.dumps(state) + "\n")


def save_and_keep(folder: Path, checkpoint: Checkpoint, config: TrainConfig) -> None:
    """Save the newest checkpoint in a user's folder, keep it too as the settings ask, and remove those whose time is over.

    Kept ones share their files with the one they were where the file system can: they take no room until that is replaced.

    Raises:
        StorageError: It cannot be saved or kept; the one before is whole.
    """
    save_checkpoint(folder / LAST, checkpoint)
    kept, apart = folder / KEPT, config.keep.every * config.checkpoint_every

    def stays(iteration: int) -> bool:
        return bool(apart) and iteration % apart == 0

    if config.keep.last > 1 or stays(checkpoint.iteration):
        target = kept / f"{checkpoint.iteration:06d}"
        with writing("the checkpoint to keep", target), publish(target) as partial:
            for file in (folder / LAST).iterdir():
                try:
                    os.link(file, partial / file.name)
                except OSError:
                    shutil.copy(file, partial / file.name)
    numbers = sorted(int(path.name) for path in kept.glob("*") if path.name.isdecimal())
    newest = numbers[-config.keep.last :] if config.keep.last > 1 else []
    for number in numbers:
        if number not in newest and not stays(number):
            shutil.rmtree(kept / f"{number:06d}")


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the checkpoint, or return None when there is none.

    Raises:
        CheckpointError: It is there but cannot be read.
    """
    if not recover(folder).exists():
        return None
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state.get("format") != FORMAT:
            raise ValueError(f"its format is {state.get('format')}, this release writes {FORMAT}")
        return Checkpoint(
            iteration=state["iteration"],
            adapter=load_file(str(folder / "adapter.safetensors")),
            optimizer=load_file(str(folder / "optimizer.safetensors")),
            copies=load_file(str(folder / "copies.safetensors")),
            counters=state["counters"],
            scalars=state["scalars"],
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint {folder} cannot be read ({error}); remove it to start over.") from error


def claim(folder: Path, settings: Any, extra: Mapping[str, Any], fixed: Collection[str] = ()) -> None:
    """Record a run's settings in ``folder``, or check them against those it had; repair saves that were killed.

    Settings marked ``BESIDE`` and ``num_iterations`` may change, where they do not change what is learned.

    Args:
        folder: The run's own folder.
        settings: A (nested) dataclass.
        extra: Further facts that must not change under a run, e.g. the user, the base model and the reward.
        fixed: Of those, the ones that change what this run learns or keeps.

    Raises:
        CheckpointError: The folder belongs to a run with other settings; names each difference.
    """
    for kept in (LAST, BEST):
        recover(folder / kept)  # here, since one process alone claims a folder
    current = _flat(dataclasses.asdict(settings)) | dict(extra)
    path = folder / "run.json"
    if path.exists():
        try:
            recorded = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); choose another output folder.") from error
        free = free_settings(settings) | {"num_iterations"}
        names = [name for name in sorted({*current, *recorded}) if name in fixed or not _is_among(name, free)]
        changed = [name for name in names if current.get(name) != recorded.get(name)]
        if changed:
            rows = "; ".join(f"{k}: there {recorded.get(k)!r}, here {current.get(k)!r}" for k in changed)
            raise CheckpointError(
                f"{folder} holds a run with other settings ({rows}); "
                "choose another --output_dir, remove that folder, or use its settings."
            )
    with writing("the run's settings", path):
        write_text(path, json.dumps(current, indent=2) + "\n")


def digest_of(settings: Any, extra: Mapping[str, Any]) -> str:
    """Hash a run's settings and facts, but for those that change nothing that it publishes.

    Validation counts: it chooses among iterations, and recommends a strength.
    """
    free = free_settings(settings) - {"validation"}
    facts = {name: value for name, value in _flat(dataclasses.asdict(settings)).items() if not _is_among(name, free)}
    return hashlib.sha256(json.dumps(facts | dict(extra), sort_keys=True, default=str).encode()).hexdigest()[:16]


def _is_among(name: str, settings: set[str]) -> bool:
    return any(name == setting or name.startswith(f"{setting}.") for setting in settings)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        plain = str(value) if isinstance(value, Path) else value
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": plain}
    return flat
