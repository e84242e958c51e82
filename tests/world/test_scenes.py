from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from pamela_rl.world.scenes import (
    ALL_SCENES,
    ATTRIBUTES,
    SIZE,
    SUBJECTS,
    Scene,
    draw_scene,
    draw_scenes,
    random_scenes,
)


def every_scene_with(**fixed: str) -> NDArray[np.float64]:
    """Drawings of all scenes with some attribute fixed, in [0, 1]; the same jitter for every value."""
    scenes = [s for s in ALL_SCENES if all(s.attribute(name) == value for name, value in fixed.items())]
    return draw_scenes(scenes[::3], seed=0) / 255.0


def test_all_combinations_are_there_once() -> None:
    assert len(set(ALL_SCENES)) == len(ALL_SCENES) == 8 * 4 * 3 * 2 * 2 * 3


def test_a_drawing_depends_on_its_seed_and_place_alone() -> None:
    scenes = random_scenes(6, seed=3)
    whole = draw_scenes(scenes, seed=9)
    assert whole.shape == (6, SIZE, SIZE, 3)
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(draw_scenes(scenes[:2], seed=9), whole[:2])
    np.testing.assert_array_equal(draw_scene(scenes[4], np.random.default_rng((9, 4))), whole[4])
    changed = [*scenes[:5], ALL_SCENES[0]]
    np.testing.assert_array_equal(draw_scenes(changed, seed=9)[:5], whole[:5])


@pytest.mark.parametrize("lighting", ATTRIBUTES["lighting"])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_another_seed_draws_another_picture_of_the_same_scene(subject: str, lighting: str) -> None:
    scene = Scene(subject, lighting, "vivid", "wide", "low", "left")
    first, second = draw_scenes([scene], seed=1), draw_scenes([scene], seed=2)
    difference = np.abs(first.astype(float) - second).mean()
    assert 0 < difference < 40


def test_every_attribute_changes_the_picture() -> None:
    scene = Scene("house", "noon", "vivid", "wide", "low", "left")
    base = draw_scene(scene, np.random.default_rng(0))
    for name, values in {"subject": SUBJECTS, **ATTRIBUTES}.items():
        for value in values:
            other = Scene(**{**vars(scene), name: value})
            assert (scene == other) == np.array_equal(draw_scene(other, np.random.default_rng(0)), base)


def test_night_is_dark_sunset_is_warm_and_earthy_is_muted() -> None:
    light = {value: every_scene_with(lighting=value) for value in ("noon", "sunset", "night", "mist")}
    assert light["night"].mean() < 0.6 * light["noon"].mean()
    assert (light["sunset"][..., 0] - light["sunset"][..., 2]).mean() > 0.1
    assert (light["noon"][..., 0] - light["noon"][..., 2]).mean() < 0
    strength = {value: np.ptp(every_scene_with(palette=value), axis=-1).mean() for value in ATTRIBUTES["palette"]}
    assert strength["vivid"] > 1.5 * strength["earthy"]


def test_random_scenes_are_uniform_and_repeat_with_their_seed() -> None:
    scenes = random_scenes(8000, seed=1)
    assert scenes[:50] == random_scenes(50, seed=1)
    assert scenes[:50] != random_scenes(50, seed=2)
    for name, values in {"subject": SUBJECTS, **ATTRIBUTES}.items():
        counts = Counter(scene.attribute(name) for scene in scenes)
        assert set(counts) == set(values)
        assert max(counts.values()) / min(counts.values()) < 1.2
