"""GRPO training of the rewriter: TRL's trainer with a LoRA on the language model, for all users at once."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peft import LoraConfig
from tqdm.auto import tqdm
from transformers import PrinterCallback, TrainerCallback

from pamela_rl.data.rewriting import rewrite_messages
from pamela_rl.errors import ConfigError
from pamela_rl.steering.rewriter import CHAT_OPTIONS, PromptRewriter, description_of
from pamela_rl.steering.settings import GrpoSettings

_METRIC_NAMES = {
    "reward": "rewrite_reward_mean",
    "reward_std": "rewrite_reward_std",
    "reward_mean": "reward_mean",
    "faithfulness": "faithfulness",
    "unreadable": "unreadable",
    "kl": "kl_to_untrained",
    "entropy": "entropy",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
}
_PROGRESS_METRICS = {"reward": "rewrite_reward_mean", "faithfulness": "faithfulness", "KL": "kl_to_untrained"}


def train_rewriter(
    rewriter: PromptRewriter,
    requests: Sequence[str],
    user_ids: Sequence[str],
    reward_function: Callable[..., list[float]],
    settings: GrpoSettings,
    folder: Path,
) -> PromptRewriter:
    """Train a LoRA on the rewriter's language model by GRPO.

    An interrupted training restarts from the beginning: TRL's checkpoints are pickles, which this package does not read.

    Args:
        rewriter: Untrained; the LoRA is added to its model.
        requests: Training prompts.
        user_ids: Users to train for; every request is combined with every user.
        reward_function: As TRL calls it, e.g. a ``RewriteReward``.
        settings: Of the training.
        folder: For ``metrics.jsonl``, one line per step.

    Raises:
        ConfigError: TRL is not installed.
        UnknownUserError: A user has no description.
    """
    try:
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer
    except ImportError as error:
        raise ConfigError(
            f'training a rewriter needs TRL ({error}); install it with pip install "pamela_rl[rewriter]".'
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    arguments = GRPOConfig(**_arguments(rewriter, settings, folder))
    trainer = GRPOTrainer(
        rewriter.model,
        reward_function,
        args=arguments,
        train_dataset=Dataset.from_list(_rows(rewriter, requests, user_ids, settings)),
        processing_class=rewriter.tokenizer,
        callbacks=[_Log(folder / "metrics.jsonl", settings.num_steps)],
        peft_config=LoraConfig(
            r=settings.rank, lora_alpha=settings.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return PromptRewriter(
        trainer.model.eval(),
        rewriter.tokenizer,
        rewriter.descriptions,
        temperature=rewriter.temperature,
        max_new_tokens=rewriter.max_new_tokens,
        batch_size=rewriter.batch_size,
    )


def _rows(
    rewriter: PromptRewriter, requests: Sequence[str], user_ids: Sequence[str], settings: GrpoSettings
) -> list[dict[str, Any]]:
    """Return every request for every user, repeated to fill a step: TRL drops incomplete steps."""
    pairs = list(itertools.product(requests, user_ids))
    pairs *= math.ceil(settings.completions_per_step / settings.group_size / len(pairs))
    return [
        {
            "prompt": rewrite_messages(description_of(rewriter.descriptions, user), request),
            "request": request,
            "user_id": user,
        }
        for request, user in pairs
    ]


def _arguments(rewriter: PromptRewriter, settings: GrpoSettings, folder: Path) -> dict[str, Any]:
    on_cpu = rewriter.model.device.type == "cpu"
    return {
        "output_dir": str(folder),
        "max_steps": settings.num_steps,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.completions_per_step // settings.batch_size,
        "num_generations": settings.group_size,
        "max_completion_length": rewriter.max_new_tokens,
        "temperature": rewriter.temperature or 1.0,
        "learning_rate": settings.learning_rate,
        "beta": settings.kl_weight,
        "seed": settings.seed,
        "chat_template_kwargs": dict(CHAT_OPTIONS),
        "use_cpu": on_cpu,
        "bf16": False,
        "gradient_checkpointing": False,
        "activation_checkpointing": not on_cpu,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_pin_memory": not on_cpu,
    }


class _Log(TrainerCallback):
    """Writes one JSON line per step and updates a progress bar."""

    def __init__(self, path: Path, num_steps: int):
        self._path = path
        self._bar: Any = tqdm(total=num_steps, desc="rewriter", unit="step")
        path.write_text("", encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Record the metrics of a step."""
        metrics = {_METRIC_NAMES[name]: value for name, value in (logs or {}).items() if name in _METRIC_NAMES}
        if "rewrite_reward_mean" not in metrics:
            return  # the summary at the end
        finite = {name: value if value is None or math.isfinite(value) else None for name, value in metrics.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **finite}) + "\n")
        postfix = {name: finite[key] for name, key in _PROGRESS_METRICS.items() if finite.get(key) is not None}
        self._bar.set_postfix_str(" ".join(f"{name} {value:.3g}" for name, value in postfix.items()), refresh=False)
        self._bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self._bar.close()
