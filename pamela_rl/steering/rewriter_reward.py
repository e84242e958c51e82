"""What a rewrite is worth: the person's reward on the picture drawn from it, minus what it costs in faithfulness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pamela_rl.data.rewriting import read_rewrite
from pamela_rl.types import ImageGenerator, Reward, Scorer, trainable


@dataclass(frozen=True)
class WorthSettings:
    """How pictures become the worth of a rewrite.

    Attributes:
        faithfulness_weight: Lost by a picture that shows nothing of the request, in the reward's units.
        std_weight: Of the reward's own uncertainty, subtracted from its mean.
        unreadable: Worth of an answer that holds no prompt, in the reward's units; below the worst rating.
        seed: Of the noise the pictures start from.
    """

    faithfulness_weight: float = 2.0
    std_weight: float = 0.5
    unreadable: float = 0.0
    seed: int = 0


class RewriteWorth:
    """A reward function as TRL calls it; draws one picture for every readable answer.

    Attributes:
        images_spent: Pictures drawn so far.
    """

    __name__ = "worth"  # TRL logs the reward under this name

    def __init__(
        self, draw: ImageGenerator, reward: Reward, faithfulness: Scorer | None, settings: WorthSettings | None = None
    ):
        """Judge with ``reward``, and with ``faithfulness`` (1 where the picture shows the request, 0 where not) if any."""
        self.draw, self.reward, self.faithfulness = draw, reward, faithfulness
        self.settings = settings or WorthSettings()
        self.images_spent = 0
        self._calls = 0

    def __call__(
        self, completions: Sequence[Any], request: Sequence[str], user_id: Sequence[str], **others: Any
    ) -> list[float]:
        """Return what each answer is worth, in the reward's units; always finite.

        Pictures of one group (the same request for the same person) start from the same noise, so that their worths
        differ by their prompts alone; every call draws new noise.

        Args:
            completions: The model's answers, chats of one message or plain text.
            request: What was asked for, one an answer.
            user_id: For whom, one an answer.
            others: What TRL hands over besides; its ``log_metric`` is told the parts.
        """
        rewrites = [read_rewrite(_text(completion)) for completion in completions]
        rows = [row for row, rewrite in enumerate(rewrites) if rewrite is not None]
        worth = torch.full((len(rewrites),), self.settings.unreadable)
        parts = {"unreadable": 1 - len(rows) / len(rewrites)}
        if rows:
            groups = {pair: place for place, pair in enumerate(dict.fromkeys(zip(request, user_id)))}
            first = self.settings.seed + 10_000 * self._calls
            images = self.draw(
                [str(rewrites[row]) for row in rows], [first + groups[request[row], user_id[row]] for row in rows]
            )
            self.images_spent += len(rows)
            asked, users = [request[row] for row in rows], [user_id[row] for row in rows]
            worth[rows] = self._judge(images, asked, users, parts)
        self._calls += 1
        for name, value in parts.items():
            others.get("log_metric", _nowhere)(name, value)
        return [float(value) for value in worth]

    @torch.no_grad()
    def _judge(self, images: Tensor, asked: list[str], users: list[str], parts: dict[str, float]) -> Tensor:
        settings = self.settings
        output = trainable(self.reward(images, asked, users))
        worth = output.mean if output.std is None else output.mean - settings.std_weight * output.std
        parts["reward_mean"] = output.mean.mean().item()
        if self.faithfulness is not None:
            faithful = self.faithfulness(images, asked, users).mean.to(worth.device)
            worth = worth - settings.faithfulness_weight * (1 - faithful)
            parts["faithfulness"] = faithful.mean().item()
        return worth.float().cpu().nan_to_num(settings.unreadable, settings.unreadable, settings.unreadable)


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else str(completion[-1]["content"])


def _nowhere(name: str, value: float) -> None:
    pass
