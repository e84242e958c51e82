"""Figures of a comparison of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pamela_rl.agreement.calibration import coverage, pit_histogram
from pamela_rl.agreement.compare_models import Results
from pamela_rl.agreement.figures import plot_calibration, plot_learning_curve, plot_predicted_vs_actual
from pamela_rl.agreement.per_user import Agreement
from pamela_rl.agreement.study import Study
from pamela_rl.agreement.taste_map import differ, plot_taste_map
from pamela_rl.rewards.preference import PreferenceModel
from pamela_rl.rewards.settings import MAIN_MODEL
from pamela_rl.rewards.taste.taste_basis import TasteBasis

LEVELS = np.linspace(0.1, 0.95, 18)
DRAWN_MODELS = (MAIN_MODEL, "transformer", "population_regression")  # more curves would overlap


def draw_results(
    study: Study, models: Mapping[str, PreferenceModel], results: Results, ceilings: Sequence[Agreement], folder: Path,
    open_image: Callable[[int], Image.Image],
) -> list[Path]:  # fmt: skip
    """Draw the figures for which there is data, and return the PNG files.

    Args:
        study: The ratings.
        models: The models that are kept.
        results: The result of ``compare_models``.
        ceilings: Noise ceilings.
        folder: For the figures.
        open_image: Opens the picture of a row of the study's pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    held_out = results.held_out
    mean = {name: results.predicted[name] for name in DRAWN_MODELS if name in results.predicted}
    if held_out is not None and mean:
        actual, scale = held_out.ratings.numpy(), study.everything.scale
        main = MAIN_MODEL if MAIN_MODEL in mean else next(iter(mean))
        drawn.append(folder / "predicted_vs_actual.png")
        plot_predicted_vs_actual(drawn[-1], main, mean[main][0], actual, held_out.user_ids, scale)
        drawn.append(folder / "calibration.png")
        covered = {name: coverage(*pair, actual, scale, LEVELS).mean(axis=0) for name, pair in mean.items()}
        histograms = {main: pit_histogram(*mean[main], actual, scale)}
        plot_calibration(drawn[-1], LEVELS, covered, histograms)
    curves = {name: curve for name, curve in results.curves.items() if len(curve) > 1}
    if curves:
        counts = sorted({count for curve in curves.values() for count in curve})
        ceiling = next((row.srocc[0] for row in ceilings if "unseen" in row.name), None)
        drawn.append(folder / "learning_curve.png")
        plot_learning_curve(
            drawn[-1], counts, {name: [curve[k].srocc for k in counts] for name, curve in curves.items()}, ceiling
        )
    basis, rows = models.get(MAIN_MODEL), study.test_image_rows
    if isinstance(basis, TasteBasis) and len(basis.user_ids) > 3 and len(rows) > 3:
        predicted = basis.predict_all_users(study.everything.images[rows]).detach().double().numpy().T
        if differ(predicted):
            drawn.append(folder / "tastes.png")
            plot_taste_map(
                drawn[-1], predicted, lambda place: open_image(int(rows[place])), predicted.mean(axis=1),
                "mean predicted rating",
            )  # fmt: skip
    return drawn
