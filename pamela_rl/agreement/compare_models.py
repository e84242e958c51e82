"""Every model fitted to the same ratings of the same features, measured on the same held-out ratings: one table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pamela_rl.agreement.measure import controls, learning_curve, personal_agreement, population
from pamela_rl.agreement.measures import Score, bootstrap_mean
from pamela_rl.agreement.per_person import Agreement, format_table
from pamela_rl.agreement.per_picture import PopulationAgreement, format_population_table
from pamela_rl.agreement.study import HeldChoices, Study, knowing, people_in
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.models import MODELS
from pamela_rl.rewards.preference import PreferenceModel

MAIN = "taste_basis"  # the model whose controls are shown
TITLES = {
    "val_seen": "known people, pictures chosen by",
    "test_seen": "known people, new pictures",
    "val_unseen": "new people, new pictures",
    "test_unseen": "new people, new pictures",
}


@dataclass(frozen=True)
class Results:
    """What came out.

    Attributes:
        agreements: By split, one row a model, and the controls of the main one.
        population: By split, what each model says of people on average.
        curves: Of newcomers, by model and number of ratings shown.
        choices: Share of held-out choices that each model would have made, ties counting one half; empty without any.
        seconds: That each fit took.
        shown: Ratings that newcomers gave before they were measured.
    """

    agreements: Mapping[str, Sequence[Agreement]]
    population: Mapping[str, Sequence[PopulationAgreement]]
    curves: Mapping[str, Mapping[int, Agreement]]
    choices: Mapping[str, Score]
    seconds: Mapping[str, float]
    shown: int

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {
            "ratings_shown": self.shown,
            "people": {split: [row.to_json() for row in rows] for split, rows in self.agreements.items()},
            "population": {split: [row.to_json() for row in rows] for split, rows in self.population.items()},
            "learning_curves": {
                name: {str(count): row.to_json() for count, row in curve.items()} for name, curve in self.curves.items()
            },
            "choices": {name: list(score) for name, score in self.choices.items()},
            "fit_seconds": dict(self.seconds),
        }

    def to_text(self) -> str:
        """Lay everything out for a terminal."""
        parts = []
        for split, rows in self.agreements.items():
            if split.startswith("val") and "test" + split[3:] in self.agreements:
                continue  # these were chosen by; they stand in the JSON
            shown = f", {self.shown} ratings shown" if split.endswith("unseen") else ""
            parts.append(f"{TITLES[split]}{shown} ({split}); means over people\n{format_table(rows)}")
        for split, means in self.population.items():
            if split.startswith("val") and "test" + split[3:] in self.population:
                continue
            parts.append(f"people on average ({split}); over pictures\n{format_population_table(means)}")
        if self.choices:
            lines = (f"{name:26}  {m:.3f} [{low:.3f}, {high:.3f}]" for name, (m, low, high) in self.choices.items())
            parts.append("choices of known people between new pictures, share predicted\n" + "\n".join(lines))
        return "\n\n".join(parts)


def compare_models(
    study: Study, names: Sequence[str], shown: int = 10, counts: Sequence[int] = (0, 5, 10, 20), seed: int = 0
) -> tuple[dict[str, PreferenceModel], Results]:
    """Fit and measure.

    Newcomers of one unseen split are introduced by their ratings of the other's pictures.

    Args:
        study: What to fit to and to measure on.
        names: Models, from ``MODELS``.
        shown: Ratings of each newcomer that are shown before measuring.
        counts: Numbers of ratings shown for the learning curve.
        seed: Of every fit.

    Raises:
        ConfigError: There is no model of a name.
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
    for split, held in study.held.items():
        told = {name: knowing(study, model, split, shown) for name, model in models.items()}
        agreements[split] = list(_rows(study, told, split))
        measured = [population(name, model, held) for name, model in told.items()]
        if any(row.num_images > 2 for row in measured):
            means[split] = measured
    curves = {name: _curve(study, name, model, counts) for name, model in models.items() if "test_unseen" in study.held}
    chosen = {} if study.choices is None else {n: choice_accuracy(m, study.choices) for n, m in models.items()}
    return models, Results(agreements, means, curves, chosen, seconds, shown)


def _rows(study: Study, models: Mapping[str, PreferenceModel], split: str) -> Iterator[Agreement]:
    held, scale = study.held[split], study.data.scale
    for name, model in models.items():
        yield personal_agreement(name, model, held, scale)
    if MAIN in models:
        yield from controls(models[MAIN], held, scale)


def _curve(study: Study, name: str, model: PreferenceModel, counts: Sequence[int]) -> dict[int, Agreement]:
    shown, held = study.held.get("val_unseen"), study.held["test_unseen"]
    most = 0 if shown is None else max(len(shown.of(user)) for user in people_in(held))
    reachable = [count for count in counts if count <= most]
    return learning_curve(name, model, shown or held, held, reachable, study.data.reported, study.data.scale)


@torch.no_grad()
def choice_accuracy(model: PreferenceModel, held: HeldChoices, seed: int = 0) -> Score:
    """Return the share of each person's choices that the model would have made, mean over people with its interval.

    Choices that were ties are left out; a model that cannot tell two pictures apart counts one half.
    """
    names = [str(user) for user in held.user_ids]
    difference = model.predict(held.first, names).mean - model.predict(held.second, names).mean
    right = 0.5 + 0.5 * torch.sign(difference.double()) * torch.sign(held.outcomes - 0.5)
    decided = (held.outcomes != 0.5).numpy()
    shares = [
        right.numpy()[decided & (held.user_ids == user)].mean()
        for user in np.unique(held.user_ids)
        if (decided & (held.user_ids == user)).any()
    ]
    return bootstrap_mean(np.array(shares), seed)
