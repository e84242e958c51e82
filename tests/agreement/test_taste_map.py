from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pamela_rl.agreement.measures import Array
from pamela_rl.agreement.taste_map import plot_taste_map, principal_tastes
from pamela_rl.errors import DataError

PEOPLE, PICTURES = 30, 20


def two_tastes() -> tuple[Array, Array]:
    """Half of the people like the first pictures and half the last, the more so towards the ends."""
    numbers = np.random.default_rng(0)
    camp = np.repeat([-1.0, 1.0], PEOPLE // 2)
    image = np.linspace(-1, 1, PICTURES)
    second = numbers.normal(size=PEOPLE)[:, None] * np.where(np.arange(PICTURES) % 2, 0.2, -0.2)
    noise = 0.01 * numbers.normal(size=(PEOPLE, PICTURES))
    return camp, 3 + camp[:, None] * image + second + noise


def test_the_axes_are_the_eigenvectors_of_the_covariance_of_tastes() -> None:
    _, predicted = two_tastes()
    tastes = principal_tastes(predicted)
    spread, vectors = np.linalg.eigh(np.cov((predicted - predicted.mean(axis=1, keepdims=True)).T))
    np.testing.assert_allclose(tastes.explained_variance_ratio, spread[::-1][:2] / spread.sum())
    for axis in (0, 1):
        mine, theirs = tastes.images[:, axis] / PICTURES**0.5, vectors[:, -1 - axis]
        np.testing.assert_allclose(np.abs(mine), np.abs(theirs), atol=1e-9)
        assert mine[np.abs(mine).argmax()] > 0


def test_people_and_pictures_give_back_what_was_predicted_in_rating_points() -> None:
    camp, predicted = two_tastes()
    tastes = principal_tastes(predicted)
    centred = predicted - predicted.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(tastes.users @ tastes.images.T, centred - centred.mean(axis=0), atol=0.06)
    assert abs(np.corrcoef(camp, tastes.users[:, 0])[0, 1]) > 0.99
    rms = np.sqrt((np.linspace(-1, 1, PICTURES) ** 2).mean())
    np.testing.assert_allclose(np.abs(tastes.users[:, 0]), rms, atol=0.15)


def test_how_high_somebody_rates_is_no_taste() -> None:
    _, predicted = two_tastes()
    shifted = predicted + np.random.default_rng(1).uniform(-2, 2, PEOPLE)[:, None]
    np.testing.assert_allclose(principal_tastes(shifted).users, principal_tastes(predicted).users, atol=1e-9)


@pytest.mark.parametrize("colour", [None, np.linspace(2, 4, PEOPLE), ["a", "b", "c", "d", "e", "f", "g", "h", "$"] * 4])
def test_the_pictures_at_the_ends_are_asked_for_and_no_others(colour: Array | list[str] | None, tmp_path: Path) -> None:
    requested = []

    def thumbnail(place: int) -> Image.Image:
        requested.append(place)
        return Image.new("RGB", (40, 30), (200, 10 * place, 0))

    _, predicted = two_tastes()
    chosen = colour if colour is None else colour[:PEOPLE]
    plot_taste_map(tmp_path / "map.png", predicted, thumbnail, chosen, "kind", num_thumbnails=2)
    assert len(requested) == 8
    assert {frozenset(requested[:2]), frozenset(requested[2:4])} == {frozenset({0, 1}), frozenset({18, 19})}
    image = np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).astype(int)
    left, right = (
        half[(half[..., 0] == 200) & (half[..., 2] == 0)][:, 1] for half in (image[:, :200], image[:, -200:])
    )
    on_the_left, on_the_right = ({int(green) // 10 for green in side} for side in (left, right))
    places = principal_tastes(predicted).images[:, 0]
    assert on_the_left == set(places.argsort()[:2].tolist())
    assert on_the_right == set(places.argsort()[-2:].tolist())


def test_what_has_no_map_is_refused() -> None:
    with pytest.raises(DataError, match=r"needs three people and three pictures; it was given \(2, 20\)"):
        principal_tastes(two_tastes()[1][:2])
    with pytest.raises(DataError, match="all people are predicted to like the same pictures"):
        principal_tastes(np.tile(np.arange(5.0), (4, 1)) + np.arange(4.0)[:, None])
