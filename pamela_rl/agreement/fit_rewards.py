"""Personal rewards fitted to a study, measured against what else could be done with its ratings, and saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pamela_rl.agreement.compare_models import MAIN_MODEL, compare_models
from pamela_rl.agreement.per_user import LEGEND, format_table
from pamela_rl.agreement.preparation import PreparedStudy, prepare_study
from pamela_rl.agreement.result_figures import draw_results
from pamela_rl.data.settings import SourceSettings
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.settings import DEFAULT_ENCODER
from pamela_rl.storage import ensure_writable, write_text


def fit_reward(
    path: str | Path,
    folder: Path,
    encoder: str = DEFAULT_ENCODER,
    model: str = MAIN_MODEL,
    seed: int = 0,
    **source: Any,
) -> PersonalReward:
    """Fit one personal reward to a table of ratings, print how well it agrees with its users, and save it.

    Args:
        path: The table, with columns ``user_id``, ``image`` and ``rating``; or as ``kind`` says.
        folder: Gets ``rewards/<model>/``, ``agreement.json``, ``figures/`` and ``features/``.
        encoder: "world", "pixels", an open_clip model name or a folder.
        model: From ``MODEL_NAMES``.
        seed: Of splits and fit.
        source: Further fields of ``SourceSettings``, e.g. ``images`` or ``scale``.

    Raises:
        DataError: A file cannot be read, or a row is wrong.
        ConfigError: There is no such model, or the encoder cannot be loaded.
    """
    settings = SourceSettings(**{"kind": "folder", "path": str(path), **source})
    prepared = prepare_study(settings, encoder, folder / "features", seed)
    return fit_rewards(prepared, [model], folder, seed=seed)[model]


def fit_rewards(
    prepared: PreparedStudy,
    models: Sequence[str],
    folder: Path,
    num_support_ratings: int = 10,
    curve: Sequence[int] = (0, 2, 5, 10, 20),
    seed: int = 0,
) -> dict[str, PersonalReward]:
    """Fit models to a study, print how well they agree with its users, and write everything to ``folder``.

    Args:
        prepared: Ratings, split and encoded.
        models: Names, from ``MODEL_NAMES``; without ratings, from choices alone, only the main one is fitted.
        folder: Gets ``rewards/<model>/``, ``agreement.json`` and ``figures/``.
        num_support_ratings: Of newcomers, before they are measured.
        curve: Numbers of support ratings of the learning curve.
        seed: Of the fits.

    Returns:
        The rewards by model, as ``PersonalReward.load`` loads them from ``rewards/<model>/``.

    Raises:
        ConfigError: There is no model of a name, or ``folder`` cannot be written to.
    """
    ensure_writable(folder)
    study, ceilings = prepared.study, prepared.ceilings
    names = models if len(study.data.train) else [MAIN_MODEL]
    print(f"Fitting {', '.join(names)} ...")
    fitted, results = compare_models(study, names, num_support_ratings, curve, seed)
    print(f"\n{LEGEND}\n\n{results.to_text()}")
    if ceilings:
        print(f"\nwhat no model can beat but by luck\n{format_table(ceilings)}")
    rewards = {name: PersonalReward(prepared.encoder, model, study.fitted_on) for name, model in fitted.items()}
    for name, reward in rewards.items():
        reward.save(folder / "rewards" / name)
    facts = {
        "encoder": prepared.encoder.fingerprint,
        "ceilings": [row.to_json() for row in ceilings],
        **results.to_json(),
    }
    write_text(folder / "agreement.json", json.dumps(facts, indent=1, allow_nan=False) + "\n")
    figures = draw_results(study, fitted, results, ceilings, folder / "figures", prepared.open_image)
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in results.seconds.items())
    print(f"\nFitted in: {took}.\nRewards, agreement.json and {len(figures)} figures are in {folder}.")
    return rewards
