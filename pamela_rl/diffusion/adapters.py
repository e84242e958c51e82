"""LoRA adapters: put one on, save it in the form diffusers loads by itself, find and load those of a run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers.utils.logging as diffusers_logging
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.adapter_bank import DOWN, with_effect
from pamela_rl.diffusion.adapter_files import check_fits, write_weights
from pamela_rl.diffusion.model_card import model_card
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import COMFYUI, INFO, WEIGHTS, adapter_digest, adapter_folder, read_file
from pamela_rl.errors import AdapterError
from pamela_rl.storage import folder_name, publish, write_text, writing

_CHECK = "pamela_check"  # name of an adapter that is on a pipeline for a moment
_DIGEST = "pamela_digest"  # attribute of a loaded adapter's configuration: of the file that it came from


def add_adapter(policy: Policy, name: str, settings: LoraSettings, seed: int) -> list[nn.Parameter]:
    """Put a fresh fp32 adapter on the denoiser, make it the active one, and return its weights, all in one vector.

    A fresh adapter changes nothing: its second matrices are zero. The first are drawn from ``seed`` alone.

    Raises:
        AdapterError: A LoRA is on the pipeline, loaded or fused, which would be neither trained nor part of the base.
    """
    loaded = _loras(policy.pipeline)
    if loaded is not None:
        raise AdapterError(
            f"the pipeline's {loaded} has a LoRA on it, which a training would neither change nor keep; take it off with "
            "pipe.unload_lora_weights(), or make it part of the base: pipe.fuse_lora(), pipe.unload_lora_weights(), "
            "pipe.save_pretrained(folder), and train with model.name=folder."
        )
    policy.adapter = policy.adapters[name] = policy.bank.fresh(settings, seed, policy.device)
    assert isinstance(policy.adapter.weights, nn.Parameter)
    return [policy.adapter.weights]


def _loras(pipeline: Any) -> str | None:
    """The first part of a pipeline that has a LoRA on it, and its name where it still has one."""
    for part, model in pipeline.components.items():
        if isinstance(model, nn.Module) and any(isinstance(module, BaseTunerLayer) for module in model.modules()):
            names = ", ".join(getattr(model, "peft_config", None) or ())
            return f"{part} ({names})" if names else part
    return None


def remove_adapter(policy: Policy, name: str) -> None:
    """Take an adapter off the denoiser; the last one leaves the base model as it was."""
    removed = policy.adapters.pop(name)
    if policy.adapter is removed:
        policy.adapter = None


def adapter_state(policy: Policy, name: str) -> dict[str, Tensor]:
    """Copy an adapter's weights, keyed as PEFT names them."""
    return policy.adapters[name].state()


def load_adapter_state(policy: Policy, name: str, state: Mapping[str, Tensor]) -> None:
    """Put saved weights into an adapter that is already on the denoiser."""
    policy.adapters[name].load(state)


def copy_adapter(policy: Policy, folder: Path, name: str) -> None:
    """Give an adapter that is on the denoiser the effect of a saved one, to train on from there; alpha may be another.

    Raises:
        AdapterError: The saved one does not fit the model, or has another rank or other layers.
    """
    own, saved = policy.adapters[name], read_adapter(policy, folder)
    if {key: matrix.shape for key, matrix in saved.items()} != own.shapes:
        raise AdapterError(
            f"the adapter in {folder} has rank {adapter_rank(saved)} on {len(saved) // 2} layers, the one to train has rank "
            f"{own.settings.rank} on {len(own.shapes) // 2}; set train.lora to its numbers to go on from it."
        )
    own.load(with_effect(saved, 1 / own.settings.scale))


def read_adapter(policy: Policy, folder: Path) -> dict[str, Tensor]:
    """Read a saved adapter's weights by PEFT's names, fp32, with alpha / rank multiplied in.

    Raises:
        AdapterError: It does not fit the model.
    """
    check_fits(policy.pipeline, folder)
    tensors, _ = read_file(folder / WEIGHTS)
    return {key.removeprefix(f"{policy.component}."): matrix for key, matrix in tensors.items()}


def adapter_rank(state: Mapping[str, Tensor]) -> int:
    """Return an adapter's rank, from its weights by PEFT's names."""
    return min((matrix.shape[0] for key, matrix in state.items() if key.endswith(DOWN)), default=0)


@contextmanager
def _loaded(policy: Policy, folder: Path, name: str) -> Iterator[tuple[Any, dict[str, Tensor]]]:
    """Load a saved adapter inside the block, as diffusers does: its configuration, and its weights by PEFT's names."""
    denoiser: Any = policy.denoiser
    load_adapter_folder(policy.pipeline, folder, name)
    try:
        state = get_peft_model_state_dict(denoiser, adapter_name=name)
        yield denoiser.peft_config[name], {key: value.detach().cpu().clone() for key, value in state.items()}
    finally:
        unload(policy)


def unload(policy: Policy) -> None:
    """Take everything off that was loaded from files, its layers too: deleting adapters alone would leave them wrapped."""
    policy.denoiser.unload_lora()


def save_adapter(
    policy: Policy, name: str, user_id: str, run: Path, info: Mapping[str, str], samples: Mapping[str, bytes]
) -> Path:
    """Write an adapter to ``<run>/adapters/<user>/``, load it back, compare, and only then publish it.

    Args:
        policy: The pipeline the adapter is on.
        name: The adapter's name there.
        user_id: Whose it is; becomes a safe folder name.
        run: The run's folder.
        info: Base model, reward, recipe, seed, versions, …; goes with rank and alpha into the safetensors headers,
            ``adapter.json`` and the model card.
        samples: PNG files to put beside the weights, by file name.

    Raises:
        AdapterError: What was written does not load back as the same adapter.
        StorageError: It cannot be written.
    """
    target = run / "adapters" / folder_name(user_id)
    settings = policy.adapters[name].settings
    facts = {"user_id": user_id, "rank": str(settings.rank), "alpha": str(settings.alpha), **info}
    state = with_effect(adapter_state(policy, name), settings.scale)
    with writing("the adapter", target), publish(target) as folder:
        write_weights(policy, state, settings.rank, facts, folder)
        _check_loads_back(policy, state, settings.rank, folder)
        write_text(folder / INFO, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        write_text(folder / "README.md", model_card(facts, sorted(samples), (folder / COMFYUI).exists()))
        for file, content in samples.items():
            (folder / file).write_bytes(content)
    return target


def _check_loads_back(policy: Policy, state: Mapping[str, Tensor], rank: int, folder: Path) -> None:
    with _loaded(policy, folder, _CHECK) as (config, loaded):
        # a pipeline takes an adapter in its own precision, which may be less than the file's
        same = state.keys() == loaded.keys() and all(
            torch.equal(state[k].to(loaded[k].dtype), loaded[k]) for k in state
        )
        if not same or (config.r, config.lora_alpha) != (rank, rank):
            raise AdapterError(f"the adapter written to {folder} loads back differently; nothing was published.")


def _load_weights(pipe: Any, folder: Path, name: str) -> None:
    """Load without the libraries' warnings that a second adapter exists and that text encoders have none."""
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`", category=UserWarning)
            pipe.load_lora_weights(folder, adapter_name=name)
    finally:
        diffusers_logging.set_verbosity(verbosity)


def load_adapter(pipe: Any, run: str | Path, user_id: str, name: str | None = None, strength: float = 1.0) -> Any:
    """Load a person's adapter from a run into a diffusers pipeline and make it the active one.

    One that the pipeline has already is only made active; if its file changed since, it is loaded again.

    Args:
        pipe: The pipeline.
        run: The run's folder.
        user_id: Whose adapter.
        name: What it is called on the pipeline; None is ``folder_name(user_id)``.
        strength: What its effect on each layer is multiplied by: 0 is the base model, 1 as it was trained. The one that
            its card recommends is ``recommended_strength(adapter_folder(run, user_id))``.

    Returns:
        The pipeline itself.

    Raises:
        AdapterError: The run has no adapter of that person, or it loads as nothing.
    """
    return load_adapter_folder(pipe, adapter_folder(run, user_id), name or folder_name(user_id), strength)


def load_adapter_folder(pipe: Any, folder: Path, name: str, strength: float = 1.0) -> Any:
    """Load an adapter from its own folder into a diffusers pipeline and make it the active one.

    Args:
        pipe: The pipeline.
        folder: With the adapter's weights.
        name: What it is called on the pipeline; another of that name is replaced.
        strength: As ``load_adapter`` takes it.

    Returns:
        The pipeline itself.

    Raises:
        AdapterError: It does not fit the pipeline, or loads as nothing.
    """
    check_fits(pipe, folder)
    digest, before = adapter_digest(folder), _configurations(pipe, name)
    if not before or any(getattr(config, _DIGEST, None) != digest for config in before):
        if before:
            pipe.delete_adapters(name)
        try:
            _load_weights(pipe, folder, name)
        except (RuntimeError, ValueError, OSError) as error:
            raise AdapterError(
                f"the adapter in {folder} cannot be loaded ({_shortened(error)}); give one that was trained on this base model."
            ) from error
        for config in (loaded := _configurations(pipe, name)):
            setattr(config, _DIGEST, digest)
        if not loaded:
            raise AdapterError(f"the adapter in {folder} loaded as nothing; it is not for this kind of pipeline.")
    pipe.set_adapters(name, strength)
    return pipe


def _configurations(pipe: Any, name: str) -> list[Any]:
    """Of a loaded adapter, one of each part of the pipeline that it is on."""
    parts = [part for part, names in pipe.get_list_adapters().items() if name in names]
    return [getattr(pipe, part).peft_config[name] for part in parts]


def _shortened(error: Exception) -> str:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return first if len(first) <= 200 else f"{first[:200]}…"
