"""Personal rewards fitted to a study, measured against what else could be done with its ratings, and saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from pamela_rl.agreement.advice import MAX_USERS, advice
from pamela_rl.agreement.compare_models import Results, compare_models
from pamela_rl.agreement.cross_validation import cross_validate
from pamela_rl.agreement.per_user import LEGEND, format_table
from pamela_rl.agreement.preparation import PreparedStudy, prepare_study
from pamela_rl.agreement.result_figures import draw_results
from pamela_rl.data.settings import SourceSettings
from pamela_rl.rewards.models import MODELS, check_encoder
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.preference import PreferenceModel
from pamela_rl.rewards.saved import JUDGE, REWARDS
from pamela_rl.rewards.settings import DEFAULT_ENCODER, DEFAULT_MODELS, JUDGE_ENCODER, MAIN_MODEL
from pamela_rl.storage import ensure_writable, write_text

LEARN_FROM_CHOICES = (MAIN_MODEL, "ridge_per_user")


def fit_reward(
    path: str | Path,
    folder: Path,
    encoder: str = DEFAULT_ENCODER,
    model: str = MAIN_MODEL,
    seed: int = 0,
    judge_encoder: str | None = JUDGE_ENCODER,
    **source: Any,
) -> PersonalReward:
    """Fit one personal reward to ratings, print how well it agrees with its users, and save it with its judge.

    Args:
        path: Images with a table of ratings, in any of the forms that ``SourceSettings`` names.
        folder: Gets ``rewards/<model>/``, ``judge/``, ``agreement.json``, ``figures/`` and ``features/``.
        encoder: As ``open_encoder`` takes it.
        model: From ``MODEL_NAMES``.
        seed: Of splits and fit.
        judge_encoder: Of the judge; None fits none.
        source: Further fields of ``SourceSettings``, e.g. ``images`` or ``scale``.

    Raises:
        DataError: A file cannot be read, or a row is wrong.
        ConfigError: There is no such model, or the encoder cannot be loaded.
    """
    settings = SourceSettings(path=str(path), **source)
    prepared = prepare_study(settings, encoder, folder / "features", seed, judge_encoder=judge_encoder)
    return fit_rewards(prepared, [model], folder, seed=seed)[model]


def fit_rewards(
    prepared: PreparedStudy,
    models: Sequence[str] = DEFAULT_MODELS,
    folder: Path = Path("outputs/my-reward"),
    num_support_ratings: int = 10,
    curve: Sequence[int] = (0, 2, 5, 10, 20),
    seed: int = 0,
) -> dict[str, PersonalReward]:
    """Measure models on images, and people, that they are not shown; then fit them to everything and save them.

    Args:
        prepared: Ratings, encoded.
        models: Names, from ``MODEL_NAMES``; without ratings, from choices alone, those that learn from choices.
        folder: Gets ``rewards/<model>/``, ``judge/`` if there is data for one, ``agreement.json`` and ``figures/``.
        num_support_ratings: Of newcomers, before they are measured.
        curve: Numbers of support ratings of the learning curve.
        seed: Of the fits.

    Returns:
        The rewards by model, as ``PersonalReward.load`` loads them from ``rewards/<model>/``; they know everybody.

    Raises:
        ConfigError: There is no model of a name, it needs another encoder, or ``folder`` cannot be written to.
    """
    ensure_writable(folder)
    check_encoder(models, prepared.encoder)
    study, ceilings = prepared.study, prepared.ceilings
    names = [name for name in models if len(study.everything.train) or name in LEARN_FROM_CHOICES] or [MAIN_MODEL]
    print(f"Measuring {', '.join(names)} on what they are not shown ...")
    if study.held_out or study.choices is not None:
        _, results = compare_models(study, names, num_support_ratings, curve, seed)
    else:
        results = cross_validate(study, names, seed)
    print(f"\n{LEGEND}\n\n{results.to_text()}")
    if ceilings:
        print(f"\nwhat no model can beat but by luck\n{format_table(ceilings)}")
    words = advice(results)
    print("\n" + "\n".join(fill(line, 120) for line in words))
    kept = {name: MODELS[name](study.everything, seed) for name in names}
    rewards = _save(prepared, kept, folder, seed)
    facts = {
        "encoder": prepared.encoder.name,
        "fingerprint": prepared.encoder.fingerprint,
        "in_words": words,
        "ceilings": [row.to_json() for row in ceilings],
        **results.to_json(),
    }
    write_text(folder / "agreement.json", json.dumps(facts, indent=1, allow_nan=False) + "\n")
    figures = draw_results(study, kept, results, ceilings, folder / "figures", prepared.open_image)
    print(f"\n{_what_is_where(prepared, results, len(figures), folder)}")
    return rewards


def _save(
    prepared: PreparedStudy, models: dict[str, PreferenceModel], folder: Path, seed: int
) -> dict[str, PersonalReward]:
    fitted_on = prepared.study.fitted_on_everything
    rewards = {name: PersonalReward(prepared.encoder, model, fitted_on) for name, model in models.items()}
    for name, reward in rewards.items():
        reward.save(folder / REWARDS / name)
    if prepared.judge is None:
        shutil.rmtree(folder / JUDGE, ignore_errors=True)  # of an earlier run, for another reward
    else:
        model = MODELS[MAIN_MODEL](prepared.judge.data, seed + 1)
        PersonalReward(prepared.judge.encoder, model, prepared.judge.fitted_on).save(folder / JUDGE)
    return rewards


def _what_is_where(prepared: PreparedStudy, results: Results, num_figures: int, folder: Path) -> str:
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in results.seconds.items())
    users = prepared.study.everything.user_ids
    known = ", ".join(users) if len(users) <= MAX_USERS else f"all {len(users):,} people who rated"
    text = f"Fitted to all answers, of {known}; a fit took {took}.\nRewards, agreement.json and {num_figures} figures are in {folder}"
    judge = prepared.judge
    if judge is None:
        return text + "."
    seen = "images that the reward was not shown" if judge.alone else "the same answers"
    return f"{text}.\nThe judge, a second reward of {seen} through another encoder ({judge.encoder.name}), is there too; training only watches it."
