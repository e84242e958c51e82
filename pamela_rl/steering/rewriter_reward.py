"""The reward of a rewrite: the user's reward of the image drawn from it, minus a penalty for lost faithfulness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.rewriting import parse_rewrite
from pamela_rl.steering.settings import RewriteRewardSettings
from pamela_rl.types import ImageGenerator, Reward, Scorer, trainable


class RewriteReward:
    """A reward function for TRL; draws one image for every answer that holds a prompt.

    Attributes:
        images_spent: Images drawn so far.
    """

    __name__ = "rewrite_reward"  # TRL logs the reward under this name

    def __init__(
        self,
        draw: ImageGenerator,
        reward: Reward,
        faithfulness: Scorer | None,
        settings: RewriteRewardSettings | None = None,
        scale: RatingScale | None = None,
    ):
        """Score with ``reward``, on ``scale``, and, if given, ``faithfulness`` (1 where the image shows the request, else 0)."""
        self.draw, self.reward, self.faithfulness = draw, reward, faithfulness
        self.settings, scale = settings or RewriteRewardSettings(), scale or RatingScale()
        self._range = scale.high - scale.low
        self._unreadable = scale.low - self.settings.unreadable * self._range
        self.images_spent = 0
        self._calls = 0

    def __call__(
        self, completions: Sequence[Any], request: Sequence[str], user_id: Sequence[str], **kwargs: Any
    ) -> list[float]:
        """Return the reward of each answer, in the reward's units; always finite.

        Images of one group (the same request and user) start from the same noise, so that their rewards differ by
        their prompts alone; every call draws new noise.

        Args:
            completions: The model's answers, chats of one message or plain text.
            request: One per answer.
            user_id: One per answer.
            kwargs: Further arguments of TRL; ``log_metric`` receives the parts of the reward.
        """
        rewrites = [parse_rewrite(_text(completion)) for completion in completions]
        rows = [row for row, rewrite in enumerate(rewrites) if rewrite is not None]
        rewards = torch.full((len(rewrites),), self._unreadable)
        parts = {"unreadable": 1 - len(rows) / len(rewrites)}
        if rows:
            group_index = {pair: index for index, pair in enumerate(dict.fromkeys(zip(request, user_id)))}
            first_seed = self.settings.seed + 10_000 * self._calls
            images = self.draw(
                [str(rewrites[row]) for row in rows],
                [first_seed + group_index[request[row], user_id[row]] for row in rows],
            )
            self.images_spent += len(rows)
            requests, users = [request[row] for row in rows], [user_id[row] for row in rows]
            rewards[rows] = self._score(images, requests, users, parts)
        self._calls += 1
        for name, value in parts.items():
            kwargs.get("log_metric", _ignore)(name, value)
        return [float(value) for value in rewards]

    @torch.no_grad()
    def _score(self, images: Tensor, requests: list[str], users: list[str], parts: dict[str, float]) -> Tensor:
        settings = self.settings
        output = trainable(self.reward(images, requests, users))
        rewards = output.mean if output.std is None else output.mean - settings.std_weight * output.std
        parts["reward_mean"] = output.mean.mean().item()
        if self.faithfulness is not None:
            faithful = self.faithfulness(images, requests, users).mean.to(rewards.device)
            rewards = rewards - settings.faithfulness_weight * self._range * (1 - faithful)
            parts["faithfulness"] = faithful.mean().item()
        return rewards.float().cpu().nan_to_num(self._unreadable, self._unreadable, self._unreadable)


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else str(completion[-1]["content"])


def _ignore(name: str, value: float) -> None:
    pass
