"""Prompt search, the paper's loop: propose variants, draw, score by the person's reward, carry the best on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.steering.proposers import Proposer, Scored
from pamela_rl.steering.search_table import Drawn, SearchTable
from pamela_rl.types import ImageGenerator, Reward, Scorer, trainable


@dataclass(frozen=True)
class PromptSearchConfig:
    """How long and how wide the search is; by default 90 pictures a request.

    Attributes:
        num_rounds: Rounds of proposing, drawing and scoring.
        num_variants: Prompts drawn in each round, those carried on included.
        num_seeds: Pictures of each prompt and round; the same seeds for all prompts of a round, others in the next.
        num_carried: Best prompts that are drawn again in the next round, so that luck does not win.
        max_images: Budget of pictures a request; a round that does not fit is made narrower.
        faithfulness_share: A variant is refused whose pictures show the request less well than this share of the
            request's own pictures.
        std_weight: Multiples of the reward's own uncertainty taken off its mean.
        seed: Of proposals and pictures.
    """

    num_rounds: int = 3
    num_variants: int = 15
    num_seeds: int = 2
    num_carried: int = 4
    max_images: int = 90
    faithfulness_share: float = 0.9
    std_weight: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_rounds", "num_seeds", "max_images"):
            if getattr(self, name) < 1:
                raise ConfigError(f"search.{name} is {getattr(self, name)}; use 1 or more.")
        if not 0 <= self.num_carried < self.num_variants:
            raise ConfigError(
                f"search.num_carried is {self.num_carried} but only {self.num_variants} prompts are drawn a round "
                f"(num_variants); use 0 to {max(0, self.num_variants - 1)}."
            )
        if not 0 <= self.faithfulness_share <= 1:
            raise ConfigError(
                f"search.faithfulness_share is {self.faithfulness_share}; it is a share: use 0 to 1, e.g. 0.9."
            )


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        prompt: The best variant; the request itself where nothing was better.
        ranked: All that were not refused, best first.
        images_spent: Pictures drawn.
    """

    prompt: str
    ranked: tuple[Scored, ...]
    images_spent: int


def search_prompt(
    request: str,
    user_id: str,
    propose: Proposer,
    generate: ImageGenerator,
    reward: Reward,
    content: Scorer | None,
    config: PromptSearchConfig,
    folder: Path,
) -> SearchResult:
    """Look for the variant of a request whose pictures a person likes most.

    Pictures are scored for the *request*, whatever prompt drew them. The request itself is among the first variants.
    A search that was cut off goes on after its last whole round.

    Args:
        request: What was asked for.
        user_id: Whose reward.
        propose: Proposes variants.
        generate: Draws them.
        reward: The person's; a judge is refused.
        content: How well pictures show what was asked for, 0 to 1; None refuses nothing.
        config: Rounds and budget.
        folder: Of this search alone: ``variants.jsonl`` and ``pictures/``.

    Raises:
        CheckpointError: The folder holds another search.
        ConfigError: The reward is a judge.
    """
    table = SearchTable(folder, {"request": request, "user_id": user_id, **asdict(config)})
    for number in range(table.rounds_done, config.num_rounds):
        numbers = np.random.default_rng([config.seed, number, _number_of(request)])
        room = (config.max_images - table.images_spent) // config.num_seeds
        prompts = _next_prompts(request, table, propose, min(config.num_variants, room), config, numbers)
        if not prompts:
            break
        seeds = [int(seed) for seed in numbers.integers(2**31, size=config.num_seeds)]
        everything = [(prompt, seed) for prompt in prompts for seed in seeds]
        images = generate([prompt for prompt, _ in everything], [seed for _, seed in everything])
        asked, people = [request] * len(images), [user_id] * len(images)
        rewards = trainable(reward(images, asked, people)).lower_confidence_bound(config.std_weight)
        shown = None if content is None else content(images, asked, people).mean
        table.add_round(_rows(number, prompts, seeds, images, rewards, shown, table, config))
    best = table.best()
    return SearchResult(best.prompt if best else request, tuple(table.ranked()), table.images_spent)


def _number_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _next_prompts(
    request: str,
    table: SearchTable,
    propose: Proposer,
    count: int,
    config: PromptSearchConfig,
    numbers: np.random.Generator,
) -> list[str]:
    """The best so far, to be drawn again, and new ones that were never drawn."""
    ranked = table.ranked()
    carried = [scored.prompt for scored in ranked[: config.num_carried]] if table.rounds_done else [request]
    drawn = {row.prompt for row in table.rows} | set(carried)
    fresh: dict[str, None] = {}
    for _ in range(5):  # proposers repeat themselves; what they cannot fill stays unfilled
        missing = count - len(carried) - len(fresh)
        if missing <= 0:
            break
        fresh.update(dict.fromkeys(p for p in propose(request, ranked, missing, numbers) if p not in drawn))
    return [*carried, *fresh][: max(0, count)]


def _rows(
    number: int,
    prompts: Sequence[str],
    seeds: list[int],
    images: Tensor,
    rewards: Tensor,
    shown: Tensor | None,
    table: SearchTable,
    config: PromptSearchConfig,
) -> list[Drawn]:
    rows = []
    least = _least_faithful(table, shown, len(seeds), config)
    for place, prompt in enumerate(prompts):
        part = slice(place * len(seeds), (place + 1) * len(seeds))
        faithfulness = [] if shown is None else [float(value) for value in shown[part]]
        refused = bool(faithfulness and np.mean(faithfulness) < least)
        files = table.save_pictures(number, prompt, images[part])
        values = [float(value) for value in rewards[part]]
        rows.append(Drawn(number, prompt, seeds, values, faithfulness, refused, files))
    return rows


def _least_faithful(table: SearchTable, shown: Tensor | None, num_seeds: int, config: PromptSearchConfig) -> float:
    """What a variant must reach: a share of the request's own pictures, which are the first drawn."""
    if shown is None:
        return 0.0
    own = table.rows[0].faithfulness if table.rows else shown[:num_seeds].tolist()
    return config.faithfulness_share * float(np.mean(own))


@dataclass(frozen=True)
class PromptedGenerator:
    """Draws with the prompts that a search found, from the same seeds.

    Attributes:
        generate: Draws.
        prompts: Request to the prompt that is drawn instead; requests that are not there are drawn as they are.
    """

    generate: ImageGenerator
    prompts: Mapping[str, str]

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return pictures in [0, 1], ``(b, 3, height, width)``."""
        return self.generate([self.prompts.get(prompt, prompt) for prompt in prompts], seeds)
