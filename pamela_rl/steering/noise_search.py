"""Noise search: climb the person's reward from the initial noise, through the whole chain; no weight changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pamela_rl.diffusion.policy import Policy, adapter_off
from pamela_rl.errors import ConfigError
from pamela_rl.types import Conditioning, Reward, trainable


@dataclass(frozen=True)
class NoiseSearchConfig:
    """How the initial noise is searched.

    Attributes:
        num_steps: Gradient steps; 0 draws the pictures as they are.
        learning_rate: Of gradient ascent with Nesterov's momentum, in units of noise per unit of clipped gradient.
        momentum: Of the ascent.
        norm_weight: Of the log-density of the noise's norm, in reward units; keeps it where a normal's would be.
        max_grad_norm: Gradients of a picture longer than this are cut to it.
        num_inference_steps: DDIM steps, without added noise.
        guidance_scale: 1 draws without guidance.
        batch_size: Pictures at a time; memory grows with it, but hardly with the number of steps.

    Raises:
        ConfigError: A setting is out of range.
    """

    num_steps: int = 10
    learning_rate: float = 5.0
    momentum: float = 0.9
    norm_weight: float = 0.01
    max_grad_norm: float = 0.3
    num_inference_steps: int = 10
    guidance_scale: float = 1.0
    batch_size: int = 8

    def __post_init__(self) -> None:
        least = {"num_steps": 0, "num_inference_steps": 1, "batch_size": 1, "norm_weight": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} of the noise search is {getattr(self, name)}; use {low} or more.")
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} of the noise search is {getattr(self, name)}; use a number above 0.")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum of the noise search is {self.momentum}; use 0 or more, below 1.")


class NoiseSearch:
    """An ``ImageGenerator`` for one person: ReNO (arXiv:2406.04312) with the person's own reward.

    Each picture starts from the noise that the pipeline itself draws for its seed and is searched for by itself. The
    picture kept is that of the highest reward on the way, the first included, so the reward never falls; the term for
    the noise's norm steers the ascent, not this choice.

    Args:
        policy: Holds the pipeline.
        adapter: Name of the adapter to draw with; None draws with the base model.
        reward: The person's, differentiable to the pixels; a judge is refused.
        user_id: Whose.
        config: Steps and rates.

    Attributes:
        images_spent: Pictures drawn so far, those on the way included: ``num_steps + 1`` for each that is returned.
    """

    def __init__(
        self,
        policy: Policy,
        adapter: str | None,
        reward: Reward,
        user_id: str,
        config: NoiseSearchConfig | None = None,
    ):
        self.policy, self.adapter, self.reward, self.user_id = policy, adapter, reward, user_id
        self.config = config or NoiseSearchConfig()
        self.images_spent = 0

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return the best picture found for each prompt and seed, ``(b, 3, height, width)``, on the CPU.

        Raises:
            ConfigError: The reward has no gradient to the pixels.
        """
        size = self.config.batch_size
        with _drawing_with(self.policy, self.adapter):
            parts = [slice(first, first + size) for first in range(0, len(prompts), size)]
            return torch.cat([self._search(prompts[part], seeds[part]) for part in parts])

    def _search(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        config, policy = self.config, self.policy
        told = policy.encode(list(prompts))
        negative = policy.encode_negative("", config.guidance_scale)
        noise = policy.initial_latents([torch.Generator().manual_seed(seed) for seed in seeds]).requires_grad_()
        optimizer = torch.optim.SGD(
            [noise], config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0, maximize=True
        )
        kept, highest = torch.empty(0), torch.full((len(prompts),), -float("inf"))
        for step in range(config.num_steps + 1):
            last = step == config.num_steps
            with torch.set_grad_enabled(not last):
                images = self._draw(noise, told, negative)
                rewards = trainable(self.reward(images, prompts, [self.user_id] * len(prompts))).mean
            self.images_spent += len(prompts)
            found, scores = images.detach().float().cpu(), rewards.detach().float().cpu()
            better = scores > highest  # never where the reward is no number
            kept = torch.where(better[:, None, None, None], found, kept) if step else found
            highest = torch.where(better, scores, highest)
            if not last:
                noise.grad = self._direction(noise, rewards)
                optimizer.step()
        return kept

    def _draw(self, noise: Tensor, told: Conditioning, negative: Conditioning | None) -> Tensor:
        """Run the chain from the noise, ``(b, 3, height, width)``; each step is kept as its input and run twice."""
        schedule = self.policy.schedule(self.config.num_inference_steps, 0.0)
        scale = self.config.guidance_scale

        def one_step(latents: Tensor, index: Tensor) -> Tensor:
            output = self.policy.predict(latents, schedule.timesteps[index], told, negative, scale)
            return schedule.transition(output, latents, index).mean

        latents = noise
        for step in range(self.config.num_inference_steps):
            index = torch.full((len(noise),), step, device=noise.device)
            latents = checkpoint(one_step, latents, index, use_reentrant=False)
        images: Tensor = checkpoint(self.policy.decode, latents, use_reentrant=False)
        return images

    def _direction(self, noise: Tensor, rewards: Tensor) -> Tensor:
        """Return the clipped gradient of reward and norm term, ``(b, …)``; 0 where it is no number."""
        if not rewards.requires_grad:
            raise ConfigError(
                "the reward has no gradient to the pixels, so the noise cannot be searched by it; give one that is "
                "differentiable, e.g. a PersonalReward, or use best-of-N."
            )
        objective = rewards + self.config.norm_weight * norm_log_density(noise).to(rewards)
        # asked for by name: no weight of the denoiser gets a gradient, whatever it requires
        gradient = torch.autograd.grad(objective.sum(), noise)[0]
        length = gradient.flatten(1).norm(dim=1).view(-1, *[1] * (gradient.dim() - 1))
        clipped = gradient * (self.config.max_grad_norm / length.clamp(min=self.config.max_grad_norm))
        return torch.where(length.isfinite(), clipped, torch.zeros_like(clipped))


def norm_log_density(noise: Tensor) -> Tensor:
    """Return the log-density of each sample's norm as that of a standard normal's, up to a constant, ``(b,)``.

    A standard normal of d dimensions has a norm of about the root of d: the chi distribution, of which this is the
    logarithm (ReNO, arXiv:2406.04312).
    """
    squared = noise.flatten(1).square().sum(dim=1)
    return 0.5 * (noise[0].numel() - 1) * squared.log() - 0.5 * squared


@contextmanager
def _drawing_with(policy: Policy, adapter: str | None) -> Iterator[None]:
    """Switch the adapter on, or every adapter off for None, inside the block."""
    if adapter is not None:
        policy.pipeline.set_adapters(adapter)
        yield
    elif getattr(policy.denoiser, "peft_config", None):
        with adapter_off(policy):
            yield
    else:
        yield
