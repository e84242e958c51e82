"""Tables of a comparison as text, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pamela_rl.evaluation.compare import BASE, OTHER, OWN
from pamela_rl.evaluation.verdict import arm_title, score_name


def summary_table(summary: Mapping[str, Any]) -> str:
    """Format primary score, gain, win rates and faithfulness, one line per user and everyone last."""
    name = summary["primary_score"]
    rows_by_user = [*summary["users"].items(), ("everyone", summary["overall"])]
    width = max(len(score_name(name)), *(len(user) for user, _ in rows_by_user))
    lines = [
        f"{score_name(name):{width}}   base    own  other's   gain of own (95 %)    beats base  beats other's  faithful"
    ]
    for user, rows in rows_by_user:
        gain, own = rows[OWN]["gain"][name], rows[OWN]
        other = f"{rows[OTHER][name]['estimate']:7.2f}" if OTHER in rows else "      -"
        beats = f"{own['win_over_other']['estimate']:.0%}" if "win_over_other" in own else "-"
        share = own.get("faithfulness_share")
        lines.append(
            f"{user:{width}}  {rows[BASE][name]['estimate']:5.2f}  {own[name]['estimate']:5.2f}  {other}"
            f"   {gain['estimate']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}]"
            f"  {own['win_over_base']['estimate']:10.0%}  {beats:>13}  {'-' if share is None else f'{share:.0%}':>8}"
        )
    return "\n".join(lines)


def arms_table(summary: Mapping[str, Any]) -> str:
    """Format every arm over all users, then every paired comparison."""
    name = summary["primary_score"]
    rows = [
        ("arm", score_name(name), "gain (95 %)", "beats base", "faithful", "diversity", "images spent", "per output")
    ]
    for arm, row in summary["overall"].items():
        share, spread = row.get("faithfulness_share"), row["diversity"]
        rows.append(
            (
                arm_title(arm),
                f"{row[name]['estimate']:.2f}",
                "" if arm == BASE else _interval(row["gain"][name], "+.2f"),
                "" if arm == BASE else f"{row['win_over_base']['estimate']:.0%}",
                "-" if share is None else f"{share:.0%}",
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


def _interval(value: Mapping[str, float], form: str) -> str:
    return f"{value['estimate']:{form}} [{value['low']:{form}}, {value['high']:{form}}]"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{'<' if n == 0 else '>'}{w}}" for n, (cell, w) in enumerate(zip(row, widths))) for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
