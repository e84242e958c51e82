"""Comparison of preference models: fitted to the same ratings, measured on the same held-out ratings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pamela_rl.agreement.measure import (
    UserRatings,
    controls,
    learning_curve,
    personal_agreement,
    population,
    predictions,
)
from pamela_rl.agreement.measures import Array, Score, bootstrap, mean_with_interval, rows_by_group
from pamela_rl.agreement.per_image import PopulationAgreement, format_population_table
from pamela_rl.agreement.per_user import Agreement, format_table
from pamela_rl.agreement.study import HeldOutChoices, Study, users_in, with_newcomers
from pamela_rl.agreement.tables import without_nan
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.models import MODELS
from pamela_rl.rewards.preference import PreferenceModel
from pamela_rl.rewards.settings import MAIN_MODEL

TITLES = {
    "cross_validated": "images left out in turn, with those nearly like them",
    "val_seen": "known people, validation pictures",
    "test_seen": "known people, new pictures",
    "val_unseen": "new people, new pictures",
    "test_unseen": "new people, new pictures",
}


@dataclass(frozen=True)
class Results:
    """Results of a comparison.

    Attributes:
        agreements: By split, one row per model, and the controls of the main model.
        population: By split, agreement of each model with the mean rating of pictures.
        curves: Agreement with newcomers, by model and number of support ratings.
        choices: Accuracy of each model on held-out choices; empty without choices.
        seconds: Duration of each fit.
        num_support_ratings: Ratings of each newcomer that the models were given before they were measured.
        predicted: Expected ratings and their spread of each model for ``held_out``, ``(n,)`` each.
        held_out: Ratings of known users and images that the models did not see, or None.
        half: The main model's rank correlation, or its share of choices foretold, had it learned from half the answers;
            None where that was not measured.
    """

    agreements: Mapping[str, Sequence[Agreement]]
    population: Mapping[str, Sequence[PopulationAgreement]]
    curves: Mapping[str, Mapping[int, Agreement]]
    choices: Mapping[str, Score]
    seconds: Mapping[str, float]
    num_support_ratings: int
    predicted: Mapping[str, tuple[Array, Array]]
    held_out: UserRatings | None
    half: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {
            "num_support_ratings": self.num_support_ratings,
            "per_user": {split: [row.to_json() for row in rows] for split, rows in self.agreements.items()},
            "population": {split: [row.to_json() for row in rows] for split, rows in self.population.items()},
            "learning_curves": {
                name: {str(count): row.to_json() for count, row in curve.items()} for name, curve in self.curves.items()
            },
            "choices": {name: list(score) for name, score in self.choices.items()},
            "fit_seconds": dict(self.seconds),
            "half_the_answers": without_nan(self.half),
        }

    def to_text(self) -> str:
        """Return all tables as text."""
        parts = []
        for split, rows in self.agreements.items():
            if split.startswith("val") and "test" + split[3:] in self.agreements:
                continue  # used for model selection; they are in the JSON
            support = f", {self.num_support_ratings} support ratings" if split.endswith("unseen") else ""
            over = "; means over people" * any(row.num_users > 1 for row in rows)
            parts.append(f"{TITLES[split]}{support} ({split}){over}\n{_table_or_reason(rows)}")
        for split, means in self.population.items():
            if split.startswith("val") and "test" + split[3:] in self.population:
                continue
            parts.append(f"people on average ({split}); over pictures\n{format_population_table(means)}")
        if self.choices:
            lines = (f"{name:26}  {m:.3f} [{low:.3f}, {high:.3f}]" for name, (m, low, high) in self.choices.items())
            parts.append("choices of known people between new pictures, share predicted\n" + "\n".join(lines))
        return "\n\n".join(parts)


def compare_models(
    study: Study,
    names: Sequence[str],
    num_support_ratings: int = 10,
    counts: Sequence[int] = (0, 5, 10, 20),
    seed: int = 0,
) -> tuple[dict[str, PreferenceModel], Results]:
    """Fit models and measure them on the held-out splits.

    Newcomers of one unseen split are introduced by their ratings in the other unseen split.

    Args:
        study: Training and held-out data.
        names: Names of models, from ``MODELS``.
        num_support_ratings: Ratings of each newcomer that the models are given.
        counts: Numbers of support ratings for the learning curve.
        seed: Of every fit.

    Raises:
        ConfigError: A name is unknown.
    """
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise ConfigError(f"there is no model {unknown[0]!r}; models are {', '.join(MODELS)}.")
    models, seconds = {}, {}
    for name in names:
        started = time.perf_counter()
        models[name] = MODELS[name](study.data, seed)
        seconds[name] = time.perf_counter() - started
    agreements, means = {}, {}
    for split, held_out in study.held_out.items():
        introduced = {name: with_newcomers(study, model, split, num_support_ratings) for name, model in models.items()}
        agreements[split] = list(_rows(study, introduced, split))
        measured = [population(name, model, held_out) for name, model in introduced.items()]
        if any(row.num_images > 2 for row in measured):
            means[split] = measured
    curves = {
        name: _curve(study, name, model, counts) for name, model in models.items() if "test_unseen" in study.held_out
    }
    chosen = {} if study.choices is None else {n: choice_accuracy(m, study.choices) for n, m in models.items()}
    held = study.held_out.get("test_seen")
    predicted = {} if held is None else {name: predictions(model, held) for name, model in models.items()}
    return models, Results(agreements, means, curves, chosen, seconds, num_support_ratings, predicted, held)


def _rows(study: Study, models: Mapping[str, PreferenceModel], split: str) -> Iterator[Agreement]:
    held_out, scale = study.held_out[split], study.data.scale
    for name, model in models.items():
        yield personal_agreement(name, model, held_out, scale)
    if MAIN_MODEL in models:
        yield from controls(models[MAIN_MODEL], held_out, scale)


def _curve(study: Study, name: str, model: PreferenceModel, counts: Sequence[int]) -> dict[int, Agreement]:
    support, held_out = study.held_out.get("val_unseen"), study.held_out["test_unseen"]
    max_count = 0 if support is None else max(len(support.of(user)) for user in users_in(held_out))
    counts = [count for count in counts if count <= max_count]
    return learning_curve(
        name, model, support or held_out, held_out, counts, study.data.demographics_of, study.data.scale
    )


def _table_or_reason(rows: Sequence[Agreement]) -> str:
    if any(row.num_users for row in rows):
        return format_table(rows)
    return "nobody has 5 ratings here that are not all the same, so there is nothing to measure"


@torch.no_grad()
def choice_accuracy(model: PreferenceModel, held_out: HeldOutChoices) -> Score:
    """Return the share of each user's choices that the model predicts, as ``share_foretold``."""
    names = [str(user) for user in held_out.user_ids]
    lead = model.predict(held_out.first, names).mean - model.predict(held_out.second, names).mean
    return share_foretold(lead.double().numpy(), held_out.outcomes.numpy(), held_out.user_ids)


def share_foretold(lead: Array, outcomes: Array, users: NDArray[np.object_], seed: int = 0) -> Score:
    """Return the share of each user's choices that has the sign of ``lead``, as a mean over users with its interval.

    Ties are left out. A lead of 0 counts one half. Of one user alone, the interval is over choices, by bootstrap.

    Args:
        lead: By how much image a is predicted to be liked better, ``(n,)``.
        outcomes: 1 if a was chosen, 0 if b was, one half for a tie, ``(n,)``.
        users: Of each choice, ``(n,)``.
        seed: Of the bootstrap.
    """
    decided = outcomes != 0.5
    right = (0.5 + 0.5 * np.sign(lead) * np.sign(outcomes - 0.5))[decided]
    by_user = [right[rows] for rows in rows_by_group(users[decided])]
    if len(by_user) == 1:
        return bootstrap(lambda rows: float(by_user[0][rows].mean()), len(by_user[0]), seed)
    return mean_with_interval(np.array([part.mean() for part in by_user]))
