"""The training loop of all models of the world: AdamW, warm-up and cosine decay, EMA weights, resumable."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from pamela_rl.storage import write_tensors
from pamela_rl.world.settings import FitSettings


def _rate(step: int, settings: FitSettings) -> float:
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    return warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / settings.num_steps)))


def _save(
    folder: Path, step: int, modules: nn.ModuleList, ema: dict[str, Tensor], optimizer: torch.optim.AdamW
) -> None:
    tensors = {f"model.{k}": v for k, v in modules.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    unique = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
    write_tensors(folder / "checkpoint.safetensors", unique, {"step": str(step)})


def _load(folder: Path, modules: nn.ModuleList, ema: dict[str, Tensor], optimizer: torch.optim.AdamW) -> int:
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return 0
    from safetensors import safe_open

    tensors = load_file(str(path))
    modules.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    for name in ema:
        ema[name] = tensors[f"ema.{name}"]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    with safe_open(str(path), framework="pt") as file:
        return int(file.metadata()["step"])


def fit(
    name: str,
    modules: Sequence[nn.Module],
    loss: Callable[[int, torch.Generator], Tensor],
    settings: FitSettings,
    folder: Path,
) -> None:
    """Train ``modules`` and leave their EMA weights in them; a restarted run resumes from the last checkpoint.

    Args:
        name: Of the progress bar and of the log, ``<name>.jsonl``.
        modules: What to train, in training mode.
        loss: Maps a step and a generator seeded with that step to a scalar loss, so a resumed run sees the same data.
        settings: Length and rates.
        folder: Where ``checkpoint.safetensors`` and the log go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = nn.ModuleList(modules)
    parameters = [p for p in trained.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
    )
    ema = {key: value.detach().clone() for key, value in trained.state_dict().items()}
    first = _load(folder, trained, ema, optimizer)
    trained.train()
    started, running = time.monotonic(), 0.0
    bar = tqdm(range(first, settings.num_steps), initial=first, total=settings.num_steps, desc=name, mininterval=5)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(step, settings)
        value = loss(step, torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        decay = min(settings.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for key, current in trained.state_dict().items():
                if current.is_floating_point():
                    ema[key].lerp_(current, 1 - decay)
        running = value.item() if step == first else 0.98 * running + 0.02 * value.item()
        if step % 50 == 49:
            row = {"step": step + 1, "loss": round(running, 5), "seconds": round(time.monotonic() - started, 1)}
            with (folder / f"{name}.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            bar.set_postfix(loss=f"{running:.4f}")
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.num_steps:
            _save(folder, step + 1, trained, ema, optimizer)
    trained.load_state_dict(ema)
    trained.eval()
