"""The README of an adapter's folder: its metadata as the hub reads it, what it was made of, how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from huggingface_hub import ModelCardData

from pamela_rl.diffusion.saved_adapters import COMFYUI, STRENGTH, hub_id


def model_card(facts: Mapping[str, str], samples: Sequence[str], for_comfyui: bool) -> str:
    """Write the card.

    Args:
        facts: Base model, reward, recipe, …, shown as a table.
        samples: Names of images beside the weights.
        for_comfyui: Whether there is a file for ComfyUI beside them, too.
    """
    base_model = hub_id(facts.get("base_model", ""))
    data = ModelCardData(
        base_model=base_model, base_model_relation="adapter" if base_model else None, library_name="diffusers",
        pipeline_tag="text-to-image", tags=["lora", "text-to-image", "diffusers", "personal-alignment", "pamela_rl"],
    )  # fmt: skip
    rows = "\n".join(f"| {key} | {_cell(value)} |" for key, value in facts.items())
    parts = [
        f"---\n{data.to_yaml()}\n---",
        "# One person's adapter",
        "A LoRA trained by pamela_rl to please one person.",
        f"| | |\n|---|---|\n{rows}",
        _usage(facts),
    ]
    if for_comfyui:
        parts.append(f"ComfyUI: copy `{COMFYUI}` into `models/loras`; AUTOMATIC1111, Forge: into `models/Lora`.")
    return "\n\n".join([*parts, *(f"![{file}]({file})" for file in samples)]) + "\n"


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
