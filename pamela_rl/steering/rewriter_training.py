"""GRPO for the rewriter: TRL's trainer, a LoRA on the language model, one reward for everyone it rewrites for."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig
from tqdm.auto import tqdm
from transformers import PrinterCallback, TrainerCallback

from pamela_rl.data.rewriting import rewrite_messages
from pamela_rl.errors import ConfigError
from pamela_rl.steering.rewriter import CHAT_OPTIONS, PromptRewriter, describe

_RECORDED = {
    "reward": "worth_mean",
    "reward_std": "worth_std",
    "reward_mean": "reward_mean",
    "faithfulness": "faithfulness",
    "unreadable": "unreadable",
    "kl": "kl_to_untrained",
    "entropy": "entropy",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
}
_SHOWN = {"worth": "worth_mean", "faithful": "faithfulness", "KL": "kl_to_untrained"}


@dataclass(frozen=True)
class GrpoSettings:
    """Settings of the training.

    Attributes:
        num_steps: Optimizer steps; each draws ``completions_per_step`` pictures.
        completions_per_step: Rewrites an optimizer step, over all its groups.
        group_size: Rewrites of one request for one person, compared with one another.
        batch_size: Rewrites a forward and backward pass of the language model; lower it where memory ends.
        learning_rate: AdamW's, falling linearly to zero; suits the world's tiny model, 1e-5 to 1e-4 suit one of the
            hub's.
        kl_weight: Weight of the divergence from the untrained rewriter; it keeps answers varied and readable.
        rank: Of the LoRA.
        alpha: LoRA scale times rank.
        seed: Of LoRA, order of requests and sampling.
    """

    num_steps: int = 45
    completions_per_step: int = 96
    group_size: int = 8
    batch_size: int = 96
    learning_rate: float = 5e-3
    kl_weight: float = 0.03
    rank: int = 16
    alpha: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.group_size < 2:
            raise ConfigError(
                f"num_steps is {self.num_steps} and group_size {self.group_size}; use 1 or more and 2 or more, since "
                "rewrites of one group are compared with one another."
            )
        if self.completions_per_step % self.group_size or self.completions_per_step % self.batch_size:
            raise ConfigError(
                f"completions_per_step is {self.completions_per_step}, but group_size is {self.group_size} and "
                f"batch_size {self.batch_size}; use a multiple of both, e.g. "
                f"{math.lcm(self.group_size, self.batch_size)}."
            )


def train_rewriter(
    rewriter: PromptRewriter,
    requests: Sequence[str],
    user_ids: Sequence[str],
    worth: Callable[..., list[float]],
    settings: GrpoSettings,
    folder: Path,
) -> PromptRewriter:
    """Train a LoRA on the rewriter's language model by GRPO.

    A killed training starts anew: TRL keeps an optimizer's state in a pickle, which this package does not read.

    Args:
        rewriter: Untrained; its model gets the LoRA.
        requests: What people ask for.
        user_ids: Whom to rewrite for; every request comes up for every person.
        worth: What answers are worth, as TRL calls it, e.g. a ``RewriteWorth``.
        settings: Length and rates.
        folder: Where ``metrics.jsonl`` goes, a line a step.

    Raises:
        ConfigError: TRL is not installed.
        UnknownUserError: A person has no description.
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
        worth,
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
    """Everybody's every request, as often as it takes to fill a step: TRL draws none in part."""
    pairs = list(itertools.product(requests, user_ids))
    pairs *= math.ceil(settings.completions_per_step / settings.group_size / len(pairs))
    return [
        {
            "prompt": rewrite_messages(describe(rewriter.descriptions, user), request),
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
    """Writes one JSON line a step, under names that say what they are, and moves a bar."""

    def __init__(self, path: Path, num_steps: int):
        self._path = path
        self._bar: Any = tqdm(total=num_steps, desc="rewriter", unit="step")
        path.write_text("", encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **others: Any) -> None:
        """Take up what the trainer says of a step."""
        known = {_RECORDED[name]: value for name, value in (logs or {}).items() if name in _RECORDED}
        if "worth_mean" not in known:
            return  # the summary at the end
        finite = {name: value if value is None or math.isfinite(value) else None for name, value in known.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **finite}) + "\n")
        shown = {name: finite[key] for name, key in _SHOWN.items() if finite.get(key) is not None}
        self._bar.set_postfix_str(" ".join(f"{name} {value:.3g}" for name, value in shown.items()), refresh=False)
        self._bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Close the bar."""
        self._bar.close()
