"""The comparison as text, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pamela_rl.evaluation.compare import BASE, OTHER, OWN
from pamela_rl.evaluation.verdict import SCORE_NAMES


def summary_table(summary: Mapping[str, Any]) -> str:
    """Lay out the deciding score, gains, win rates and faithfulness, one person a line and everyone last."""
    name = summary["decided_by"]
    people = [*summary["users"].items(), ("everyone", summary["overall"])]
    width = max(len(SCORE_NAMES[name]), *(len(user) for user, _ in people))
    lines = [
        f"{SCORE_NAMES[name]:{width}}   base    own  other's   gain of own (95 %)    beats base  beats other's  faithful"
    ]
    for user, rows in people:
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
