"""The nouns that every part of the package shares. Shapes: b images, t trained steps, c x h x w latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from pamela_rl.errors import ConfigError


@dataclass(frozen=True)
class RewardOutput:
    """What a reward model says of a batch of pictures.

    Attributes:
        mean: Expected rating, in the units of the ratings the model learned from, ``(b,)``.
        std: How unsure the model is of ``mean`` (not the noise of a single rating), same units, ``(b,)``, or None.
        parts: What ``mean`` is made of, by name, ``(b,)`` each; the same names every time, or None.
        weights: With what weight each part enters, by name; None where there are no parts.
    """

    mean: Tensor
    std: Tensor | None = None
    parts: Mapping[str, Tensor] | None = None
    weights: Mapping[str, float] | None = None

    def lower_confidence_bound(self, std_weight: float) -> Tensor:
        """Return the mean less a multiple of the model's own uncertainty, ``(b,)``: what is maximised."""
        return self.mean if self.std is None else self.mean - std_weight * self.std


@dataclass(frozen=True)
class Verdict:
    """What a judge says of a batch of pictures. Not a ``RewardOutput``, so that no training step takes it for one.

    Attributes:
        mean: Expected rating, in the units of the ratings the judge learned from, ``(b,)``.
        std: How unsure the judge is of ``mean``, same units, ``(b,)``, or None.
    """

    mean: Tensor
    std: Tensor | None = None

    def lower_confidence_bound(self, std_weight: float) -> Tensor:
        """Return the mean: a judge is believed as it is, ``(b,)``."""
        return self.mean


def trainable(output: RewardOutput | Verdict) -> RewardOutput:
    """Return what a reward said; a judge's verdict is refused, so that nothing is trained against it.

    Raises:
        ConfigError: It is a verdict.
    """
    if isinstance(output, Verdict):
        raise ConfigError(
            "the reward to train against is a judge; give the personal reward, and the judge among the monitors."
        )
    return output


class Scorer(Protocol):
    """Anything that scores pictures for people, to be watched and compared; every ``Reward`` is one."""

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput | Verdict:
        """Score pictures.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``.
            prompts: What was asked for, one a picture.
            user_ids: For whom, one a picture.
        """
        ...


class Reward(Protocol):
    """A scorer that may be trained against. This is all that training knows of a reward."""

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Score pictures.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``.
            prompts: What was asked for, one a picture.
            user_ids: For whom, one a picture.
        """
        ...


class ImageGenerator(Protocol):
    """Anything that turns prompts and seeds into pictures: a pipeline with or without an adapter, a remote service."""

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return pictures in [0, 1], ``(b, 3, height, width)``; picture i depends on prompt i and seed i alone."""
        ...


@dataclass(frozen=True)
class PromptBatch:
    """The pictures one iteration asks for.

    Attributes:
        prompts: One a picture.
        user_ids: The person each picture is for.
        group_ids: Pictures with the same number share person and prompt and are compared with one another, ``(b,)``.
        image_ids: Place of each picture in the whole iteration, whatever process draws it, ``(b,)``.
    """

    prompts: tuple[str, ...]
    user_ids: tuple[str, ...]
    group_ids: Tensor
    image_ids: Tensor

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, part: slice) -> PromptBatch:
        """Return some of the pictures, as they were numbered."""
        return PromptBatch(self.prompts[part], self.user_ids[part], self.group_ids[part], self.image_ids[part])


@dataclass(frozen=True)
class Conditioning:
    """What a denoiser is told of each prompt: tensors by name, one row a picture, whatever the family needs.

    Attributes:
        tensors: Each ``(b, …)``, e.g. ``prompt_embeds`` ``(b, tokens, dim)`` and ``pooled`` ``(b, dim)``.
    """

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: Tensor | slice) -> Conditioning:
        """Return some of the rows."""
        return Conditioning({name: tensor[rows] for name, tensor in self.tensors.items()})

    def to(self, device: torch.device | str) -> Conditioning:
        """Return a copy on ``device``."""
        return Conditioning({name: tensor.to(device) for name, tensor in self.tensors.items()})

    @classmethod
    def cat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """Put parts one below the other; shorter prompts are filled with zeros at the end, so families keep a mask."""
        joined = {}
        for name in parts[0].tensors:
            tensors = [part.tensors[name] for part in parts]
            if tensors[0].dim() > 1:
                longest = max(tensor.shape[1] for tensor in tensors)
                tensors = [pad(t, (0, 0) * (t.dim() - 2) + (0, longest - t.shape[1])) for t in tensors]
            joined[name] = torch.cat(tensors)
        return cls(joined)


@dataclass(frozen=True)
class Trajectory:
    """What a rollout returns: the pictures, and the denoising steps that are kept to learn from. Latents are fp32.

    Latents are as the denoiser takes them: ``(c, h, w)`` a picture, or ``(n, c)`` where the family packs them.

    Attributes:
        image_ids: Place of each picture in the whole iteration, whatever process drew it, ``(b,)``.
        images: RGB in [0, 1], ``(b, 3, height, width)``.
        final_latents: At the end of the chain, ``(b, …)``.
        latents: Before each kept step, ``(b, t, …)``.
        next_latents: After it, ``(b, t, …)``.
        step_index: Place of each kept step in the chain, ``(b, t)``.
        log_probs: Log-density of ``next_latents``, *mean over latent dimensions*, ``(b, t)``; NaN where a step has none.
        means: Mean of each kept step, ``(b, t, …)``; None where nobody asked for it.
        conditioning: What the denoiser was told, one row a different prompt.
        prompt_index: Which of them each picture was drawn for, ``(b,)``.
        negative: What guidance steered away from, one row; None where there is no such branch.
    """

    image_ids: Tensor
    images: Tensor
    final_latents: Tensor
    latents: Tensor
    next_latents: Tensor
    step_index: Tensor
    log_probs: Tensor
    means: Tensor | None
    conditioning: Conditioning
    prompt_index: Tensor
    negative: Conditioning | None
