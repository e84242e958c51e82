"""The nouns that every wing shares. Shapes: b images, t trained steps, c x h x w latents. Importing them loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from pamela_rl.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class RewardOutput:
    """A reward model's output for a batch of images.

    Attributes:
        mean: Expected rating, in the units of the ratings the model learned from, ``(b,)``.
        std: The model's uncertainty of ``mean`` (not the noise of a single rating), same units, ``(b,)``, or None.
        parts: What ``mean`` is made of, by name, ``(b,)`` each; the same names every time, or None.
        weights: With what weight each part enters, by name; None where there are no parts.
    """

    mean: Tensor
    std: Tensor | None = None
    parts: Mapping[str, Tensor] | None = None
    weights: Mapping[str, float] | None = None

    def lower_confidence_bound(self, std_weight: float) -> Tensor:
        """Return the mean minus ``std_weight`` standard deviations, ``(b,)``: what is maximised."""
        return self.mean if self.std is None else self.mean - std_weight * self.std


@dataclass(frozen=True)
class Verdict:
    """A judge's output for a batch of images. Not a ``RewardOutput``, so that no training step accepts it as one.

    Attributes:
        mean: Expected rating, in the units of the ratings the judge learned from, ``(b,)``.
        std: The judge's uncertainty of ``mean``, same units, ``(b,)``, or None.
    """

    mean: Tensor
    std: Tensor | None = None

    def lower_confidence_bound(self, std_weight: float) -> Tensor:
        """Return the mean, ``(b,)``: a judge is only watched, so there is nothing to be pessimistic about."""
        return self.mean


def trainable(output: RewardOutput | Verdict) -> RewardOutput:
    """Return a reward's output; a judge's verdict is refused, so that nothing is trained against it.

    Raises:
        ConfigError: It is a verdict.
    """
    if isinstance(output, Verdict):
        raise ConfigError(
            "the reward to train against is a judge; give the personal reward, and the judge among the monitors."
        )
    return output


class Unit(StrEnum):
    """What a scorer's numbers are, which decides how they may be told."""

    SHARE = "share"  # probabilities, or 0 and 1: a mean is a share of images, and a ratio of means says how often
    SCORE = "score"  # a scale without a meaningful zero, such as ratings or a cosine: only differences mean something


def unit_of(scorer: Scorer) -> Unit:
    """Return the unit that a scorer declares as its attribute ``unit``; ``Unit.SCORE`` where it declares none."""
    return Unit(getattr(scorer, "unit", Unit.SCORE))


class Scorer(Protocol):
    """Anything that scores images for users, to be monitored and compared; every ``Reward`` is one.

    A scorer whose numbers are shares says so by an attribute ``unit`` (see ``unit_of``).
    """

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput | Verdict:
        """Score images.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``.
            prompts: One an image.
            user_ids: One an image.
        """
        ...


class Reward(Protocol):
    """A scorer that may be trained against: the only interface of a reward that training uses."""

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Score images.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``.
            prompts: One an image.
            user_ids: One an image.
        """
        ...


class ImageGenerator(Protocol):
    """Anything that turns prompts and seeds into images: a pipeline with or without an adapter, a remote service."""

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return images in [0, 1], ``(b, 3, height, width)``; image i depends on prompt i and seed i alone."""
        ...


@dataclass(frozen=True)
class PromptBatch:
    """The images of one iteration before they are sampled.

    Attributes:
        prompts: One an image.
        user_ids: The user each image is for.
        group_ids: Images with the same number share user and prompt and form a group, ``(b,)``.
        image_ids: Index of each image in the whole iteration, whatever process samples it, ``(b,)``.
    """

    prompts: tuple[str, ...]
    user_ids: tuple[str, ...]
    group_ids: Tensor
    image_ids: Tensor

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, rows: slice | Tensor) -> PromptBatch:
        """Return some of the images; their ids stay."""
        places = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        prompts, users = (tuple(values[place] for place in places) for values in (self.prompts, self.user_ids))
        return PromptBatch(prompts, users, self.group_ids[rows], self.image_ids[rows])


@dataclass(frozen=True)
class Conditioning:
    """A denoiser's inputs for each prompt: tensors by name, one row a prompt; which, the family decides.

    Attributes:
        tensors: Each ``(b, …)``, e.g. ``prompt_embeds`` ``(b, tokens, dim)`` and ``pooled`` ``(b, dim)``.
    """

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: Tensor | slice) -> Conditioning:
        """Return some of the rows."""
        return Conditioning({name: tensor[rows] for name, tensor in self.tensors.items()})

    def to(self, target: torch.device | torch.dtype | str) -> Conditioning:
        """Return a copy on a device, or with its floating-point tensors in a dtype."""
        import torch

        changed = {
            name: tensor if isinstance(target, torch.dtype) and not tensor.is_floating_point() else tensor.to(target)
            for name, tensor in self.tensors.items()
        }
        return Conditioning(changed)

    @classmethod
    def cat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """Concatenate rows; shorter prompts are padded with zeros at the end, so families keep a mask."""
        import torch
        from torch.nn.functional import pad

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
    """What a rollout returns: the images, and the denoising steps that are kept to learn from. Latents are fp32.

    Latents are as the denoiser takes them: ``(c, h, w)`` an image, or ``(n, c)`` where the family packs them.

    Attributes:
        image_ids: Index of each image in the whole iteration, whatever process sampled it, on the CPU, ``(b,)``.
        images: RGB in [0, 1], ``(b, 3, height, width)``.
        final_latents: At the end of the chain, ``(b, …)``.
        latents: Before each kept step, ``(b, t, …)``.
        next_latents: After it, ``(b, t, …)``.
        step_index: Index of each kept step in the chain, ``(b, t)``.
        log_probs: Log-density of ``next_latents``, *mean over latent dimensions*, ``(b, t)``; NaN where a step has none.
        means: Mean of each kept step, ``(b, t, …)``; None unless requested.
        conditioning: Of each distinct prompt, one row.
        prompt_index: Row of each image's prompt in ``conditioning``, ``(b,)``.
        negative: Of the negative prompt, one row; None where there is no unconditional branch.
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

    def without_images(self) -> Trajectory:
        """Return it without its images, which nobody learns from once they are scored."""
        return replace(self, images=self.images.new_empty(0, *self.images.shape[1:]))
