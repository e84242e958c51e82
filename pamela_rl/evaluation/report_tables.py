"""Tables of the report: arms, pairs of arms, users by adapters, prompts, phrase effects. All text is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from pamela_rl.evaluation.compare import BASE
from pamela_rl.evaluation.verdict import arm_title, gains_shown, score_name
from pamela_rl.types import Unit


def table(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Build a table from rows of (CSS class, HTML cells); heads are escaped."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    body = "".join(
        f'<tr class="{html.escape(kind)}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>' for kind, cells in rows
    )
    return (
        f'<div class="scroll"><table class="figures"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def arms_table_html(rows: Mapping[str, Any], primary_score: str, units: Mapping[str, str]) -> str:
    """Build the table of arms: scores, gains, win rates and cost."""
    scores = list(rows[BASE]["gain"])
    scores.sort(key=lambda name: (name != primary_score, name == "faithfulness"))
    gains = gains_shown(rows[BASE])
    heads = ["", *map(score_name, scores), *(f"gain in {score_name(name)}" for name in gains), "wins over base"]
    has_others = any("win_over_other" in row for row in rows.values())
    heads += ["wins over another's"] if has_others else []
    heads += ["diversity", "distance from base", "images spent", "images per output"]
    return table(heads, [(arm, _arm_cells(arm, row, scores, gains, units, has_others)) for arm, row in rows.items()])


def _arm_cells(
    arm: str,
    row: Mapping[str, Any],
    scores: Sequence[str],
    gains: Sequence[str],
    units: Mapping[str, str],
    others: bool,
) -> list[str]:
    cells = [html.escape(arm_title(arm))]
    cells += [interval(row[name], "{:.0%}" if units.get(name) == Unit.SHARE else "{:.2f}") for name in scores]
    if arm == BASE:
        cells += [""] * (len(gains) + 1 + others)
    else:
        cells += [interval(row["gain"][name], "{:+.2f}", signed=True) for name in gains]
        cells.append(interval(row["win_over_base"], "{:.0%}"))
        cells += [interval(row["win_over_other"], "{:.0%}") if "win_over_other" in row else ""] if others else []
    cells.append("" if row["diversity"] is None else f"{row['diversity']:.3f}")
    return [*cells, f"{row['distance_from_base']:.3f}", f"{row['images_spent']:,}", f"{row['images_per_output']:,}"]


def pairs_table_html(pairs: Sequence[Mapping[str, Any]], primary_score: str) -> str:
    """Build the table of paired comparisons, one line per pair of arms."""
    rows = []
    for pair in pairs:
        names = f"{html.escape(arm_title(pair['first']))} <small>over {html.escape(arm_title(pair['second']))}</small>"
        gains = [interval(pair["gain"][name], "{:+.2f}", signed=True) for name in (primary_score, "faithfulness")
                 if name in pair["gain"]]  # fmt: skip
        rows.append(("", [names, interval(pair["wins"], "{:.0%}"), *gains]))
    heads = ["", "wins", f"gain in {score_name(primary_score)}"]
    heads += ["gain in faithfulness"] if pairs and "faithfulness" in pairs[0]["gain"] else []
    return table(heads, rows)


def matrix_html(matrix: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Build the heat map of gains over the base: scoring users in rows, adapters in columns, own adapters framed."""
    largest = max((abs(cell["estimate"]) for row in matrix.values() for cell in row.values()), default=1.0) or 1.0
    rows = []
    for user, row in matrix.items():
        cells = [html.escape(user)]
        for adapter, cell in row.items():
            value = cell["estimate"]
            kind = f"heat {'warm' if value > 0 else 'cold'}{' mine' if adapter == user else ''}"
            title = html.escape(f"{user} with the adapter of {adapter}: {ends(cell, '{:+.2f}')}")
            share = f"--share: {100 * abs(value) / largest:.0f}%"
            cells.append(f'<span class="{kind}" style="{share}" title="{title}">{value:+.2f}</span>')
        rows.append(("", cells))
    return table(["scored as", *matrix], rows)


def prompts_html(prompts: Mapping[str, str]) -> str:
    """Build the table of requests and the prompts that prompt search found."""
    rows = [
        ("", [html.escape(request), f'<span class="words">{html.escape(p)}</span>']) for request, p in prompts.items()
    ]
    inside = table(["request", "prompt found"], rows)
    return f'<details><summary>Prompts found by prompt search</summary><div class="text">{inside}</div></details>'


def phrase_effects_html(effects: Sequence[Mapping[str, Any]]) -> str:
    """Build the table of phrase effects on a user's predicted rating, beside those of the average user."""
    rows = [
        (
            "",
            [
                f"{html.escape(effect['phrase'])} <small>{html.escape(effect['attribute'])}</small>",
                interval({**effect, "estimate": effect["effect"]}, "{:+.2f}", signed=True),
                f"{effect['population_effect']:+.2f}",
            ],
        )
        for effect in effects
    ]
    return table(["phrase shown in the image", "effect on this user's rating", "effect on the average user's"], rows)


def interval(value: Mapping[str, float | None], form: str, signed: bool = False) -> str:
    """Format an estimate above its interval, coloured if signed and the interval excludes 0."""
    low, high = value["low"], value["high"]
    colour = ""
    if signed and low is not None and high is not None:
        colour = "up" if low > 0 else "down" if high < 0 else ""
    return f'<span class="{colour}">{form.format(value["estimate"])}</span><small>{ends(value, form)}</small>'


def ends(value: Mapping[str, float | None], form: str) -> str:
    """Format the ends of an interval; words where there is none."""
    if value["low"] is None or value["high"] is None:
        return "no interval"
    return f"[{form.format(value['low'])}, {form.format(value['high'])}]"
