"""Grids of pictures in the report; a click or the space bar enlarges one, without a script."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from torch import Tensor

from pamela_rl.evaluation.compare import BASE, OWN, UserComparison
from pamela_rl.evaluation.figures import data_uri
from pamela_rl.evaluation.verdict import arm_title

MOST_COLUMNS = 6


def side_by_side(comparisons: Sequence[UserComparison], tastes: Mapping[str, str], most_prompts: int = 4) -> str:
    """One column a person, one row a prompt and seed: whose is whose, at a glance."""
    shown = [c for c in comparisons if OWN in c.images][:MOST_COLUMNS]
    if len(shown) < 2:
        return ""
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


def arms_grid(comparison: UserComparison, most_prompts: int = 6) -> str:
    """One person: prompts in rows, arms in columns, the same noise in a row."""
    arms = list(comparison.images)
    pictures = 2 if len(arms) <= 3 else 1
    cells = ['<span class="corner"></span>']
    cells += [f'<span class="head {html.escape(arm)}">{html.escape(arm_title(arm))}</span>' for arm in arms]
    for prompt in list(dict.fromkeys(comparison.prompts))[:most_prompts]:
        places = [row for row, text in enumerate(comparison.prompts) if text == prompt][:pictures]
        cells.append(f'<span class="prompt">{html.escape(prompt)}</span>')
        for arm in arms:
            drawn = "".join(_picture(comparison, arm, row) for row in places)
            cells.append(f'<span class="pair">{drawn}</span>')
    kind = "grid wide" if len(arms) > 3 else "grid"
    return f'<div class="scroll"><div class="{kind}" style="--columns: {len(arms)}">{"".join(cells)}</div></div>'


def exemplars_html(most: Tensor, least: Tensor) -> str:
    """Pictures that a person would like most, and least, compared with people on average."""
    rows = []
    for title, pictures in (("would like most, compared with others", most), ("would like least", least)):
        drawn = "".join(_enlargeable(picture, f"{title}, {place}") for place, picture in enumerate(pictures, start=1))
        rows.append(f'<p class="soft">{title}</p><div class="pair row">{drawn}</div>')
    return "".join(rows)


def _picture(comparison: UserComparison, arm: str, row: int) -> str:
    label = f"{arm_title(arm)}: {comparison.prompts[row]}, seed {comparison.seeds[row]}"
    return _enlargeable(comparison.images[arm][row], label)


def _enlargeable(image: Tensor, label: str) -> str:
    label, source = html.escape(label), data_uri(image)
    return (
        f'<label><input type="checkbox" aria-label="enlarge"><img src="{source}" alt="{label}" title="{label}"></label>'
    )
