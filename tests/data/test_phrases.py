from __future__ import annotations

import pytest

from pamela_rl.data.phrases import PHOTOGRAPHIC, Phrasebook
from pamela_rl.world.captions import ATTRIBUTES, PHRASEBOOK, PHRASES, caption, parse_prompt
from pamela_rl.world.scenes import ALL_SCENES

BOOK = Phrasebook(
    {"viewpoint": ("a close-up of",), "lighting": ("at night", "at night in rain"), "angle": ("from below",)}
)


def test_phrases_stand_around_the_request_in_the_order_of_the_book() -> None:
    chosen = {"angle": "from below", "lighting": "at night", "viewpoint": "a close-up of"}
    assert BOOK.apply("a boat", chosen) == "a close-up of a boat, at night, from below"
    assert BOOK.apply("a boat", {}) == "a boat"


def test_what_a_request_names_is_not_open() -> None:
    assert BOOK.unspecified("a boat At Night") == ["viewpoint", "angle"]
    assert BOOK.added_phrases("a close-up of a boat at night, from below", "a boat at night") == {
        "viewpoint": "a close-up of",
        "angle": "from below",
    }


@pytest.mark.parametrize("book", [BOOK, PHRASEBOOK, PHOTOGRAPHIC])
def test_every_phrase_is_read_back_from_the_prompt_it_is_put_into(book: Phrasebook) -> None:
    for name, phrases in book.phrases.items():
        for phrase in phrases:
            assert book.added_phrases(book.apply("an armchair", {name: phrase}), "an armchair") == {name: phrase}


def test_in_the_world_a_prompt_with_phrases_is_a_caption_of_the_model() -> None:
    for scene in ALL_SCENES[::37]:
        chosen = {name: PHRASES[name][scene.attribute(name)] for name in ATTRIBUTES}
        prompt = PHRASEBOOK.apply(f"a {scene.subject}", chosen)
        assert prompt == caption(scene, set(ATTRIBUTES))
        assert parse_prompt(prompt) == {"subject": scene.subject} | {name: scene.attribute(name) for name in ATTRIBUTES}
