from __future__ import annotations

import itertools

import numpy as np
import pytest

from pamela_rl.world.captions import (
    caption,
    open_prompts,
    parse_prompt,
    random_captions,
    train_and_held_out_prompts,
)
from pamela_rl.world.scenes import ALL_SCENES, ATTRIBUTES, SUBJECTS, Scene, random_scenes

SUBSETS = [set(names) for size in range(6) for names in itertools.combinations(ATTRIBUTES, size)]
SCENE = Scene("boat", "night", "pastel", "close", "high", "left")


def test_a_caption_reads_as_a_person_would_write_it() -> None:
    assert caption(SCENE, set()) == "a boat"
    assert caption(SCENE, {"viewpoint", "lighting"}) == "a close-up of a boat, at night"
    assert caption(SCENE, {"placement", "angle"}) == "a boat, seen from above, on the left"


def test_every_caption_of_every_scene_is_understood_as_it_was_meant() -> None:
    texts: dict[str, dict[str, str]] = {}
    for scene, named in itertools.product(ALL_SCENES, SUBSETS):
        texts[caption(scene, named)] = {name: scene.attribute(name) for name in {"subject", *named}}
    # each attribute named with one of its values, or not at all
    assert len(texts) == len(SUBJECTS) * np.prod([len(values) + 1 for values in ATTRIBUTES.values()])
    assert all(parse_prompt(text) == meant for text, meant in texts.items())


@pytest.mark.parametrize(
    ("prompt", "requested"),
    [
        ("", {}),
        ("something pretty", {}),
        ("A Lighthouse, AT NIGHT", {"subject": "lighthouse", "lighting": "night"}),
        ("a lighthouse", {"subject": "lighthouse"}),  # and not a house
        ("a houseboat", {}),
    ],
)
def test_what_a_prompt_leaves_open_is_absent(prompt: str, requested: dict[str, str]) -> None:
    assert parse_prompt(prompt) == requested


def test_random_captions_name_as_much_as_they_are_told_to() -> None:
    scenes = random_scenes(400, seed=0)

    def named(low: float, high: float) -> float:
        texts = random_captions(scenes, np.random.default_rng(0), (low, high))
        requests = [parse_prompt(text) for text in texts]
        assert all(requested["subject"] == scene.subject for requested, scene in zip(requests, scenes))
        return sum(len(requested) - 1 for requested in requests) / (5 * len(scenes))

    assert named(0, 0) == 0
    assert named(1, 1) == 1
    assert named(0.6, 0.6) == pytest.approx(0.6, abs=0.04)


def test_open_prompts_leave_lighting_and_palette_open_and_never_repeat() -> None:
    prompts = open_prompts()
    assert len(prompts) == len(set(prompts)) == 8 * (1 + 2 + 2 + 3)
    for prompt in prompts:
        requested = parse_prompt(prompt)
        assert len(requested) <= 2
        assert not {"lighting", "palette"} & set(requested)


def test_held_out_prompts_are_never_trained_on_and_both_parts_show_every_subject() -> None:
    train, held_out = train_and_held_out_prompts()
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == sorted(open_prompts())
    assert len(held_out) == 16
    for part in (train, held_out):
        assert {parse_prompt(prompt)["subject"] for prompt in part} == set(SUBJECTS)
