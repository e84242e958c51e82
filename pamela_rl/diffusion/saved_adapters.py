"""Which adapters a run has published, read without the libraries that run them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from pamela_rl.errors import AdapterError
from pamela_rl.storage import folder_name, publish, writing

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "pytorch_lora_weights.safetensors"
COMFYUI = "comfyui.safetensors"
SAMPLES = "samples.png"
INFO = "adapter.json"
SAFETENSORS = ".safetensors"
STRENGTH = "recommended_strength"  # in it
HEADER = "pamela_rl."  # begins our own keys in the header of weights
_AFTER_NAME = re.compile(
    r" \d+ x \d+( .*)?$"
)  # what follows the name, which may have blanks, in the fact about the base model
DRAWN_WITH = {"num_inference_steps": int, "guidance_scale": float, "negative_prompt": str, "height": int, "width": int}
"""Facts in it, and what each is read as: how images are drawn in validation, beside the weights and, unless asked otherwise, in a
comparison."""


def list_adapters(run: str | Path) -> dict[str, Path]:
    """Map each user id of a run to the folder of their adapter.

    Raises:
        AdapterError: The run holds no adapters.
    """
    found = {}
    for file in sorted(Path(run).glob(f"adapters/*/{INFO}")):
        found[str(json.loads(file.read_text(encoding="utf-8"))["user_id"])] = file.parent
    if not found:
        raise AdapterError(f"no adapters under {Path(run) / 'adapters'}; give the folder of a finished run.")
    return found


def adapter_folder(run: str | Path, user_id: str) -> Path:
    """Return the folder of a user's adapter.

    Raises:
        AdapterError: The run has no adapter of that user.
    """
    adapters = list_adapters(run)
    if user_id not in adapters:
        known = ", ".join(sorted(adapters)[:10])
        raise AdapterError(f"the run {run} has no adapter of user {user_id!r}; it has those of: {known}.")
    return adapters[user_id]


def starting_adapter(path: Path, user_id: str) -> Path:
    """Return the adapter that a user's training begins from: their own of a run, or the one that is given for all.

    Raises:
        AdapterError: The run has no adapter of that user, or there is neither run nor adapter.
    """
    return path if path.suffix == SAFETENSORS or any(path.glob(f"*{SAFETENSORS}")) else adapter_folder(path, user_id)


def adapter_file(path: Path) -> Path:
    """Return the file with an adapter's weights, given that file or its folder.

    Raises:
        AdapterError: There is no such file, or there are several and none has diffusers' name.
    """
    files = [path] if path.suffix == SAFETENSORS else sorted(path.glob(f"*{SAFETENSORS}"))
    named = [file for file in files if file.name == f"pytorch_lora_weights{SAFETENSORS}"]
    if len(named or files) != 1 or not files[0].is_file():
        raise AdapterError(f"{path} holds {len(files)} {SAFETENSORS} files; give one file, e.g. my_lora{SAFETENSORS}.")
    return (named or files)[0]


def keep_version(run: Path, user_id: str) -> Path | None:
    """Keep a copy of a user's adapter, as ``<run>/versions/<user>/<number>/``; None where there is none, or it is kept already."""
    adapter, kept = run / "adapters" / folder_name(user_id), run / "versions" / folder_name(user_id)
    numbers = version_numbers(run, user_id)
    if not (adapter / INFO).exists():
        return None
    if numbers and adapter_digest(kept / str(numbers[-1])) == adapter_digest(adapter):
        return None
    target = kept / str(numbers[-1] + 1 if numbers else 1)
    with writing("the version before", target), publish(target) as folder:
        shutil.copytree(adapter, folder, dirs_exist_ok=True)
    return target


def version_numbers(run: Path, user_id: str) -> list[int]:
    """List the numbers of a user's kept versions, the oldest first."""
    kept = run / "versions" / folder_name(user_id)
    return sorted(int(path.name) for path in kept.glob("*") if path.name.isdecimal())


def restore_version(run: str | Path, user_id: str, number: int | None = None) -> Path:
    """Publish a version of a user's adapter again; the one that is published now is kept as the newest version.

    Args:
        run: The run's folder.
        user_id: Whose.
        number: Of the version; None takes the one before.

    Returns:
        The adapter's folder.

    Raises:
        AdapterError: There is no such version.
    """
    adapter, numbers = adapter_folder(run, user_id), version_numbers(Path(run), user_id)
    wanted = number if number is not None else (numbers[-1] if numbers else 0)
    if wanted not in numbers:
        known = ", ".join(map(str, numbers)) or "none"
        raise AdapterError(f"{run} has no version {wanted} of the adapter of user {user_id!r}; it has: {known}.")
    keep_version(Path(run), user_id)
    with writing("the adapter", adapter), publish(adapter) as folder:
        shutil.copytree(Path(run) / "versions" / folder_name(user_id) / str(wanted), folder, dirs_exist_ok=True)
    return adapter


def find_adapter(path: Path, user_id: str | None = None) -> Path:
    """Return the folder of an adapter, given that folder, or a run and a user.

    Raises:
        AdapterError: There is none; names the path.
    """
    if (path / INFO).is_file():
        return path
    if user_id is None:
        raise AdapterError(
            f"{path} holds no {INFO}, so it is no adapter; give the folder of one, e.g. outputs/mine/adapters/ada, or a run "
            "and the user."
        )
    return adapter_folder(path, user_id)


def adapter_digest(folder: Path) -> str:
    """Return the SHA-256 of an adapter's weights, in hex."""
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file's tensors and header.

    Raises:
        AdapterError: It cannot be read.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> AdapterError:
    """Make the error of weights that cannot be read."""
    return AdapterError(f"{path} cannot be read ({error}); give the folder of a saved adapter.")


def adapter_base_model(folder: Path) -> str | None:
    """Return the name of the base model that an adapter says it was trained on; None where it does not say."""
    facts = json.loads((folder / INFO).read_text(encoding="utf-8"))
    return _AFTER_NAME.sub("", str(facts["base_model"])) if facts.get("base_model") else None


def hub_id(base_model: str) -> str | None:
    """Return the hub id in what an adapter says of its base model, e.g. ``OWNER/NAME 512 x 512``; None where it is a folder."""
    found = re.match(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?: \d+ x \d+( .*)?)?$", base_model)
    return found[1] if found and not Path(found[1]).exists() else None


def drawn_with(folder: Path) -> dict[str, Any]:
    """Return how an adapter's images are meant to be drawn, as it says itself, by the names of pipelines' arguments."""
    facts = json.loads((folder / INFO).read_text(encoding="utf-8"))
    return {name: kind(facts[name]) for name, kind in DRAWN_WITH.items() if name in facts}


def recommended_strength(folder: Path) -> float:
    """Return the strength that an adapter recommends itself to be used at; 1 where it does not say."""
    return float(json.loads((folder / INFO).read_text(encoding="utf-8")).get(STRENGTH, 1.0))


def images_spent(run: str | Path, user_id: str) -> int:
    """Count the pictures drawn to make a person's adapter, as it says itself; 0 where it does not say."""
    facts = json.loads((adapter_folder(run, user_id) / INFO).read_text(encoding="utf-8"))
    return int(facts.get("images_spent", 0))
