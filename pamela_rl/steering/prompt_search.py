"""Prompt search, the paper's loop: propose variants, draw, score by the user's reward, keep the best."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from pamela_rl.steering.proposers import Proposer, ScoredPrompt
from pamela_rl.steering.search_table import SearchTable, VariantRecord
from pamela_rl.steering.settings import PromptSearchSettings
from pamela_rl.types import ImageGenerator, Reward, Scorer, trainable


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        prompt: The best variant; the request itself where nothing was better.
        ranked: All variants that were not refused, best first.
        images_spent: Images drawn.
    """

    prompt: str
    ranked: tuple[ScoredPrompt, ...]
    images_spent: int


def search_prompt(
    request: str,
    user_id: str,
    propose: Proposer,
    generate: ImageGenerator,
    reward: Reward,
    content: Scorer | None,
    config: PromptSearchSettings,
    folder: Path,
) -> SearchResult:
    """Search for the variant of a request whose images have the highest reward for a user.

    Images are scored for the *request*, whatever prompt drew them. The request itself is among the first variants. An
    interrupted search resumes after its last complete round.

    Args:
        request: The user's prompt.
        user_id: The user.
        propose: Proposes variants.
        generate: Draws them.
        reward: The user's; a judge is refused.
        content: Scores how well images show the request, 0 to 1; None refuses no variant.
        config: Rounds and budget.
        folder: Of this search only: ``variants.jsonl`` and ``pictures/``.

    Raises:
        CheckpointError: The folder holds another search.
        ConfigError: The reward is a judge.
    """
    table = SearchTable(folder, {"request": request, "user_id": user_id, **asdict(config)})
    for round_index in range(table.rounds_done, config.num_rounds):
        rng = np.random.default_rng([config.seed, round_index, _hash_seed(request)])
        affordable = (config.max_images - table.images_spent) // config.num_seeds
        prompts = _next_prompts(request, table, propose, min(config.num_variants, affordable), config, rng)
        if not prompts:
            break
        seeds = [int(seed) for seed in rng.integers(2**31, size=config.num_seeds)]
        tasks = [(prompt, seed) for prompt in prompts for seed in seeds]
        images = generate([prompt for prompt, _ in tasks], [seed for _, seed in tasks])
        requests, user_ids = [request] * len(images), [user_id] * len(images)
        rewards = trainable(reward(images, requests, user_ids)).lower_confidence_bound(config.std_weight)
        faithfulness = None if content is None else content(images, requests, user_ids).mean
        table.add_round(_rows(round_index, prompts, seeds, images, rewards, faithfulness, table, config))
    best = table.best()
    return SearchResult(best.prompt if best else request, tuple(table.ranked()), table.images_spent)


def _hash_seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _next_prompts(
    request: str,
    table: SearchTable,
    propose: Proposer,
    count: int,
    config: PromptSearchSettings,
    rng: np.random.Generator,
) -> list[str]:
    """Return the best variants so far, to be drawn again, and new ones."""
    ranked = table.ranked()
    elites = [scored.prompt for scored in ranked[: config.num_elites]] if table.rounds_done else [request]
    drawn = {row.prompt for row in table.rows} | set(elites)
    new: dict[str, None] = {}
    for _ in range(5):  # proposers may repeat themselves; the round is then smaller
        missing = count - len(elites) - len(new)
        if missing <= 0:
            break
        new.update(dict.fromkeys(p for p in propose(request, ranked, missing, rng) if p not in drawn))
    return [*elites, *new][: max(0, count)]


def _rows(
    round_index: int,
    prompts: Sequence[str],
    seeds: list[int],
    images: Tensor,
    rewards: Tensor,
    faithfulness: Tensor | None,
    table: SearchTable,
    config: PromptSearchSettings,
) -> list[VariantRecord]:
    rows = []
    threshold = _faithfulness_threshold(table, faithfulness, len(seeds), config)
    for index, prompt in enumerate(prompts):
        rows_of_prompt = slice(index * len(seeds), (index + 1) * len(seeds))
        faithful = [] if faithfulness is None else [float(value) for value in faithfulness[rows_of_prompt]]
        refused = bool(faithful and np.mean(faithful) < threshold)
        files = table.save_images(round_index, prompt, images[rows_of_prompt])
        values = [float(value) for value in rewards[rows_of_prompt]]
        rows.append(VariantRecord(round_index, prompt, seeds, values, faithful, refused, files))
    return rows


def _faithfulness_threshold(
    table: SearchTable, faithfulness: Tensor | None, num_seeds: int, config: PromptSearchSettings
) -> float:
    """Return the least faithfulness of a variant: a share of that of the request's own images, the first drawn."""
    if faithfulness is None:
        return 0.0
    own = table.rows[0].faithfulness if table.rows else faithfulness[:num_seeds].tolist()
    return config.faithfulness_share * float(np.mean(own))


@dataclass(frozen=True)
class PromptedGenerator:
    """Replaces requests by the prompts that a search found, from the same seeds.

    Attributes:
        generate: Draws the images.
        prompts: Request to the prompt that replaces it; other requests stay as they are.
    """

    generate: ImageGenerator
    prompts: Mapping[str, str]

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return images in [0, 1], ``(b, 3, height, width)``."""
        return self.generate([self.prompts.get(prompt, prompt) for prompt in prompts], seeds)
