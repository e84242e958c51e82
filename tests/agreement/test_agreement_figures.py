from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pamela_rl.agreement.calibration import coverage, pit_histogram
from pamela_rl.agreement.figures import COLOURS, plot_calibration, plot_learning_curve, plot_predicted_vs_actual
from pamela_rl.agreement.measures import Array
from pamela_rl.data.ratings import RatingScale

PEOPLE, EACH = 40, 25
LEVELS = np.linspace(0.1, 0.9, 9)


def only_levels() -> tuple[Array, Array, Array]:
    """A model that knows who rates high and nothing else, ratings of 1 to 5, and raters."""
    numbers = np.random.default_rng(0)
    users = np.repeat(np.arange(PEOPLE), EACH)
    level = numbers.uniform(1.5, 4.5, PEOPLE)[users]
    actual = np.clip(np.rint(level + 0.7 * numbers.normal(size=len(users))), 1, 5)
    return level + 0.1 * numbers.normal(size=len(users)), actual, users


def described(path: Path) -> str:
    with Image.open(path) as image:
        image.load()
        return str(image.info["Description"])


def pixels_of(path: Path, colour: str) -> int:
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    return int((np.asarray(Image.open(path).convert("RGB")) == wanted).all(axis=2).sum())


def test_the_agreement_that_is_stated_is_within_a_person(tmp_path: Path) -> None:
    predicted, actual, users = only_levels()
    plot_predicted_vs_actual(tmp_path / "p.png", "levels", predicted, actual, users, RatingScale())
    words = described(tmp_path / "p.png")
    assert "1,000 ratings of 40 people" in words
    given = float(words.split("mean: ")[1].split(" [")[0])
    assert abs(given) < 0.1  # 0.77 of all people pooled


def test_stars_are_boxes_and_sliders_are_densities(tmp_path: Path) -> None:
    predicted, actual, users = only_levels()
    plot_predicted_vs_actual(tmp_path / "stars.png", "m", predicted, actual, users, RatingScale())
    slid = np.clip((predicted - 1) / 4 + 0.1 * np.random.default_rng(0).normal(size=len(actual)), 0, 1)
    plot_predicted_vs_actual(tmp_path / "slid.png", "m", (predicted - 1) / 4, slid, users, RatingScale(0, 1))
    assert "box: middle half" in described(tmp_path / "stars.png")
    assert "darker: more" in described(tmp_path / "slid.png")
    for name in ("stars.png", "slid.png"):
        assert pixels_of(tmp_path / name, COLOURS[1]) > 300  # the line where predicted = given


def test_a_learning_curve_has_a_line_a_model_and_the_ceiling(tmp_path: Path) -> None:
    rising = [(score, score - 0.03, score + 0.03) for score in (0.3, 0.4, 0.5)]
    gap = [(0.4, 0.3, 0.5), (np.nan, np.nan, np.nan), (0.4, 0.3, 0.5)]
    plot_learning_curve(tmp_path / "one.png", [0, 5, 20], {"a": rising})
    plot_learning_curve(tmp_path / "two.png", [0, 5, 20], {"a": rising, "b": gap}, ceiling=0.67)
    assert pixels_of(tmp_path / "one.png", COLOURS[0]) > 300
    assert pixels_of(tmp_path / "one.png", COLOURS[1]) == 0
    assert pixels_of(tmp_path / "two.png", COLOURS[1]) > 30
    grey = [pixels_of(tmp_path / name, "#666666") for name in ("one.png", "two.png")]
    assert grey[1] > grey[0] + 300


def test_calibration_is_drawn_with_and_without_its_histogram(tmp_path: Path) -> None:
    predicted, actual, _ = only_levels()
    shares, bars = {}, {}
    for name, std in (("right", 0.7), ("too sure", 0.2)):
        spread = np.full(len(actual), std)
        shares[name] = coverage(predicted, spread, actual, RatingScale(), LEVELS).mean(axis=0)
        bars[name] = pit_histogram(predicted, spread, actual, RatingScale())
    plot_calibration(tmp_path / "left.png", LEVELS, shares)
    plot_calibration(tmp_path / "both.png", LEVELS, shares, bars)
    with Image.open(tmp_path / "left.png") as left, Image.open(tmp_path / "both.png") as both:
        assert both.width > 1.5 * left.width
    assert "PIT histogram" in described(tmp_path / "both.png")
    assert pixels_of(tmp_path / "both.png", COLOURS[1]) > pixels_of(tmp_path / "left.png", COLOURS[1]) + 300


@pytest.mark.parametrize("name", [r"costs $\broken$ 5", "50 % <b>", "a very long name of a model " * 3])
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    predicted, actual, users = only_levels()
    plot_predicted_vs_actual(tmp_path / "p.png", name, predicted, actual, users, RatingScale())
    plot_learning_curve(tmp_path / "l.png", [0, 1], {name: [(0.1, 0.0, 0.2), (0.2, 0.1, 0.3)]})
    plot_calibration(tmp_path / "c.png", LEVELS, {name: LEVELS}, {name: np.full(10, 0.1)})
    assert {path.name for path in tmp_path.iterdir()} == {"p.png", "l.png", "c.png"}
