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
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import INFO, STRENGTH, adapter_folder
from pamela_rl.errors import AdapterError
from pamela_rl.storage import folder_name, publish, write_text, writing

WEIGHTS = "pytorch_lora_weights.safetensors"
_CHECK, _START = "pamela_check", "pamela_start"  # names of adapters that are on a pipeline for a moment


def add_adapter(policy: Policy, name: str, settings: LoraSettings, seed: int) -> list[nn.Parameter]:
    """Put a fresh fp32 adapter on the denoiser, make it the active one, and return its weights, all in one vector.

    A fresh adapter changes nothing: its second matrices are zero. The first are drawn from ``seed`` alone.

    Raises:
        AdapterError: An adapter from a file is on the denoiser, which would be neither trained nor part of the base.
    """
    loaded = list(getattr(policy.denoiser, "peft_config", None) or ())
    if loaded:
        raise AdapterError(
            f"the pipeline has the adapter {loaded[0]} on it, which a training would neither change nor keep; take it off with "
            "pipe.unload_lora_weights(), or make it part of the base: pipe.fuse_lora(), pipe.unload_lora_weights(), "
            "pipe.save_pretrained(folder), and train with model.name=folder."
        )
    policy.adapter = policy.adapters[name] = policy.bank.fresh(settings, seed, policy.device)
    assert isinstance(policy.adapter.weights, nn.Parameter)
    return [policy.adapter.weights]


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
    """Give an adapter that is on the denoiser the weights of a saved one, to train on from there.

    Raises:
        AdapterError: The saved one does not fit the model, or has another rank or alpha.
    """
    own, (settings, saved) = policy.adapters[name], read_adapter(policy, folder)
    if settings != own.settings or saved.keys() != own.shapes.keys():
        raise AdapterError(
            f"the adapter in {folder} has rank {settings.rank} and alpha {settings.alpha}, the one to train has rank "
            f"{own.settings.rank} and alpha {own.settings.alpha}; set train.lora to its numbers to go on from it."
        )
    own.load(saved)


def read_adapter(policy: Policy, folder: Path) -> tuple[LoraSettings, dict[str, Tensor]]:
    """Read a saved adapter as diffusers does: its rank and alpha, and its weights by PEFT's names.

    Raises:
        AdapterError: It does not fit the model.
    """
    with _loaded(policy, folder, _START) as (config, state):
        return LoraSettings(config.r, int(config.lora_alpha), config.use_rslora), state


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
        info: Base model, reward, recipe, seed, versions, …; goes into the safetensors header, ``adapter.json`` and the
            model card.
        samples: PNG files to put beside the weights, by file name.

    Raises:
        AdapterError: What was written does not load back as the same adapter.
        StorageError: It cannot be written.
    """
    target = run / "adapters" / folder_name(user_id)
    facts = {"user_id": user_id, **info}
    with writing("the adapter", target), publish(target) as folder:
        _write_weights(policy, name, folder, facts)
        _check_loads_back(policy, name, folder)
        write_text(folder / INFO, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        write_text(folder / "README.md", _model_card(facts, sorted(samples)))
        for file, content in samples.items():
            (folder / file).write_bytes(content)
    return target


def _write_weights(policy: Policy, name: str, folder: Path, facts: Mapping[str, str]) -> None:
    settings = policy.adapters[name].settings
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=list(policy.targets), init_lora_weights="gaussian",
        use_rslora=settings.rslora,
    )  # fmt: skip
    layers = {
        f"{policy.component}_lora_layers": adapter_state(policy, name),
        f"{policy.component}_lora_adapter_metadata": config.to_dict(),
    }
    policy.pipeline.save_lora_weights(folder, **layers)
    with safe_open(str(folder / WEIGHTS), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
        header = dict(file.metadata() or {})
    save_file(tensors, str(folder / WEIGHTS), metadata=header | {f"pamela_rl.{k}": v for k, v in facts.items()})


def _check_loads_back(policy: Policy, name: str, folder: Path) -> None:
    own, saved = policy.adapters[name].settings, adapter_state(policy, name)
    with _loaded(policy, folder, _CHECK) as (config, loaded):
        # a pipeline takes an adapter in its own precision, which may be less than the file's
        same = saved.keys() == loaded.keys() and all(
            torch.equal(saved[k].to(loaded[k].dtype), loaded[k]) for k in saved
        )
        if not same or (config.r, config.lora_alpha, config.use_rslora) != (own.rank, own.alpha, own.rslora):
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


def _model_card(facts: Mapping[str, str], samples: list[str]) -> str:
    rows = "\n".join(f"| {key} | {_cell(value)} |" for key, value in facts.items())
    pictures = "\n".join(f"![{file}]({file})" for file in samples)
    return (
        "---\nlibrary_name: diffusers\ntags: [lora, text-to-image, personal-alignment, pamela_rl]\n---\n\n"
        "# One person's adapter\n\nA LoRA trained by pamela_rl to please one person.\n\n"
        f"| | |\n|---|---|\n{rows}\n\n{_usage(facts)}\n\n{pictures}\n"
    )


def _usage(facts: Mapping[str, str]) -> str:
    load = 'pipe.load_lora_weights("path/to/this/folder", adapter_name="mine")'
    strength = facts.get(STRENGTH)
    if strength is None:
        return f"```python\n{load}\n```"
    return (
        f"Recommended strength: **{_cell(strength)}**. Less is nearer to the base model and more varied.\n\n"
        f'```python\n{load}\npipe.set_adapters("mine", {_cell(strength)})\n```'
    )


def _cell(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def load_adapter(pipe: Any, run: str | Path, user_id: str, name: str | None = None, strength: float = 1.0) -> Any:
    """Load a person's adapter from a run into a diffusers pipeline and make it the active one.

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
        name: What it is called on the pipeline.
        strength: As ``load_adapter`` takes it.

    Returns:
        The pipeline itself.

    Raises:
        AdapterError: It does not fit the pipeline, or loads as nothing.
    """
    try:
        _load_weights(pipe, folder, name)
    except (RuntimeError, ValueError, OSError) as error:
        raise AdapterError(
            f"the adapter in {folder} cannot be loaded ({str(error).splitlines()[0]}); give one that was trained on this "
            "base model."
        ) from error
    if not any(name in names for names in pipe.get_list_adapters().values()):
        raise AdapterError(f"the adapter in {folder} loaded as nothing; it is not for this kind of pipeline.")
    pipe.set_adapters(name, strength)
    return pipe
