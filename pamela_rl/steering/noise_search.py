"""Noise search (ReNO): gradient ascent of the reward on the initial noise, through the whole denoising chain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pamela_rl.data.ratings import RatingScale
from pamela_rl.diffusion.policy import Policy, adapter_off
from pamela_rl.errors import ConfigError
from pamela_rl.steering.settings import NoiseSearchSettings
from pamela_rl.types import Conditioning, Reward, trainable


class NoiseSearch:
    """An ``ImageGenerator`` for one user: ReNO (arXiv:2406.04312) with the user's own reward.

    Each image starts from the noise that the pipeline draws for its seed and is optimized separately. The image with
    the highest reward of all steps is returned, the first included, so the reward never falls; the norm term
    affects the ascent, not this choice.

    Args:
        policy: Holds the pipeline.
        adapter: Name of the adapter to draw with; None draws with the base model.
        reward: The user's, differentiable in the pixels; a judge is refused.
        user_id: The user.
        config: Steps and learning rate.
        scale: Of the reward's ratings.
        guidance_scale: 1 draws without guidance.
        negative_prompt: For guidance.

    Attributes:
        images_spent: Images drawn so far: ``num_steps + 1`` for each one returned.
    """

    def __init__(
        self,
        policy: Policy,
        adapter: str | None,
        reward: Reward,
        user_id: str,
        config: NoiseSearchSettings | None = None,
        scale: RatingScale | None = None,
        guidance_scale: float = 1.0,
        negative_prompt: str = "",
    ):
        self.policy, self.adapter, self.reward, self.user_id = policy, adapter, reward, user_id
        self.config, self.scale = config or NoiseSearchSettings(), scale or RatingScale()
        self.guidance_scale, self.negative_prompt = guidance_scale, negative_prompt
        self.images_spent = 0

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return the best image found for each prompt and seed, ``(b, 3, height, width)``, on the CPU.

        Raises:
            ConfigError: The reward has no gradient.
        """
        size = self.config.batch_size
        with _adapter_active(self.policy, self.adapter):
            parts = [slice(first, first + size) for first in range(0, len(prompts), size)]
            return torch.cat([self._search(prompts[part], seeds[part]) for part in parts])

    def _search(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        config, policy = self.config, self.policy
        conditioning = policy.encode(list(prompts))
        negative = policy.encode_negative(self.negative_prompt, self.guidance_scale)
        noise = policy.initial_latents([torch.Generator().manual_seed(seed) for seed in seeds]).requires_grad_()
        optimizer = torch.optim.SGD(
            [noise], config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0, maximize=True
        )
        best, best_rewards = torch.empty(0), torch.full((len(prompts),), -float("inf"))
        for step in range(config.num_steps + 1):
            last = step == config.num_steps
            with torch.set_grad_enabled(not last):
                images = self._draw(noise, conditioning, negative)
                rewards = trainable(self.reward(images, prompts, [self.user_id] * len(prompts))).mean
            self.images_spent += len(prompts)
            drawn, scores = images.detach().float().cpu(), rewards.detach().float().cpu()
            better = scores > best_rewards  # false for NaN
            best = torch.where(better[:, None, None, None], drawn, best) if step else drawn
            best_rewards = torch.where(better, scores, best_rewards)
            if not last:
                noise.grad = self._ascent_gradient(noise, rewards)
                optimizer.step()
        return best

    def _draw(self, noise: Tensor, conditioning: Conditioning, negative: Conditioning | None) -> Tensor:
        """Run the denoising chain from the noise, ``(b, 3, height, width)``, with activation checkpointing per step."""
        schedule = self.policy.schedule(self.config.num_inference_steps, 0.0).to(self.policy.device)
        scale = self.guidance_scale

        def denoise(latents: Tensor, index: Tensor) -> Tensor:
            output = self.policy.predict(latents, schedule.timesteps[index], conditioning, negative, scale)
            return schedule.transition(output, latents, index).mean

        latents = noise
        for step in range(self.config.num_inference_steps):
            index = torch.full((len(noise),), step, device=noise.device)
            latents = checkpoint(denoise, latents, index, use_reentrant=False)
        images: Tensor = checkpoint(self.policy.decode, latents, use_reentrant=False)
        return images

    def _ascent_gradient(self, noise: Tensor, rewards: Tensor) -> Tensor:
        """Return the clipped gradient of reward and norm term, ``(b, …)``; 0 where it is not finite."""
        if not rewards.requires_grad:
            raise ConfigError(
                "the reward has no gradient to the pixels, so the noise cannot be searched by it; give one that is "
                "differentiable, e.g. a PersonalReward, or use best-of-N."
            )
        shares = rewards / (self.scale.high - self.scale.low)
        objective = shares + self.config.norm_weight * norm_log_density(noise).to(rewards)
        # autograd.grad with respect to the noise alone: no weight of the denoiser gets a gradient
        gradient = torch.autograd.grad(objective.sum(), noise)[0]
        length = gradient.flatten(1).norm(dim=1).view(-1, *[1] * (gradient.dim() - 1))
        clipped = gradient * (self.config.max_grad_norm / length.clamp(min=self.config.max_grad_norm))
        return torch.where(length.isfinite(), clipped, torch.zeros_like(clipped))


def norm_log_density(noise: Tensor) -> Tensor:
    """Return the log-density of each sample's norm as that of a standard normal's, up to a constant, ``(b,)``.

    The norm of a standard normal in d dimensions follows the chi distribution, of which this is the log-density (ReNO,
    arXiv:2406.04312).
    """
    squared = noise.flatten(1).square().sum(dim=1)
    return 0.5 * (noise[0].numel() - 1) * squared.log() - 0.5 * squared


@contextmanager
def _adapter_active(policy: Policy, adapter: str | None) -> Iterator[None]:
    """Switch the adapter on, or every adapter off for None, inside the block."""
    if adapter is not None:
        policy.pipeline.set_adapters(adapter)
        yield
    elif getattr(policy.denoiser, "peft_config", None):
        with adapter_off(policy):
            yield
    else:
        yield
