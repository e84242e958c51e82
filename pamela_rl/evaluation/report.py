"""The report: one self-contained HTML page, and the same results as JSON and PNG."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pamela_rl.diffusion.content_filters import FLAGGED
from pamela_rl.evaluation.compare import OWN, UserComparison
from pamela_rl.evaluation.report_grids import arms_grid, exemplars_html, side_by_side
from pamela_rl.evaluation.report_plots import draw_plots
from pamela_rl.evaluation.report_strengths import strengths_html
from pamela_rl.evaluation.report_tables import (
    arms_table_html,
    matrix_html,
    pairs_table_html,
    phrase_effects_html,
    prompts_html,
)
from pamela_rl.evaluation.svg_charts import line_chart
from pamela_rl.evaluation.verdict import (
    best_iteration_by_judge,
    blind_test_command,
    flagged_note,
    interval_meaning,
    overall_verdict,
    overtraining_verdict,
    score_name,
    self_judging_note,
    steered_arm,
    verdict,
)
from pamela_rl.storage import write_text

_STYLE = Path(__file__).with_name("report.css")
_TRAINING_SCORES = {
    "reward": "rollout/reward_mean",
    "judge": "rollout/judge_mean",
    "true rating": "rollout/true_rating_mean",
}
_VALIDATION_SCORES = {"reward": "eval/reward_mean", "judge": "eval/judge_mean", "true rating": "eval/true_rating_mean"}
_SIDE_EFFECTS = {"faithful": "eval/faithfulness_mean", "diversity": "eval/diversity"}
_SCORE_TERMS = ("true rating", "judge", "reward", "faithful", FLAGGED)  # in the glossary only where they were scored
_GLOSSARY = {
    "true rating": "The rating this person would give, 1 to 5, without noise. Known only in the simulated world.",
    "judge": "A second reward, never trained against.",
    "reward": "The reward that was optimized.",
    "faithful": "Whether images show what the prompt names, according to a model that is not the reward: a share of images "
    "where it is in per cent, otherwise that model's own score, e.g. CLIP's, which is no share.",
    FLAGGED: "Share of images that the base model's own safety checker would have blackened; it is off.",
    "gain": "Score of an arm minus that of the base, on the same prompts and seeds.",
    "wins": "Share of pairs of the same prompt and seed in which the arm scores higher; ties count one half.",
    "diversity": "Mean difference between images of one prompt from different seeds (RMS of pixels in [0, 1]).",
    "distance from base": "Mean difference from the base's image of the same prompt and seed (RMS of pixels in [0, 1]).",
    "strength": "What an adapter's effect on each layer is multiplied by: 0 is the base model, 1 the adapter as it was trained. "
    "An adapter recommends the weakest strength whose images the judge scores within a standard error of the best.",
    "images spent": "Images drawn to prepare an arm.",
    "images per output": "Images drawn for every image returned, once the arm is prepared.",
    "KL": "KL divergence of one denoising step of the adapter from the base's, mean over latent dimensions.",
}


@dataclass(frozen=True)
class Report:
    """The contents of a report.

    Attributes:
        summary: From ``summarize``; with ``matrix``, from ``adapter_matrix``, and ``strengths``, from
            ``summarize_strengths``, where there are any.
        comparisons: The images and scores behind it.
        curves: Each user's ``metrics.jsonl``, one mapping per iteration.
        validation: Each user's ``validation.jsonl``, one mapping per validation.
        tastes: What each user likes, in words that follow "This person".
        prompts: For each user, request to the prompt that prompt search found.
        phrase_effects: For each user, the effects of phrases on the predicted rating, most liked first.
        exemplars: For each user, the images liked most and least relative to the average user, ``(n, 3, h, w)`` each.
        context: What is needed to reproduce it, e.g. command, versions, seed.
    """

    summary: Mapping[str, Any]
    comparisons: Sequence[UserComparison]
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    validation: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    tastes: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    phrase_effects: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    exemplars: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)


def write_report(folder: Path, report: Report) -> Path:
    """Write ``report.html``, ``comparison.json`` and ``figures/*.png``, and return the page's path."""
    summary = report.summary
    facts = {**summary, "validation": {user: list(rows) for user, rows in report.validation.items() if rows}}
    facts |= {"prompts": report.prompts} if report.prompts else {}
    write_text(folder / "comparison.json", json.dumps({**facts, "context": dict(report.context)}, indent=1) + "\n")
    draw_plots(folder / "figures", summary, report.validation)
    user_sections = "".join(_user_section(comparison, report) for comparison in report.comparisons)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>pamela_rl: comparison</title><style>{_STYLE.read_text(encoding="utf-8")}</style></head><body><main>
<h1>Comparison of steering methods</h1>
<p class="lead">Every arm draws the same prompts from the same noise as the base model.</p>
<p class="lead verdict">{html.escape(overall_verdict(summary))}</p>
{_self_judging(summary, folder)}
{_flagged(summary)}
{side_by_side(report.comparisons, report.tastes)}
{_all_users(summary)}
{_strengths_of_all(summary)}
{_pairs(summary)}
{_matrix(summary)}
{user_sections}
{_footer(report.context, summary)}
</main></body></html>
"""
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _self_judging(summary: Mapping[str, Any], folder: Path) -> str:
    note = self_judging_note(summary)
    if note is None:
        return ""
    return f'<p class="lead">{html.escape(note)} <code>{html.escape(blind_test_command(folder))}</code></p>'


def _flagged(summary: Mapping[str, Any]) -> str:
    note = flagged_note(summary)
    return "" if note is None else f"<p>{html.escape(note)}</p>"


def _all_users(summary: Mapping[str, Any]) -> str:
    if len(summary["users"]) == 1:
        return ""  # the user's own table says it
    table = arms_table_html(summary["overall"], summary["primary_score"], summary["units"])
    return f"<h2>All users</h2>{table}"


def _strengths_of_all(summary: Mapping[str, Any]) -> str:
    if len(summary["users"]) == 1:
        return ""
    charts = strengths_html(summary)
    return f"<h2>Strength of own adapters</h2>{charts}" if charts else ""


def _pairs(summary: Mapping[str, Any]) -> str:
    if not summary["pairs"]:
        return ""
    return f"<h2>Paired comparisons</h2>{pairs_table_html(summary['pairs'], summary['primary_score'])}"


def _matrix(summary: Mapping[str, Any]) -> str:
    if "matrix" not in summary:
        return ""
    name = html.escape(score_name(summary["primary_score"]))
    return (
        f"<h2>Users by adapters</h2><p>Gain in {name} over the base, scored as the user of the row, with the adapter of the "
        f"column. If adapters are personal, the diagonal is the highest of its row.</p>{matrix_html(summary['matrix'])}"
    )


def _user_section(comparison: UserComparison, report: Report) -> str:
    summary, user = report.summary, comparison.user_id
    rows, primary_score = summary["users"][user], summary["primary_score"]
    taste, validation = report.tastes.get(user, ""), report.validation.get(user, ())
    lines = [f"<p>This person {html.escape(taste)}.</p>"] if taste else []
    arm = steered_arm(rows)
    if arm is not None and len(summary["users"]) > 1:
        lines.append(f'<p class="verdict">{html.escape(verdict(rows[arm], primary_score, user, arm))}</p>')
    drift = overtraining_verdict(validation) if OWN in rows else None
    lines += [f"<p>{html.escape(drift)}</p>"] if drift else []
    prompts = report.prompts.get(user, {})
    return (
        f"<section><h2>{html.escape(user)}</h2>{''.join(lines)}{arms_grid(comparison)}"
        f"{_charts(validation, report.curves.get(user, ()))}{arms_table_html(rows, primary_score, summary['units'])}"
        f"{strengths_html(summary, user)}"
        f"{_taste_details(report, user)}{prompts_html(prompts) if prompts else ''}</section>"
    )


def _taste_details(report: Report, user: str) -> str:
    """Build the collapsible section on a user's taste: phrase effects, and images liked most and least."""
    phrase_effects, exemplars = report.phrase_effects.get(user, ()), report.exemplars.get(user)
    if not phrase_effects and exemplars is None:
        return ""
    exemplar_images = "" if exemplars is None else exemplars_html(*exemplars)
    effects_table = phrase_effects_html(phrase_effects) if phrase_effects else ""
    return f"<details><summary>Predicted taste of this user</summary>{exemplar_images}{effects_table}</details>"


def _charts(validation: Sequence[Mapping[str, Any]], curve: Sequence[Mapping[str, Any]]) -> str:
    """Build the over-optimization curves if there are validations, else the training curves."""
    if len(validation) > 1:
        iterations = [row["iteration"] for row in validation]
        by_distance = sorted(validation, key=lambda row: float(row["eval/kl_to_reference"]))
        distances = [row["eval/kl_to_reference"] for row in by_distance]
        best = best_iteration_by_judge(validation)
        mark_by_distance = None if best is None else distances[[row["iteration"] for row in by_distance].index(best)]
        charts = [
            line_chart(
                "Scores over iterations", _columns(validation, _VALIDATION_SCORES), "iterations", iterations, best
            ),
            line_chart(
                "Scores over KL to the base",
                _columns(by_distance, _VALIDATION_SCORES),
                "KL",
                distances,
                mark_by_distance,
            ),
            line_chart("Side effects", _columns(validation, _SIDE_EFFECTS), "iterations", iterations, best),
        ]
    elif len(curve) > 1:
        drift = {"KL to the base": "train/kl_to_reference"}
        iterations = [row["iteration"] + 1 for row in curve]
        charts = [
            line_chart("Scores while training", _columns(curve, _TRAINING_SCORES), "iteration", iterations),
            line_chart("Distance from the base", _columns(curve, drift), "iteration", iterations),
        ]
    else:
        return ""
    return f'<div class="charts">{"".join(f"<figure>{chart}</figure>" for chart in charts if chart)}</div>'


def _columns(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, list[float | None]]:
    return {name: [row.get(key) for row in rows] for name, key in names.items() if any(key in row for row in rows)}


def _footer(context: Mapping[str, str], summary: Mapping[str, Any]) -> str:
    facts = "".join(f"<dt>{html.escape(k)}</dt><dd><code>{html.escape(v)}</code></dd>" for k, v in context.items())
    shown = {score_name(name) for name in summary["units"]}
    terms = {name: text for name, text in _GLOSSARY.items() if name not in _SCORE_TERMS or name in shown}
    if "strengths" not in summary:
        del terms["strength"]
    if summary["judge_basis"]:
        terms["judge"] = f"A second reward, never trained against, fitted on {summary['judge_basis']}."
    terms["[low, high]"] = interval_meaning(len(summary["users"]))
    glossary = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in terms.items())
    return f"<footer><details open><summary>Glossary</summary><dl>{glossary}</dl></details><dl>{facts}</dl></footer>"
