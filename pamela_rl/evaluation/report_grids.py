"""Grids of images in the report; a click or the space bar enlarges one, without a script."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from torch import Tensor

from pamela_rl.evaluation.compare import BASE, OWN, UserComparison
from pamela_rl.evaluation.svg_charts import data_uri
from pamela_rl.evaluation.verdict import arm_title

MAX_COLUMNS = 6


def side_by_side(comparisons: Sequence[UserComparison], tastes: Mapping[str, str], max_prompts: int = 4) -> str:
    """Build a grid with one column per user and one row per prompt and seed."""
    compared = [c for c in comparisons if OWN in c.images][:MAX_COLUMNS]
    if len(compared) < 2:
        return ""
    cells = ['<span class="corner"></span><span class="head">Base model</span>']
    cells += [
        f'<span class="head own">{html.escape(c.user_id)}<small>{html.escape(tastes.get(c.user_id, ""))}</small></span>'
        for c in compared
    ]
    first = compared[0]
    for prompt in list(dict.fromkeys(first.prompts))[:max_prompts]:
        row = first.prompts.index(prompt)
        cells.append(f'<span class="prompt">{html.escape(prompt)}</span>')
        cells.append(f'<span class="pair">{_image_html(first, BASE, row)}</span>')
        cells += [f'<span class="pair">{_image_html(c, OWN, row)}</span>' for c in compared]
    columns = f"--columns: {len(compared) + 1}"
    return f'<h2>Same prompt, same noise, every user\'s adapter</h2><div class="grid" style="{columns}">{"".join(cells)}</div>'


def arms_grid(comparison: UserComparison, max_prompts: int = 6) -> str:
    """Build one user's grid: prompts in rows, arms in columns, the same noise within a row."""
    arms = list(comparison.images)
    images_per_prompt = 2 if len(arms) <= 3 else 1
    cells = ['<span class="corner"></span>']
    cells += [f'<span class="head {html.escape(arm)}">{html.escape(arm_title(arm))}</span>' for arm in arms]
    for prompt in list(dict.fromkeys(comparison.prompts))[:max_prompts]:
        rows = [row for row, text in enumerate(comparison.prompts) if text == prompt][:images_per_prompt]
        cells.append(f'<span class="prompt">{html.escape(prompt)}</span>')
        for arm in arms:
            images = "".join(_image_html(comparison, arm, row) for row in rows)
            cells.append(f'<span class="pair">{images}</span>')
    kind = "grid wide" if len(arms) > 3 else "grid"
    return f'<div class="scroll"><div class="{kind}" style="--columns: {len(arms)}">{"".join(cells)}</div></div>'


def exemplars_html(most_liked: Tensor, least_liked: Tensor) -> str:
    """Show the images that a user is predicted to like most and least, relative to the average user."""
    rows = []
    for title, images in (("would like most, compared with others", most_liked), ("would like least", least_liked)):
        labelled = (_enlargeable_image(image, f"{title}, {rank}") for rank, image in enumerate(images, start=1))
        rows.append(f'<p class="soft">{title}</p><div class="pair row">{"".join(labelled)}</div>')
    return "".join(rows)


def _image_html(comparison: UserComparison, arm: str, row: int) -> str:
    label = f"{arm_title(arm)}: {comparison.prompts[row]}, seed {comparison.seeds[row]}"
    return _enlargeable_image(comparison.images[arm][row], label)


def _enlargeable_image(image: Tensor, label: str) -> str:
    label, source = html.escape(label), data_uri(image)
    return (
        f'<label><input type="checkbox" aria-label="enlarge"><img src="{source}" alt="{label}" title="{label}"></label>'
    )
