"""The report's figures of adapters at several strengths: charts, how to use a strength, and the numbers. All text is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pamela_rl.evaluation.report_tables import interval, table
from pamela_rl.evaluation.svg_charts import line_chart
from pamela_rl.evaluation.verdict import score_name, strength_title
from pamela_rl.storage import folder_name
from pamela_rl.types import Unit

Rows = Sequence[Mapping[str, Any]]


def strengths_html(summary: Mapping[str, Any], user: str | None = None) -> str:
    """Build the charts of a user's own adapter over its strength, or the means over all users; empty where there are none."""
    if "strengths" not in summary:
        return ""
    found = summary["strengths"]
    rows = found["overall"] if user is None else found["users"][user]
    best = found["recommended"].get(user)
    figures = "".join(_figure(title, curves, rows, best) for title, curves in _charts(rows, summary))
    details = f"<details><summary>Numbers by strength</summary>{_table(rows, summary)}</details>"
    return f'<p>{_how_to_use(user, best, rows[-1]["strength"])}</p><div class="charts">{figures}</div>{details}'


def gain_curves(rows: Rows, primary_score: str) -> dict[str, list[float]]:
    """Return the gain over the base at each strength, of the score that decides and of the reward, by display name."""
    names = [name for name in dict.fromkeys((primary_score, "reward")) if name in rows[0]["gain"]]
    return {score_name(name): [row["gain"][name]["estimate"] for row in rows] for name in names}


def side_effect_curves(rows: Rows, units: Mapping[str, str]) -> list[dict[str, list[float | None]]]:
    """Return faithfulness and diversity at each strength, by display name: those that share an axis in one mapping.

    A score of faithfulness that is no share, such as CLIP's, has an axis of its own. What was not measured is left out.
    """
    faithful: dict[str, list[float | None]] = {}
    if "faithfulness" in rows[0]:
        faithful = {score_name("faithfulness"): [row["faithfulness"]["estimate"] for row in rows]}
    spread = {"diversity": [row["diversity"] for row in rows]} if rows[0]["diversity"] is not None else {}
    axes = [faithful | spread] if units.get("faithfulness") == Unit.SHARE else [faithful, spread]
    return [curves for curves in axes if curves]


def side_effects_title(curves: Iterable[str]) -> str:
    """Name the axis of curves from ``side_effect_curves``."""
    return " and ".join({score_name("faithfulness"): "faithfulness"}.get(name, name) for name in curves)


def _charts(rows: Rows, summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Sequence[float | None]]]]:
    """Return the title and the curves of each chart."""
    side_effects = side_effect_curves(rows, summary["units"])
    return [
        ("Gain over the base model", gain_curves(rows, summary["primary_score"])),
        *((side_effects_title(curves).capitalize(), curves) for curves in side_effects),
    ]


def _figure(title: str, curves: Mapping[str, Sequence[float | None]], rows: Rows, best: float | None) -> str:
    strengths = [row["strength"] for row in rows]
    marked = f"recommended strength {best:g}" if best is not None else ""
    chart = line_chart(f"{title} over strength", curves, "strength", strengths, best, marked, ticks=strengths)
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{chart}</figure>"


def _how_to_use(user: str | None, best: float | None, strongest: float) -> str:
    """Say how an adapter is used at a strength; of a user, with the name it has and the strength it recommends."""
    if user is None:
        return (
            "An adapter need not be used as it was trained, at strength 1: less strength is nearer to the base model and more "
            "varied. Set it with <code>pipe.set_adapters(name, strength)</code> after the adapter is loaded. Means over all "
            "users:"
        )
    call = html.escape(f'pipe.set_adapters("{folder_name(user)}", {0.5 if best is None else best:g})')
    if best is None:
        return f"Strength of the own adapter: 1 is as it was trained. Use another with, e.g., <code>{call}</code>."
    line = " (dashed line)" if best <= strongest else ""
    return f"Strength of the own adapter: {best:g} is recommended{line}. Use it with <code>{call}</code>."


def _table(rows: Rows, summary: Mapping[str, Any]) -> str:
    gains = [name for name in dict.fromkeys((summary["primary_score"], "reward")) if name in rows[0]["gain"]]
    shown = [*gains, *(["faithfulness"] if "faithfulness" in rows[0] else [])]
    heads = ["strength", *map(score_name, shown), *(f"gain in {score_name(name)}" for name in gains)]
    return table([*heads, "wins over base", "diversity"], [("", _cells(row, shown, gains, summary)) for row in rows])


def _cells(row: Mapping[str, Any], shown: Sequence[str], gains: Sequence[str], summary: Mapping[str, Any]) -> list[str]:
    cells = [html.escape(strength_title(row["strength"]))]
    cells += [interval(row[name], "{:.0%}" if summary["units"].get(name) == Unit.SHARE else "{:.2f}") for name in shown]
    if row["strength"] == 0:
        cells += [""] * (len(gains) + 1)
    else:
        cells += [interval(row["gain"][name], "{:+.2f}", signed=True) for name in gains]
        cells.append(interval(row["win_over_base"], "{:.0%}"))
    return [*cells, "" if row["diversity"] is None else f"{row['diversity']:.3f}"]
