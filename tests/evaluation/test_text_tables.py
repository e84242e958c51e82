from __future__ import annotations

from dataclasses import replace

import pytest

from pamela_rl.evaluation.compare import UserComparison, summarize
from pamela_rl.evaluation.text_tables import summary_table


@pytest.mark.parametrize("user", ["a", "ada", "somebody-with-a-long-name"])
def test_every_figure_stands_under_its_heading(by_hand: UserComparison, user: str) -> None:
    head, *lines = summary_table(summarize([replace(by_hand, user_id=user)])).splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == [user, "everyone"]
    for line in lines:
        assert len(line) == len(head)
        assert line[head.index("base") - 1 :].split() == [
            *("2.50", "3.25", "2.75", "+0.75", "[+0.50,", "+1.00]", "88%", "62%", "67%")
        ]


def test_what_was_not_measured_is_a_dash(by_hand: UserComparison) -> None:
    for part in (by_hand.images, by_hand.scores, by_hand.images_spent):
        del part["other"]
    for row in by_hand.scores.values():
        del row["faithfulness"]
    assert summary_table(summarize([by_hand])).splitlines()[1].split() == [
        *("ada", "2.50", "3.25", "-", "+0.75", "[+0.50,", "+1.00]", "88%", "-", "-")
    ]


def test_a_user_called_everyone_keeps_their_line(by_hand: UserComparison) -> None:
    other = replace(by_hand, scores=dict.fromkeys(by_hand.scores, by_hand.scores["base"]))
    summary = summarize([replace(by_hand, user_id="everyone"), replace(other, user_id="ben")])
    lines = summary_table(summary).splitlines()
    assert len(lines) == 4
    assert "+0.75" in lines[1]
