"""Settings of everything that steers without touching weights; plain numbers and names, so that configs hold them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pamela_rl.errors import ConfigError
from pamela_rl.steering.addresses import is_local_url

_KNOWN_PRICES = {"gemini-2.5-flash-image": 0.039}  # USD, at the vendor's own address: 1,290 tokens at 30 USD a million


@dataclass(frozen=True)
class PromptSearchSettings:
    """How long and how wide the search is; by default 90 images per request.

    Attributes:
        num_rounds: Rounds of proposing, drawing and scoring.
        num_variants: Prompts drawn in each round, elites included.
        num_seeds: Images of each prompt and round; the same seeds for all prompts of a round, others in the next.
        num_elites: Best prompts, which are drawn again in the next round, so that a lucky draw does not win.
        max_images: Budget of images per request; a round that exceeds it gets fewer variants.
        faithfulness_share: A variant is refused if its faithfulness is below this share of that of the request's own
            images.
        std_weight: Of the reward's std in its lower confidence bound.
        seed: Of proposals and images.
    """

    num_rounds: int = 3
    num_variants: int = 15
    num_seeds: int = 2
    num_elites: int = 4
    max_images: int = 90
    faithfulness_share: float = 0.9
    std_weight: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_rounds", "num_seeds", "max_images"):
            if getattr(self, name) < 1:
                raise ConfigError(f"search.{name} is {getattr(self, name)}; use 1 or more.")
        if not 0 <= self.num_elites < self.num_variants:
            raise ConfigError(
                f"search.num_elites is {self.num_elites} but only {self.num_variants} prompts are drawn a round "
                f"(num_variants); use 0 to {max(0, self.num_variants - 1)}."
            )
        if not 0 <= self.faithfulness_share <= 1:
            raise ConfigError(
                f"search.faithfulness_share is {self.faithfulness_share}; it is a share: use 0 to 1, e.g. 0.9."
            )


@dataclass(frozen=True)
class NoiseSearchSettings:
    """How the initial noise is searched.

    Attributes:
        num_steps: Gradient steps; 0 draws from the initial noise unchanged.
        learning_rate: Of gradient ascent with Nesterov momentum, for rewards as shares of the rating scale's range.
        momentum: Of the ascent.
        norm_weight: Of the log-density of the noise's norm, as a share of the rating scale's range; keeps the norm where a
            normal's would be.
        max_grad_norm: Gradients of the reward, as a share of the rating scale's range, are clipped to this norm, per image.
        num_inference_steps: DDIM steps, without added noise.
        batch_size: Images at a time; memory grows with it, but hardly with the number of steps.

    Raises:
        ConfigError: A setting is out of range.
    """

    num_steps: int = 10
    learning_rate: float = 20.0
    momentum: float = 0.9
    norm_weight: float = 0.0025
    max_grad_norm: float = 0.075
    num_inference_steps: int = 10
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


@dataclass(frozen=True)
class GrpoSettings:
    """Settings of the training.

    Attributes:
        num_steps: Optimizer steps; each draws ``completions_per_step`` images.
        completions_per_step: Rewrites per optimizer step, over all its groups.
        group_size: Rewrites of one request for one user, compared with one another.
        batch_size: Rewrites per forward and backward pass of the language model; lower it if memory runs out.
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


@dataclass(frozen=True)
class RewriteRewardSettings:
    """The reward of a rewrite.

    Attributes:
        faithfulness_weight: Penalty of an image that shows nothing of the request, as a share of the rating scale's range.
        std_weight: Of the reward's own uncertainty, subtracted from its mean.
        unreadable: How far below the lowest rating an answer without a prompt is, as a share of the rating scale's range.
        seed: Of the images' initial noise.
    """

    faithfulness_weight: float = 0.5
    std_weight: float = 0.5
    unreadable: float = 0.25
    seed: int = 0


@dataclass(frozen=True)
class ServiceSettings:
    """A remote service that draws, for models without open weights.

    Attributes:
        model: As the service names it; None draws with ``base_model``.
        kind: Whose requests and answers look like it.
        url: Base address; None is the vendor's own.
        key_variable: Environment variable that holds the key; None is the vendor's usual one, and none for an address in
            the local network.
        max_images: Pictures that may be bought, over all runs with this output folder.
        price_per_image: In money; None is the vendor's price where it is known, and 0 for an address in the local network.
        max_cost: In money, over all runs with this output folder.
        size: Height and width of the pictures compared, pixels.
        requests_per_minute: Most requests started in a minute.
    """

    model: str | None = None
    kind: Literal["gemini", "openai"] = "gemini"
    url: str | None = None
    key_variable: str | None = None
    max_images: int = 500
    price_per_image: float | None = None
    max_cost: float = 20.0
    size: int = 512
    requests_per_minute: float = 60.0

    def __post_init__(self) -> None:
        if self.model is not None:
            _ = self.price

    @property
    def is_local(self) -> bool:
        """Whether the service is in the local network."""
        return self.url is not None and is_local_url(self.url)

    @property
    def price(self) -> float:
        """Price of one image.

        Raises:
            ConfigError: It is neither given nor known, so that ``max_cost`` could not be kept.
        """
        if self.price_per_image is not None:
            return self.price_per_image
        if self.is_local:
            return 0.0
        if self.url is None and self.model in _KNOWN_PRICES:
            return _KNOWN_PRICES[self.model]
        raise ConfigError(
            f"service.price_per_image is not set, and what an image of {self.model!r} costs is not known here, so "
            "service.max_cost could not be kept; give the service's price of one image, e.g. 0.04."
        )


@dataclass(frozen=True)
class ChatSettings:
    """A chat language model that proposes prompts beside the phrases.

    Attributes:
        model: A hub name or folder; with ``url``, as the server names it. None uses no language model.
        url: Base address of an OpenAI-compatible server; None runs the model here.
        key_variable: Environment variable that holds the server's key; None for a server that wants none.
        temperature: 0 always takes the likeliest word; None leaves it to the model, as some accept no other.
        max_tokens: Longest answer, reasoning included; models that reason need thousands.
    """

    model: str | None = None
    url: str | None = None
    key_variable: str | None = None
    temperature: float | None = 0.7
    max_tokens: int = 512
