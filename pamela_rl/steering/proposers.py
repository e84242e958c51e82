"""Who proposes the next variants of a request: phrases, a mix of good prompts, a language model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pamela_rl.data.phrases import Phrasebook

LONGEST = 400  # characters of a variant; what is longer is not a prompt but a speech


@dataclass(frozen=True)
class Scored:
    """A prompt that was drawn and judged.

    Attributes:
        prompt: What was drawn.
        score: Mean over its pictures of the person's reward for the request, in rating points.
        faithfulness: Mean over its pictures of how well they show the request; None where nothing tells.
        num_images: Pictures behind these means.
    """

    prompt: str
    score: float
    faithfulness: float | None
    num_images: int


class Proposer(Protocol):
    """Anything that proposes variants of a request."""

    def __call__(self, request: str, ranked: Sequence[Scored], count: int, numbers: np.random.Generator) -> list[str]:
        """Return about ``count`` variants; they may repeat, and the search draws none twice in a round.

        Args:
            request: What was asked for.
            ranked: What was drawn so far and not refused, best first.
            count: How many are wanted.
            numbers: Source of chance.
        """
        ...


@dataclass(frozen=True)
class PhraseProposer:
    """Adds phrases at random to what the request leaves open; needs no language model.

    Attributes:
        book: The phrases.
        likings: Rating points by which the person likes a phrase more than others of its attribute, from their taste in
            words; a point makes it ``e ** (1 / temperature)`` times as likely. Phrases that are not there count as 0.
        temperature: In rating points.
        share: Probability of adding a phrase of an open attribute.
    """

    book: Phrasebook
    likings: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 0.5
    share: float = 0.6

    def __call__(self, request: str, ranked: Sequence[Scored], count: int, numbers: np.random.Generator) -> list[str]:
        """Return ``count`` variants."""
        return [self.book.apply(request, self._choose(request, numbers)) for _ in range(count)]

    def _choose(self, request: str, numbers: np.random.Generator) -> dict[str, str]:
        open_ones = self.book.left_open(request)
        named = [name for name in open_ones if numbers.random() < self.share]
        return {name: self.pick(name, numbers) for name in named}

    def pick(self, attribute: str, numbers: np.random.Generator) -> str:
        """Draw one phrase of an attribute."""
        phrases = self.book.phrases[attribute]
        logits = np.array([self.likings.get(phrase, 0.0) for phrase in phrases]) / self.temperature
        odds = np.exp(logits - logits.max())
        return phrases[int(numbers.choice(len(phrases), p=odds / odds.sum()))]


@dataclass(frozen=True)
class EvolutionaryProposer:
    """Mixes the phrases of two good prompts and changes some: each attribute from either parent.

    Attributes:
        phrases: Where new phrases come from, and what proposes while nothing good is known.
        num_parents: How many of the best may be parents.
        mutation: Probability that an attribute is drawn afresh: half the time a phrase, half the time none.
    """

    phrases: PhraseProposer
    num_parents: int = 5
    mutation: float = 0.15

    def __call__(self, request: str, ranked: Sequence[Scored], count: int, numbers: np.random.Generator) -> list[str]:
        """Return ``count`` variants."""
        if len(ranked) < 2:
            return self.phrases(request, ranked, count, numbers)
        book = self.phrases.book
        parents = [book.chosen_in(scored.prompt, request) for scored in ranked[: self.num_parents]]
        return [book.apply(request, self._child(request, parents, numbers)) for _ in range(count)]

    def _child(
        self, request: str, parents: Sequence[Mapping[str, str]], numbers: np.random.Generator
    ) -> dict[str, str]:
        pair = numbers.choice(len(parents), size=2, replace=False)
        child: dict[str, str] = {}
        for name in self.phrases.book.left_open(request):
            phrase = parents[int(numbers.choice(pair))].get(name)
            if numbers.random() < self.mutation:
                phrase = self.phrases.pick(name, numbers) if numbers.random() < 0.5 else None
            if phrase is not None:
                child[name] = phrase
        return child


@dataclass(frozen=True)
class LanguageModelProposer:
    """Asks a chat language model, which sees the best prompts so far and the person's taste in words.

    Attributes:
        chat: Messages and a seed to an answer, a ``ChatModel``.
        description: What the person likes, in words.
        num_shown: How many of the best prompts it sees.
    """

    chat: Callable[..., str]
    description: str
    num_shown: int = 5

    def __call__(self, request: str, ranked: Sequence[Scored], count: int, numbers: np.random.Generator) -> list[str]:
        """Return what can be read of the model's answer, at most ``count`` variants."""
        best = "\n".join(f"{scored.score:.2f}  {scored.prompt}" for scored in ranked[: self.num_shown])
        task = (
            f"Request: {request}\nThis person {self.description}.\n"
            + (f"Best prompts so far, with this person's rating:\n{best}\n" if best else "")
            + f"Write {count} other prompts this person will like more, one a line."
        )
        messages = [{"role": "system", "content": _INSTRUCTION}, {"role": "user", "content": task}]
        return read_variants(self.chat(messages, seed=int(numbers.integers(2**31))))[:count]


_INSTRUCTION = (
    "You rewrite prompts of a text-to-image model for one person. Keep the subject and everything the request names. "
    "Change only what it leaves open: lighting, camera angle, viewpoint, palette and composition. "
    "Answer with prompts alone, one a line, without numbers or quotes."
)


def read_variants(answer: str) -> list[str]:
    """Read prompts from a language model's answer: one a line, without bullets, numbers and quotes."""
    lines = (
        re.sub(r"^\s*(?:[-*•]|\d+[.):])\s*", "", line).strip().strip("\"'`").strip() for line in answer.splitlines()
    )
    return [line for line in lines if line and len(line) <= LONGEST and not line.endswith(":")]


@dataclass(frozen=True)
class MixedProposer:
    """Several proposers taking turns; what one leaves open the first fills up.

    Attributes:
        proposers: At least one.
    """

    proposers: Sequence[Proposer]

    def __call__(self, request: str, ranked: Sequence[Scored], count: int, numbers: np.random.Generator) -> list[str]:
        """Return about ``count`` variants, an equal share from each."""
        share = -(-count // len(self.proposers))
        asked = [propose(request, ranked, share, numbers) for propose in self.proposers]
        mixed = [variant for turn in zip(*asked) for variant in turn]
        rest = [variant for variants in asked for variant in variants if variant not in mixed]
        found = [*mixed, *rest][:count]
        return found + self.proposers[0](request, ranked, count - len(found), numbers)
