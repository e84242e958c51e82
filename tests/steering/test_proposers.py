from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from pamela_rl.data.phrases import Phrasebook
from pamela_rl.data.ratings import RatingScale
from pamela_rl.steering.proposers import (
    EvolutionaryProposer,
    LanguageModelProposer,
    MixedProposer,
    PhraseProposer,
    ScoredPrompt,
    parse_variants,
)

BOOK = Phrasebook({"lighting": ("at noon", "at night"), "palette": ("in red", "in blue"), "angle": ("from below",)})


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def scored(*prompts: str) -> list[ScoredPrompt]:
    return [ScoredPrompt(prompt, 5.0 - row, 1.0, 2) for row, prompt in enumerate(prompts)]


def test_phrases_are_added_to_what_is_open_and_the_request_is_kept() -> None:
    variants = PhraseProposer(BOOK)("a boat at night", [], 200, rng())
    assert all(variant.startswith("a boat at night") for variant in variants)
    assert not any("at noon" in variant for variant in variants)
    assert len(set(variants)) == 6  # red, blue or none, from below or not


def test_a_liked_phrase_is_as_much_likelier_as_its_points_say() -> None:
    for scale in (RatingScale(1, 5), RatingScale(0, 1), RatingScale(0, 100)):
        effect = (scale.high - scale.low) / 4
        propose = PhraseProposer(BOOK, {"at night": effect}, temperature=0.125, share=1.0, scale=scale)
        counts = Counter("at night" in variant for variant in propose("a boat", [], 4000, rng()))
        assert abs(counts[True] / 4000 - np.exp(2) / (1 + np.exp(2))) < 0.02


def test_children_take_every_phrase_from_their_parents() -> None:
    breed = EvolutionaryProposer(PhraseProposer(BOOK), num_parents=2, mutation=0)
    parents = scored("a boat, at night, in red", "a boat, in blue, from below", "a boat, at noon")
    children = breed("a boat", parents, 300, rng())
    assert set(children) == {
        BOOK.apply("a boat", {k: v for k, v in (("lighting", light), ("palette", colour), ("angle", angle)) if v})
        for light in ("at night", None)
        for colour in ("in red", "in blue")
        for angle in ("from below", None)
    }


def test_mutation_brings_in_phrases_that_no_parent_has() -> None:
    breed = EvolutionaryProposer(PhraseProposer(BOOK), mutation=0.3)
    children = breed("a boat", scored("a boat, at night", "a boat, at night, in red"), 300, rng())
    assert any("at noon" in child for child in children)
    assert any("at night" not in child for child in children)
    assert "a boat, at noon" in EvolutionaryProposer(PhraseProposer(BOOK))("a boat", [], 300, rng())


class Notes:
    """A chat that records its messages and answers as models do: with numbers, bullets and quotes."""

    def __init__(self) -> None:
        self.heard: list[Mapping[str, str]] = []

    def __call__(self, messages: Sequence[Mapping[str, str]], *, seed: int) -> str:
        self.heard = list(messages)
        return (
            'Here are three prompts:\n1. "a boat at dusk"\n- a red boat\n\n3) a boat, seen from a cliff\n' + "x" * 500
        )


def test_a_language_model_sees_request_taste_and_best_prompts_and_its_answer_is_read() -> None:
    chat = Notes()
    propose = LanguageModelProposer(chat, "likes at night; dislikes in red", num_examples=1)
    variants = propose("a boat", scored("a boat, at night", "a boat, in blue"), 2, rng())
    assert variants == ["a boat at dusk", "a red boat"]
    message = chat.heard[-1]["content"]
    assert "Request: a boat" in message
    assert "This person likes at night; dislikes in red." in message
    assert "5.00  a boat, at night" in message
    assert "in blue" not in message


def test_what_is_no_prompt_is_passed_over() -> None:
    assert parse_variants("Sure:\n\n* 'a'\n2. b\n  \n") == ["a", "b"]


def test_a_mix_takes_from_all_and_the_first_fills_up() -> None:
    nothing = LanguageModelProposer(lambda messages, seed: "", "likes nothing")
    mixed = MixedProposer([PhraseProposer(BOOK), nothing])
    assert len(mixed("a boat", [], 7, rng())) == 7
    both = MixedProposer([PhraseProposer(BOOK), LanguageModelProposer(Notes(), "likes blue")])("a boat", [], 4, rng())
    assert "a boat at dusk" in both
