"""Tables of the report: arms, pairs of arms, people by adapters, prompts. Everything that is shown is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from pamela_rl.evaluation.compare import BASE
from pamela_rl.evaluation.verdict import arm_title, score_name


def table(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Lay out rows of finished cells, each with the class of its row; heads are escaped, cells are HTML."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    body = "".join(
        f'<tr class="{html.escape(kind)}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>' for kind, cells in rows
    )
    return (
        f'<div class="scroll"><table class="figures"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def arms_table_html(rows: Mapping[str, Any], decided_by: str) -> str:
    """One line an arm: its scores, its gain, whom it beats, what it cost."""
    scores = list(rows[BASE]["gain"])
    scores.sort(key=lambda name: (name != decided_by, name == "faithfulness"))
    heads = ["", *map(score_name, scores), f"gain in {score_name(decided_by)}", "wins over base", "wins over another's"]
    heads += ["diversity", "moved", "images spent", "images a picture"]
    return table(heads, [(arm, _arm_cells(arm, row, scores, decided_by)) for arm, row in rows.items()])


def _arm_cells(arm: str, row: Mapping[str, Any], scores: Sequence[str], decided_by: str) -> list[str]:
    cells = [html.escape(arm_title(arm))]
    shares = {"faithfulness"} if row.get("faithfulness", {}).get("high", 0) <= 1 else set()  # CLIP's score is none
    cells += [interval(row[name], "{:.0%}" if name in shares else "{:.2f}") for name in scores]
    if arm == BASE:
        cells += ["", "", ""]
    else:
        cells += [interval(row["gain"][decided_by], "{:+.2f}", signed=True), interval(row["win_over_base"], "{:.0%}")]
        cells.append(interval(row["win_over_other"], "{:.0%}") if "win_over_other" in row else "")
    cells.append("" if row["diversity"] is None else f"{row['diversity']:.3f}")
    return [*cells, f"{row['distance_from_base']:.3f}", f"{row['images_spent']:,}", f"{row['images_each']:,}"]


def pairs_table_html(pairs: Sequence[Mapping[str, Any]], decided_by: str) -> str:
    """One line a pair of arms that are rivals."""
    rows = []
    for pair in pairs:
        names = f"{html.escape(arm_title(pair['first']))} <small>over {html.escape(arm_title(pair['second']))}</small>"
        gains = [interval(pair["gain"][name], "{:+.2f}", signed=True) for name in (decided_by, "faithfulness")
                 if name in pair["gain"]]  # fmt: skip
        rows.append(("", [names, interval(pair["wins"], "{:.0%}"), *gains]))
    heads = ["", "wins", f"gain in {score_name(decided_by)}"]
    heads += ["gain in faithful"] if pairs and "faithfulness" in pairs[0]["gain"] else []
    return table(heads, rows)


def matrix_html(matrix: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """People in rows, whose adapter in columns, the gain over the base as a heat map; the diagonal is framed."""
    largest = max((abs(cell["estimate"]) for row in matrix.values() for cell in row.values()), default=1.0) or 1.0
    rows = []
    for person, row in matrix.items():
        cells = [html.escape(person)]
        for adapter, cell in row.items():
            value = cell["estimate"]
            kind = f"heat {'warm' if value > 0 else 'cold'}{' mine' if adapter == person else ''}"
            title = html.escape(f"{person} with the adapter of {adapter}: [{cell['low']:+.2f}, {cell['high']:+.2f}]")
            share = f"--share: {100 * abs(value) / largest:.0f}%"
            cells.append(f'<span class="{kind}" style="{share}" title="{title}">{value:+.2f}</span>')
        rows.append(("", cells))
    return table(["in the eyes of", *matrix], rows)


def prompts_html(prompts: Mapping[str, str]) -> str:
    """What was asked and what the search made of it."""
    rows = [
        ("", [html.escape(request), f'<span class="words">{html.escape(p)}</span>']) for request, p in prompts.items()
    ]
    inside = table(["asked for", "what the search found"], rows)
    return f'<details><summary>The prompts that prompt search found</summary><div class="text">{inside}</div></details>'


def likings_html(likings: Sequence[Mapping[str, Any]]) -> str:
    """Phrases with what they add to a person's predicted rating, beside people on average."""
    rows = [
        (
            "",
            [
                f"{html.escape(liking['phrase'])} <small>{html.escape(liking['attribute'])}</small>",
                interval({**liking, "estimate": liking["effect"]}, "{:+.2f}", signed=True),
                f"{liking['population_effect']:+.2f}",
            ],
        )
        for liking in likings
    ]
    return table(["shown in the picture", "adds to this person's rating", "to people's on average"], rows)


def interval(value: Mapping[str, float], form: str, signed: bool = False) -> str:
    """Write an estimate above its interval; a signed one in colour where the interval excludes 0."""
    colour = ""
    if signed:
        colour = "up" if value["low"] > 0 else "down" if value["high"] < 0 else ""
    low, high = form.format(value["low"]), form.format(value["high"])
    return f'<span class="{colour}">{form.format(value["estimate"])}</span><small>[{low}, {high}]</small>'
