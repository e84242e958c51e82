"""The report: one page that opens from disk with nothing fetched, and the same figures as JSON."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pamela_rl.evaluation.compare import BASE, OTHER, OWN, UserComparison
from pamela_rl.evaluation.figures import data_uri, line_chart
from pamela_rl.evaluation.verdict import SCORE_NAMES, arm_title, overall_verdict, verdict
from pamela_rl.storage import write_text

_STYLE = Path(__file__).with_name("report.css")
_CURVES = {"reward": "rollout/reward_mean", "judge": "rollout/judge_mean", "true rating": "rollout/true_rating_mean"}
_GLOSSARY = {
    "true rating": "What this person would rate, 1 to 5, free of noise. Known only in the simulated world.",
    "judge": "A second reward fitted on other people's ratings of other pictures; never trained against.",
    "reward": "The reward the adapter was trained against, less its caution.",
    "faithful": "Share of pictures that show everything the prompt names, told by a classifier apart from the reward.",
    "gain": "Own minus base on the same prompts and seeds.",
    "wins": "Share of pairs, same prompt and seed, that this person would rate higher; ties count one half.",
    "diversity": "Mean difference between pictures of one prompt from different seeds (RMS of pixels in [0, 1]).",
    "moved": "Mean difference from the base's picture of the same prompt and seed (RMS of pixels in [0, 1]).",
    "images spent": "Pictures drawn to prepare this arm.",
    "[low, high]": "95 % bootstrap interval over people and prompts.",
}


def write_report(
    folder: Path,
    summary: Mapping[str, Any],
    comparisons: Sequence[UserComparison],
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    tastes: Mapping[str, str],
    context: Mapping[str, str],
) -> Path:
    """Write ``report.html`` and ``comparison.json``.

    Args:
        folder: Where to.
        summary: From ``summarize``.
        comparisons: The pictures behind it.
        curves: Each person's metrics, one mapping an iteration.
        tastes: What each person likes, in words.
        context: Facts for the footer, e.g. command, versions, seed, seconds.

    Returns:
        The page's path.
    """
    write_text(folder / "comparison.json", json.dumps({**summary, "context": dict(context)}, indent=1) + "\n")
    people = "".join(_person(c, summary, curves.get(c.user_id, ()), tastes.get(c.user_id, "")) for c in comparisons)
    facts = "".join(f"<dt>{html.escape(k)}</dt><dd><code>{html.escape(v)}</code></dd>" for k, v in context.items())
    glossary = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in _GLOSSARY.items())
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>pamela_rl: what steering did</title><style>{_STYLE.read_text(encoding="utf-8")}</style></head><body><main>
<h1>What steering did</h1>
<p class="lead">Each person below got an adapter of their own. Every picture of the base model is drawn again, from the
same prompt and the same noise, with their own adapter and with somebody else's.</p>
<p class="lead verdict">{html.escape(overall_verdict(summary))}</p>
{_side_by_side(comparisons, tastes)}
{_table(summary["overall"], summary["decided_by"])}
{people}
<footer><details open><summary>What the words mean</summary><dl>{glossary}</dl></details><dl>{facts}</dl></footer>
</main></body></html>
"""
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _side_by_side(comparisons: Sequence[UserComparison], tastes: Mapping[str, str], most_prompts: int = 4) -> str:
    """One column a person, one row a prompt and seed: whose is whose, at a glance."""
    shown = comparisons[:6]
    cells = ['<span class="corner"></span><span class="head">Base model</span>']
    cells += [
        f'<span class="head own">{html.escape(c.user_id)}<small>{html.escape(tastes.get(c.user_id, ""))}</small></span>'
        for c in shown
    ]
    first = shown[0]
    for prompt in list(dict.fromkeys(first.prompts))[:most_prompts]:
        place = first.prompts.index(prompt)
        cells.append(f'<span class="prompt">{html.escape(prompt)}</span>')
        cells.append(f'<span class="pair">{_picture(first, BASE, place)}</span>')
        cells += [f'<span class="pair">{_picture(c, OWN, place)}</span>' for c in shown]
    columns = f"--columns: {len(shown) + 1}"
    return f'<h2>One prompt, one noise, everybody\'s adapter</h2><div class="grid" style="{columns}">{"".join(cells)}</div>'


def _person(
    comparison: UserComparison, summary: Mapping[str, Any], curve: Sequence[Mapping[str, Any]], taste: str
) -> str:
    user = html.escape(comparison.user_id)
    rows = summary["users"][comparison.user_id]
    likes = f"<p>This person likes {html.escape(taste)}.</p>" if taste else ""
    return (
        f"<section><h2>{user}</h2>{likes}"
        f'<p class="verdict">{html.escape(verdict(rows[OWN], summary["decided_by"], comparison.user_id))}</p>'
        f"{_grid(comparison)}{_charts(curve)}{_table(rows, summary['decided_by'])}</section>"
    )


def _charts(curve: Sequence[Mapping[str, Any]]) -> str:
    if len(curve) < 2:
        return ""
    scores = {n: [row.get(key) for row in curve] for n, key in _CURVES.items() if any(key in row for row in curve)}
    left = line_chart("Scores while training", scores, "iteration")
    drift = {"KL to the base": [row.get("train/kl_to_reference") for row in curve]}
    right = line_chart("Distance from the base", drift, "iteration")
    return f'<div class="charts"><figure>{left}</figure><figure>{right}</figure></div>'


def _grid(comparison: UserComparison, most_prompts: int = 6, pictures: int = 2) -> str:
    arms = [arm for arm in (BASE, OWN, OTHER) if arm in comparison.images]
    cells = ['<span class="corner"></span>']
    cells += [f'<span class="head {html.escape(arm)}">{html.escape(arm_title(arm))}</span>' for arm in arms]
    for prompt in list(dict.fromkeys(comparison.prompts))[:most_prompts]:
        places = [row for row, text in enumerate(comparison.prompts) if text == prompt][:pictures]
        cells.append(f'<span class="prompt">{html.escape(prompt)}</span>')
        for arm in arms:
            drawn = "".join(_picture(comparison, arm, row) for row in places)
            cells.append(f'<span class="pair">{drawn}</span>')
    return f'<div class="grid">{"".join(cells)}</div>'


def _picture(comparison: UserComparison, arm: str, row: int) -> str:
    label = html.escape(f"{arm_title(arm)}: {comparison.prompts[row]}, seed {comparison.seeds[row]}")
    source = data_uri(comparison.images[arm][row])
    return (
        f'<label><input type="checkbox" aria-label="enlarge"><img src="{source}" alt="{label}" title="{label}"></label>'
    )


def _table(rows: Mapping[str, Any], decided_by: str) -> str:
    scores = [name for name in SCORE_NAMES if name in rows[BASE]]
    heads = [SCORE_NAMES[name] for name in scores] + [f"gain in {SCORE_NAMES[decided_by]}"]
    heads += ["wins over base", "wins over another's", "diversity", "moved", "images spent"]
    head = "".join(f"<th>{html.escape(text)}</th>" for text in ["", *heads])
    body = "".join(_table_row(arm, row, scores, decided_by) for arm, row in rows.items())
    return (
        f'<div class="scroll"><table class="figures"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _table_row(arm: str, row: Mapping[str, Any], scores: Sequence[str], decided_by: str) -> str:
    cells = [_interval(row[name], "{:.0%}" if name == "faithfulness" else "{:.2f}") for name in scores]
    if arm == BASE:
        cells += ["", "", ""]
    else:
        cells += [_interval(row["gain"][decided_by], "{:+.2f}", signed=True), _interval(row["win_over_base"], "{:.0%}")]
        cells.append(_interval(row["win_over_other"], "{:.0%}") if "win_over_other" in row else "")
    cells.append("" if row["diversity"] is None else f"{row['diversity']:.3f}")
    cells += [f"{row['distance_from_base']:.3f}", f"{row['images_spent']:,}"]
    inner = "".join(f"<td>{cell}</td>" for cell in [html.escape(arm_title(arm)), *cells])
    return f'<tr class="{html.escape(arm)}">{inner}</tr>'


def _interval(value: Mapping[str, float], form: str, signed: bool = False) -> str:
    colour = ""
    if signed:
        colour = "up" if value["low"] > 0 else "down" if value["high"] < 0 else ""
    low, high = form.format(value["low"]), form.format(value["high"])
    return f'<span class="{colour}">{form.format(value["estimate"])}</span><small>[{low}, {high}]</small>'
