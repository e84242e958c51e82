"""The whole comparison: every arm of every user on the same held-out prompts and noise, in one report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from pamela_rl.diffusion.saved_adapters import images_spent
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.arms import ArmMaker
from pamela_rl.evaluation.compare import (
    BASE,
    OWN,
    UserComparison,
    adapter_matrix,
    choose_primary_score,
    compare_user,
    summarize,
)
from pamela_rl.evaluation.gallery import save_gallery
from pamela_rl.evaluation.report import Report, write_report
from pamela_rl.evaluation.settings import DrawingSettings
from pamela_rl.evaluation.source import Source
from pamela_rl.evaluation.strengths import (
    UserStrengths,
    recommended_strengths,
    score_strengths,
    strengths_to_draw,
    summarize_strengths,
)
from pamela_rl.evaluation.text_tables import arms_table, strengths_table, summary_table
from pamela_rl.evaluation.verdict import (
    blind_test_command,
    flagged_note,
    interval_meaning,
    overall_verdict,
    self_judging_note,
)
from pamela_rl.steering.chat import ChatModel
from pamela_rl.steering.settings import NoiseSearchSettings, PromptSearchSettings
from pamela_rl.storage import folder_name, read_metrics

DEFAULT_BUDGET = 1000  # images, where the adapters do not say what they took


def compare_arms(
    source: Source,
    folder: Path,
    arms: Sequence[str] = (),
    *,
    seeds_per_prompt: int = 2,
    images_budget: int | None = None,
    reference_images: int = 192,
    drawing: DrawingSettings | None = None,
    search: PromptSearchSettings | None = None,
    noise: NoiseSearchSettings | None = None,
    rewriter: Path | None = None,
    further_runs: Mapping[str, Path] | None = None,
    strengths: Sequence[float] = (),
    chat: ChatModel | None = None,
    context: Mapping[str, str] | None = None,
) -> Path:
    """Draw, score and compare all arms of all users, write the report, print its tables.

    What was drawn before is taken from ``folder``, so a comparison that was cut off goes on.

    Args:
        source: Pipeline, adapters, rewards, prompts.
        folder: Gets ``report.html``, ``comparison.json``, ``figures/``, ``pictures/``, and what is kept between runs.
        arms: Names of those to compare; none means all that can be made.
        seeds_per_prompt: Images of each prompt and arm.
        images_budget: Images an arm may spend on a user; None is what training the adapters took on average.
        reference_images: Images of the base model from which tastes are put into words.
        drawing: How images are drawn; what it leaves open is as the adapters were trained.
        search: Of prompts.
        noise: Of initial noise.
        rewriter: Folder of a trained rewriter, or None.
        further_runs: Name of a further arm to the run its adapters are from.
        strengths: At which own adapters are drawn besides 0 and 1, the base and the own arm; none draws none.
        chat: A chat language model that proposes prompts too, or None.
        context: What is needed to reproduce it, e.g. command and versions; the seconds it took are added.

    Returns:
        The report's path.

    Raises:
        ConfigError: An arm is not known or cannot be made.
    """
    started = time.monotonic()
    budget = images_budget or _mean_images_spent(source)
    searched = replace(search or PromptSearchSettings(), max_images=max(1, budget // len(source.prompts)))
    maker = ArmMaker(
        source, folder, drawing or DrawingSettings(), budget, searched, noise or NoiseSearchSettings(), rewriter,
        further_runs or {}, chat,
    )  # fmt: skip
    names = _checked(arms, maker)
    maker.describe(reference_images)
    further = strengths_to_draw(strengths) if OWN in names else []
    comparisons, at_strengths = _drawn(source, maker, names, seeds_per_prompt, further)
    summary = summarize(comparisons)
    if at_strengths:
        summary["strengths"] = summarize_strengths(at_strengths, recommended_strengths(source.run, source.users))
    if len(source.users) > 1 and OWN in names:
        summary["matrix"] = adapter_matrix(comparisons, source.scorers[choose_primary_score(comparisons[0])])
    summary["tastes"] = {user: taste.to_json() for user, taste in maker.tastes.items()}
    save_gallery(folder, comparisons)
    seconds = {"seconds": f"{time.monotonic() - started:.0f}"}
    page = write_report(folder, _report(source, maker, summary, comparisons, {**(context or {}), **seconds}))
    _print(source, folder, summary)
    print(f"\nThe report: {page}")
    return page


def _drawn(
    source: Source, maker: ArmMaker, names: Sequence[str], seeds_per_prompt: int, strengths: Sequence[float]
) -> tuple[list[UserComparison], list[UserStrengths]]:
    """Draw and score every user's arms, and their own adapter at the strengths where there are any."""
    comparisons, at_strengths = [], []
    for user in tqdm(source.users, unit="person"):
        arms = maker.make(names, user, len(source.prompts) * seeds_per_prompt)
        comparisons.append(compare_user(user, arms, source.prompts, seeds_per_prompt, source.scorers))
        if strengths:
            drawn = maker.at_strengths(user, strengths)
            at_strengths.append(score_strengths(comparisons[-1], drawn, source.scorers))
    return comparisons, at_strengths


def _print(source: Source, folder: Path, summary: Mapping[str, Any]) -> None:
    """Print the tables, what was bought, and the verdict."""
    if OWN in summary["overall"]:
        print(f"\n{summary_table(summary)}")
    print(f"\n{arms_table(summary)}\n[low, high]: {interval_meaning(len(summary['users']))}")
    if "strengths" in summary:
        print(f"\n{strengths_table(summary)}")
    if source.remote is not None:
        spent = source.remote.spent
        print(f"\nBought so far: {spent.images:,} pictures, at a cost of {spent.cost:.2f}.")
    flagged = flagged_note(summary)
    print(f"\n{overall_verdict(summary)}" + (f"\n{flagged}" if flagged else ""))
    note = self_judging_note(summary)
    if note is not None:
        print(f"{note}\n{blind_test_command(folder)}")


def _checked(arms: Sequence[str], maker: ArmMaker) -> list[str]:
    """Return the names of the arms to compare, the base first."""
    available = maker.available()
    unknown = [name for name in arms if name not in available]
    if unknown:
        raise ConfigError(f"the arms {', '.join(unknown)} cannot be made here; use any of {', '.join(available)}.")
    return list(dict.fromkeys([BASE, *(arms or available)]))


def _mean_images_spent(source: Source) -> int:
    spent = [images_spent(source.run, user) for user in source.users] if source.adapted else [0]
    return sum(spent) // len(spent) or DEFAULT_BUDGET


def _report(
    source: Source,
    maker: ArmMaker,
    summary: Mapping[str, Any],
    comparisons: Sequence[UserComparison],
    context: Mapping[str, str],
) -> Report:
    return Report(
        summary,
        comparisons,
        curves=_records(source, "metrics.jsonl"),
        validation=_records(source, "validation.jsonl"),
        tastes={user: taste.sentence() for user, taste in maker.tastes.items()},
        prompts={user: {r: s.prompt for r, s in found.items()} for user, found in maker.searches.items()},
        phrase_effects={user: taste.to_json()["effects"] for user, taste in maker.tastes.items()},
        exemplars=maker.exemplars,
        context=context,
    )


def _records(source: Source, name: str) -> dict[str, list[dict[str, Any]]]:
    """Read a file of every user's run."""
    return {user: read_metrics(source.run / "users" / folder_name(user) / name) for user in source.users}
