"""The report: one page that opens from disk with nothing fetched, and the same figures as JSON and PNG."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pamela_rl.evaluation.compare import OWN, UserComparison
from pamela_rl.evaluation.figures import line_chart
from pamela_rl.evaluation.page_grids import arms_grid, exemplars_html, side_by_side
from pamela_rl.evaluation.page_tables import (
    arms_table_html,
    likings_html,
    matrix_html,
    pairs_table_html,
    prompts_html,
)
from pamela_rl.evaluation.plots import draw_plots
from pamela_rl.evaluation.verdict import (
    drift_verdict,
    judges_choice,
    overall_verdict,
    score_name,
    steered_arm,
    verdict,
)
from pamela_rl.storage import write_text

_STYLE = Path(__file__).with_name("report.css")
_TRAINING = {"reward": "rollout/reward_mean", "judge": "rollout/judge_mean", "true rating": "rollout/true_rating_mean"}
_SCORES_SHOWN = {"reward": "eval/reward_mean", "judge": "eval/judge_mean", "true rating": "eval/true_rating_mean"}
_PRICE = {"faithful": "eval/faithfulness_mean", "diversity": "eval/diversity"}
_GLOSSARY = {
    "true rating": "What this person would rate, 1 to 5, free of noise. Known only in the simulated world.",
    "judge": "A second reward fitted on other people's ratings of other pictures; never trained against.",
    "reward": "The reward that was steered by.",
    "faithful": "Share of pictures that show everything the prompt names, told by a classifier apart from the reward.",
    "gain": "An arm minus the base on the same prompts and seeds.",
    "wins": "Share of pairs, same prompt and seed, that this person would rate higher; ties count one half.",
    "diversity": "Mean difference between pictures of one prompt from different seeds (RMS of pixels in [0, 1]).",
    "moved": "Mean difference from the base's picture of the same prompt and seed (RMS of pixels in [0, 1]).",
    "images spent": "Pictures drawn to prepare an arm, over all people shown in the row.",
    "images a picture": "Pictures drawn for every picture that comes out, once the arm is prepared.",
    "KL": "How far one denoising step of the adapter is from the base's, mean over latent dimensions.",
    "[low, high]": "95 % bootstrap interval over people and prompts.",
}


@dataclass(frozen=True)
class Report:
    """What a report is made of.

    Attributes:
        summary: From ``summarize``; with ``matrix``, from ``adapter_matrix``, where there is one.
        comparisons: The pictures behind it.
        curves: Each person's ``metrics.jsonl``, one mapping an iteration.
        validation: Each person's ``validation.jsonl``, one mapping a look.
        tastes: What each person likes, in words that go on from "This person".
        prompts: For each person, request to the prompt that prompt search found.
        likings: For each person, what their reward says of phrases, most liked first.
        exemplars: For each person, pictures they would like most, and least, compared with people on average,
            ``(n, 3, h, w)`` each.
        context: Facts to reproduce it, e.g. command, versions, seed, seconds.
    """

    summary: Mapping[str, Any]
    comparisons: Sequence[UserComparison]
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    validation: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    tastes: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    likings: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    exemplars: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)


def write_report(folder: Path, report: Report) -> Path:
    """Write ``report.html``, ``comparison.json`` and ``figures/*.png``, and return the page's path."""
    summary = report.summary
    facts = {**summary, "validation": {user: list(rows) for user, rows in report.validation.items() if rows}}
    facts |= {"prompts": report.prompts} if report.prompts else {}
    write_text(folder / "comparison.json", json.dumps({**facts, "context": dict(report.context)}, indent=1) + "\n")
    draw_plots(folder / "figures", summary, report.validation)
    people = "".join(_person(comparison, report) for comparison in report.comparisons)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>pamela_rl: what steering did</title><style>{_STYLE.read_text(encoding="utf-8")}</style></head><body><main>
<h1>What steering did</h1>
<p class="lead">Every picture of the base model is drawn again, from the same prompt and the same noise, in each way that
was tried to please a person.</p>
<p class="lead verdict">{html.escape(overall_verdict(summary))}</p>
{side_by_side(report.comparisons, report.tastes)}
<h2>All people together</h2>
{arms_table_html(summary["overall"], summary["decided_by"])}
{_rivals(summary)}
{_matrix(summary)}
{people}
{_footer(report.context)}
</main></body></html>
"""
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _rivals(summary: Mapping[str, Any]) -> str:
    if not summary["pairs"]:
        return ""
    return f"<h2>One against the other</h2>{pairs_table_html(summary['pairs'], summary['decided_by'])}"


def _matrix(summary: Mapping[str, Any]) -> str:
    if "matrix" not in summary:
        return ""
    name = html.escape(score_name(summary["decided_by"]))
    return (
        f"<h2>Whose adapter pleases whom</h2><p>Gain in {name} over the base. Adapters are in the columns; if they are "
        f"personal, the diagonal is the warmest of its row.</p>{matrix_html(summary['matrix'])}"
    )


def _person(comparison: UserComparison, report: Report) -> str:
    summary, user = report.summary, comparison.user_id
    rows, decided_by = summary["users"][user], summary["decided_by"]
    taste, validation = report.tastes.get(user, ""), report.validation.get(user, ())
    said = [f"<p>This person {html.escape(taste)}.</p>"] if taste else []
    arm = steered_arm(rows)
    if arm is not None:
        said.append(f'<p class="verdict">{html.escape(verdict(rows[arm], decided_by, user, arm))}</p>')
    drift = drift_verdict(validation) if OWN in rows else None
    said += [f"<p>{html.escape(drift)}</p>"] if drift else []
    found = report.prompts.get(user, {})
    return (
        f"<section><h2>{html.escape(user)}</h2>{''.join(said)}{arms_grid(comparison)}"
        f"{_charts(validation, report.curves.get(user, ()))}{arms_table_html(rows, decided_by)}"
        f"{_taste(report, user)}{prompts_html(found) if found else ''}</section>"
    )


def _taste(report: Report, user: str) -> str:
    """What the reward knows of the person, folded away: phrases with intervals, and pictures at either end."""
    likings, exemplars = report.likings.get(user, ()), report.exemplars.get(user)
    if not likings and exemplars is None:
        return ""
    ends = "" if exemplars is None else exemplars_html(*exemplars)
    inside = likings_html(likings) if likings else ""
    return f"<details><summary>What the reward says this person likes</summary>{ends}{inside}</details>"


def _charts(validation: Sequence[Mapping[str, Any]], curve: Sequence[Mapping[str, Any]]) -> str:
    """The over-optimization curves where there were validation, the training's own curves elsewhere."""
    if len(validation) > 1:
        iterations = [row["iteration"] for row in validation]
        by_distance = sorted(validation, key=lambda row: float(row["eval/kl_to_reference"]))
        distances = [row["eval/kl_to_reference"] for row in by_distance]
        best = judges_choice(validation)
        mark = None if best is None else iterations.index(best)
        mark_by_distance = None if best is None else [row["iteration"] for row in by_distance].index(best)
        charts = [
            line_chart("Scores over iterations", _columns(validation, _SCORES_SHOWN), "iterations", iterations, mark),
            line_chart("Scores over KL to the base", _columns(by_distance, _SCORES_SHOWN), "KL", distances, mark_by_distance),
            line_chart("The price", _columns(validation, _PRICE), "iterations", iterations, mark),
        ]
    elif len(curve) > 1:
        drift = {"KL to the base": "train/kl_to_reference"}
        iterations = [row["iteration"] + 1 for row in curve]
        charts = [
            line_chart("Scores while training", _columns(curve, _TRAINING), "iteration", iterations),
            line_chart("Distance from the base", _columns(curve, drift), "iteration", iterations),
        ]
    else:
        return ""
    return f'<div class="charts">{"".join(f"<figure>{chart}</figure>" for chart in charts if chart)}</div>'


def _columns(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, list[float | None]]:
    return {name: [row.get(key) for row in rows] for name, key in names.items() if any(key in row for row in rows)}


def _footer(context: Mapping[str, str]) -> str:
    facts = "".join(f"<dt>{html.escape(k)}</dt><dd><code>{html.escape(v)}</code></dd>" for k, v in context.items())
    glossary = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in _GLOSSARY.items())
    return f"<footer><details open><summary>What the words mean</summary><dl>{glossary}</dl></details><dl>{facts}</dl></footer>"
