"""Proposers of prompt variants: random phrases, evolution of good prompts, a language model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pamela_rl.data.phrases import Phrasebook
from pamela_rl.data.ratings import RatingScale

MAX_VARIANT_LENGTH = 400  # characters


@dataclass(frozen=True)
class ScoredPrompt:
    """A prompt with the scores of its images.

    Attributes:
        prompt: The prompt.
        score: Mean reward of its images for the request, in rating points.
        faithfulness: Mean faithfulness of its images to the request; None where it is not scored.
        num_images: Number of its images.
    """

    prompt: str
    score: float
    faithfulness: float | None
    num_images: int


class Proposer(Protocol):
    """Anything that proposes variants of a request."""

    def __call__(self, request: str, ranked: Sequence[ScoredPrompt], count: int, rng: np.random.Generator) -> list[str]:
        """Return about ``count`` variants; the search drops duplicates.

        Args:
            request: The user's prompt.
            ranked: Variants drawn so far and not refused, best first.
            count: Number of variants.
            rng: Random numbers.
        """
        ...


@dataclass(frozen=True)
class PhraseProposer:
    """Adds random phrases for attributes the request does not name; needs no language model.

    Attributes:
        book: The phrases.
        phrase_effects: Effect of a phrase on the user's rating, relative to others of its attribute, in rating points, from their taste in
            words; ``temperature`` makes it e times as likely. Phrases that are not there count as 0.
        temperature: As a share of the rating scale's range.
        share: Probability of adding a phrase of an unnamed attribute.
        scale: Of the ratings.
    """

    book: Phrasebook
    phrase_effects: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 0.125
    share: float = 0.6
    scale: RatingScale = field(default_factory=RatingScale)

    def __call__(self, request: str, ranked: Sequence[ScoredPrompt], count: int, rng: np.random.Generator) -> list[str]:
        """Return ``count`` variants."""
        return [self.book.apply(request, self._choose(request, rng)) for _ in range(count)]

    def _choose(self, request: str, rng: np.random.Generator) -> dict[str, str]:
        attributes = self.book.unspecified(request)
        chosen = [name for name in attributes if rng.random() < self.share]
        return {name: self.pick(name, rng) for name in chosen}

    def pick(self, attribute: str, rng: np.random.Generator) -> str:
        """Draw one phrase of an attribute."""
        phrases = self.book.phrases[attribute]
        points = self.temperature * (self.scale.high - self.scale.low)
        logits = np.array([self.phrase_effects.get(phrase, 0.0) for phrase in phrases]) / points
        weights = np.exp(logits - logits.max())
        return phrases[int(rng.choice(len(phrases), p=weights / weights.sum()))]


@dataclass(frozen=True)
class EvolutionaryProposer:
    """Crossover and mutation: each attribute's phrase comes from one of two good prompts, or is changed.

    Attributes:
        phrases: Source of new phrases; it also proposes while fewer than two variants are ranked.
        num_parents: How many of the best may be parents.
        mutation: Probability that an attribute is redrawn: half the time a phrase, half the time none.
    """

    phrases: PhraseProposer
    num_parents: int = 5
    mutation: float = 0.15

    def __call__(self, request: str, ranked: Sequence[ScoredPrompt], count: int, rng: np.random.Generator) -> list[str]:
        """Return ``count`` variants."""
        if len(ranked) < 2:
            return self.phrases(request, ranked, count, rng)
        book = self.phrases.book
        parents = [book.added_phrases(scored.prompt, request) for scored in ranked[: self.num_parents]]
        return [book.apply(request, self._child(request, parents, rng)) for _ in range(count)]

    def _child(self, request: str, parents: Sequence[Mapping[str, str]], rng: np.random.Generator) -> dict[str, str]:
        pair = rng.choice(len(parents), size=2, replace=False)
        child: dict[str, str] = {}
        for name in self.phrases.book.unspecified(request):
            phrase = parents[int(rng.choice(pair))].get(name)
            if rng.random() < self.mutation:
                phrase = self.phrases.pick(name, rng) if rng.random() < 0.5 else None
            if phrase is not None:
                child[name] = phrase
        return child


@dataclass(frozen=True)
class LanguageModelProposer:
    """Prompts a chat language model with the best variants so far and a description of the user's taste.

    Attributes:
        chat: A ``ChatModel``.
        description: The user's taste in words.
        num_examples: Number of best variants in the message.
    """

    chat: Callable[..., str]
    description: str
    num_examples: int = 5

    def __call__(self, request: str, ranked: Sequence[ScoredPrompt], count: int, rng: np.random.Generator) -> list[str]:
        """Return the variants in the model's answer, at most ``count``."""
        best = "\n".join(f"{scored.score:.2f}  {scored.prompt}" for scored in ranked[: self.num_examples])
        message = (
            f"Request: {request}\nThis person {self.description}.\n"
            + (f"Best prompts so far, with this person's rating:\n{best}\n" if best else "")
            + f"Write {count} other prompts this person will like more, one a line."
        )
        messages = [{"role": "system", "content": _INSTRUCTION}, {"role": "user", "content": message}]
        return parse_variants(self.chat(messages, seed=int(rng.integers(2**31))))[:count]


_INSTRUCTION = (
    "You rewrite prompts of a text-to-image model for one person. Keep the subject and everything the request names. "
    "Change only what it leaves open: lighting, camera angle, viewpoint, palette and composition. "
    "Answer with prompts alone, one a line, without numbers or quotes."
)


def parse_variants(answer: str) -> list[str]:
    """Parse prompts from a language model's answer: one per line, without bullets, numbers and quotes."""
    lines = (
        re.sub(r"^\s*(?:[-*•]|\d+[.):])\s*", "", line).strip().strip("\"'`").strip() for line in answer.splitlines()
    )
    return [line for line in lines if line and len(line) <= MAX_VARIANT_LENGTH and not line.endswith(":")]


@dataclass(frozen=True)
class MixedProposer:
    """Several proposers with equal shares; the first one fills up missing variants.

    Attributes:
        proposers: At least one.
    """

    proposers: Sequence[Proposer]

    def __call__(self, request: str, ranked: Sequence[ScoredPrompt], count: int, rng: np.random.Generator) -> list[str]:
        """Return about ``count`` variants, an equal share from each."""
        share = -(-count // len(self.proposers))
        proposed = [propose(request, ranked, share, rng) for propose in self.proposers]
        mixed = [variant for turn in zip(*proposed) for variant in turn]
        remaining = [variant for variants in proposed for variant in variants if variant not in mixed]
        variants = [*mixed, *remaining][:count]
        return variants + self.proposers[0](request, ranked, count - len(variants), rng)
