"""What decides an image or a score, as facts that name what is kept of it: other facts, other images."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.steering.chat import ChatModel
from pamela_rl.steering.remote import RemoteGenerator
from pamela_rl.types import Scorer

Facts = Mapping[str, Any]
_SAMPLES = 64  # numbers of each tensor that enter a pipeline's digest


def digest_of(facts: Facts) -> str:
    """Return the SHA-256 of facts, in hex; the order of names does not matter."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode("utf-8")).hexdigest()


def pipeline_identity(pipeline: Any) -> dict[str, Any]:
    """Describe a pipeline by its class, its scheduler and a digest of its weights, whatever its name or folder.

    Of each tensor 64 numbers, evenly spaced, enter the digest: enough to tell trained models apart, and quick for large
    ones. Adapters are left out.
    """
    digest = hashlib.sha256()
    for name, component in sorted(pipeline.components.items()):
        if isinstance(component, nn.Module):
            for key, tensor in sorted(component.state_dict().items()):
                if "lora_" not in key:
                    flat = tensor.detach().flatten()
                    sample = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].cpu().double()
                    digest.update(
                        f"{name} {key.replace('.base_layer', '')} {tuple(tensor.shape)} {tensor.dtype}".encode()
                    )
                    digest.update(sample.numpy().tobytes())
    scheduler = pipeline.scheduler
    settings = json.loads(json.dumps(dict(scheduler.config), default=str))
    return {
        "pipeline": type(pipeline).__name__,
        "weights": digest.hexdigest(),
        "scheduler": {"class": type(scheduler).__name__, **settings},
    }


def service_identity(remote: RemoteGenerator) -> dict[str, Any]:
    """Describe a service by its address and its request for an empty prompt, which holds its model and settings."""
    return {
        "service": remote.service.name,
        "url": remote.config.base_url.rstrip("/"),
        "path": remote.service.path,
        "body": remote.service.body("", 0),
        "size": [remote.height, remote.width],
    }


def reward_digest(reward: PersonalReward) -> str:
    """Return the SHA-256 of the files that a reward saves; its encoder's fingerprint is in them."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "reward"
        reward.save(folder)
        return folder_digest(folder)


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 of all files of a folder and their names, in hex."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode("utf-8", "surrogatepass") + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def scorer_identity(scorer: Scorer | None) -> str | None:
    """Name a scorer of what images show, by its class and the name it has, e.g. that of a published model."""
    if scorer is None:
        return None
    return " ".join([type(scorer).__name__, str(getattr(scorer, "name", ""))]).strip()


def chat_identity(chat: ChatModel | None) -> dict[str, Any] | None:
    """Describe a chat model by its class, its name, its address and its settings of sampling."""
    if chat is None:
        return None
    plain = {name: value for name, value in vars(chat).items() if isinstance(value, str | int | float | None)}
    settings = {name: value for name, value in plain.items() if not name.startswith("_")}
    model, config = getattr(chat, "model", None), getattr(chat, "config", None)
    if not isinstance(model, str | None):
        settings["model"] = str(getattr(model, "name_or_path", type(model).__name__))
    return {"class": type(chat).__name__, "url": getattr(config, "base_url", None), **settings}
