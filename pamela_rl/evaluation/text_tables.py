"""Tables of a comparison as text, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pamela_rl.evaluation.compare import BASE, OTHER, OWN
from pamela_rl.evaluation.verdict import USE_STRENGTH, arm_title, gains_shown, score_name, strength_title


def summary_table(summary: Mapping[str, Any]) -> str:
    """Format the own arm against base and another's, one line per user and, where there are several, everyone last."""
    name, users = summary["primary_score"], [*summary["users"].items()]
    gains = gains_shown(summary["overall"][BASE])
    rows = [
        (score_name(name), "base", "own", "other's", *(f"gain in {score_name(gain)} (95 %)" for gain in gains),
         "beats base", "beats other's", "faithful")
    ]  # fmt: skip
    for user, row in [*users, ("everyone", summary["overall"])] if len(users) > 1 else users:
        own, other = row[OWN], row.get(OTHER)
        rows.append(
            (
                user,
                f"{row[BASE][name]['estimate']:.2f}",
                f"{own[name]['estimate']:.2f}",
                "-" if other is None else f"{other[name]['estimate']:.2f}",
                *(_interval(own["gain"][gain], "+.2f") for gain in gains),
                f"{own['win_over_base']['estimate']:.0%}",
                f"{own['win_over_other']['estimate']:.0%}" if "win_over_other" in own else "-",
                _faithful(own),
            )
        )
    return _aligned(rows)


def arms_table(summary: Mapping[str, Any]) -> str:
    """Format every arm over all users, then every paired comparison."""
    name, gains = summary["primary_score"], gains_shown(summary["overall"][BASE])
    rows = [
        ("arm", score_name(name), *(f"gain in {score_name(gain)} (95 %)" for gain in gains), "beats base", "faithful",
         "diversity", "images spent", "per output")
    ]  # fmt: skip
    for arm, row in summary["overall"].items():
        spread, is_base = row["diversity"], arm == BASE
        rows.append(
            (
                arm_title(arm),
                f"{row[name]['estimate']:.2f}",
                *("" if is_base else _interval(row["gain"][gain], "+.2f") for gain in gains),
                "" if is_base else f"{row['win_over_base']['estimate']:.0%}",
                _faithful(row),
                "-" if spread is None else f"{spread:.2f}",
                f"{row['images_spent']:,}",
                f"{row['images_per_output']:,}",
            )
        )
    pairs = [("paired comparison", "wins", f"gain in {score_name(name)} (95 %)")]
    for pair in summary["pairs"]:
        names = f"{arm_title(pair['first'])} over {arm_title(pair['second'])}"
        pairs.append((names, _interval(pair["wins"], ".0%"), _interval(pair["gain"][name], "+.2f")))
    return _aligned(rows) + (f"\n\n{_aligned(pairs)}" if summary["pairs"] else "")


def strengths_table(summary: Mapping[str, Any]) -> str:
    """Format own adapters over all users, one line per strength, and the strengths that adapters recommend."""
    name, gains = summary["primary_score"], gains_shown(summary["overall"][BASE])
    rows = [
        ("strength of own adapter", score_name(name), *(f"gain in {score_name(gain)} (95 %)" for gain in gains),
         "beats base", "faithful", "diversity")
    ]  # fmt: skip
    for row in summary["strengths"]["overall"]:
        is_base, spread = row["strength"] == 0, row["diversity"]
        rows.append(
            (
                strength_title(row["strength"]),
                f"{row[name]['estimate']:.2f}",
                *("" if is_base else _interval(row["gain"][gain], "+.2f") for gain in gains),
                "" if is_base else f"{row['win_over_base']['estimate']:.0%}",
                _faithful(row),
                "-" if spread is None else f"{spread:.2f}",
            )
        )
    recommended = ", ".join(f"{user} {at:g}" for user, at in summary["strengths"]["recommended"].items())
    lines = [_aligned(rows), *([f"Recommended strengths: {recommended}."] if recommended else []), USE_STRENGTH]
    return "\n".join(lines)


def _faithful(row: Mapping[str, Any]) -> str:
    """Faithfulness as a share of the base's; where it is no share, its own score."""
    if row.get("faithfulness_share") is not None:
        return f"{row['faithfulness_share']:.0%}"
    return f"{row['faithfulness']['estimate']:.2f}" if "faithfulness" in row else "-"


def _interval(value: Mapping[str, float | None], form: str) -> str:
    if value["low"] is None:
        return f"{value['estimate']:{form}} (no interval)"
    return f"{value['estimate']:{form}} [{value['low']:{form}}, {value['high']:{form}}]"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{'<' if n == 0 else '>'}{w}}" for n, (cell, w) in enumerate(zip(row, widths))) for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
