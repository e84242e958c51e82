"""The figures of a comparison of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pamela_rl.agreement.calibration import coverage, pit_histogram
from pamela_rl.agreement.compare_models import MAIN, Results
from pamela_rl.agreement.figures import calibration_plot, learning_curve, predicted_against_given
from pamela_rl.agreement.measure import predictions
from pamela_rl.agreement.per_person import Agreement
from pamela_rl.agreement.study import Study
from pamela_rl.agreement.taste_map import map_of_tastes
from pamela_rl.rewards.preference import PreferenceModel
from pamela_rl.rewards.taste.taste_basis import TasteBasis

LEVELS = np.linspace(0.1, 0.95, 18)
SHOWN = ("taste_basis", "transformer", "population_regression")  # the others would hide these


def draw_results(
    study: Study, models: Mapping[str, PreferenceModel], results: Results, ceilings: Sequence[Agreement], folder: Path,
    open_picture: Callable[[int], Image.Image],
) -> list[Path]:  # fmt: skip
    """Draw what there is to draw, and return the PNGs.

    Args:
        study: What was measured on.
        models: Fitted.
        results: Of ``compare_models``.
        ceilings: What no model can beat.
        folder: For the figures.
        open_picture: Opens the picture of a row of the study's pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    held = study.held.get("test_seen")
    shown = {name: models[name] for name in SHOWN if name in models}
    if held is not None and shown:
        mean = {name: predictions(model, held) for name, model in shown.items()}
        given, scale = held.ratings.numpy(), study.data.scale
        main = MAIN if MAIN in shown else next(iter(shown))
        drawn.append(folder / "predicted_against_given.png")
        predicted_against_given(drawn[-1], main, mean[main][0], given, held.user_ids, scale)
        drawn.append(folder / "calibration.png")
        covered = {name: coverage(*pair, given, scale, LEVELS).mean(axis=0) for name, pair in mean.items()}
        places = {main: pit_histogram(*mean[main], given, scale)}
        calibration_plot(drawn[-1], LEVELS, covered, places)
    curves = {name: curve for name, curve in results.curves.items() if len(curve) > 1}
    if curves:
        counts = sorted({count for curve in curves.values() for count in curve})
        ceiling = next((row.srocc[0] for row in ceilings if "unseen" in row.name), None)
        drawn.append(folder / "learning_curve.png")
        learning_curve(
            drawn[-1], counts, {name: [curve[k].srocc for k in counts] for name, curve in curves.items()}, ceiling
        )
    basis = models.get(MAIN)
    if isinstance(basis, TasteBasis) and len(basis.user_ids) > 3 and len(study.tested) > 3:
        drawn.append(folder / "tastes.png")
        predicted = basis.scores(study.data.pictures[study.tested]).detach().double().numpy().T
        kindness = predicted.mean(axis=1)
        map_of_tastes(
            drawn[-1],
            predicted,
            lambda place: open_picture(int(study.tested[place])),
            kindness,
            "mean predicted rating",
        )
    return drawn
