from __future__ import annotations

from dataclasses import replace

import pytest

from pamela_rl.evaluation.compare import UserComparison, summarize
from pamela_rl.evaluation.strengths import UserStrengths, summarize_strengths
from pamela_rl.evaluation.text_tables import arms_table, strengths_table, summary_table


@pytest.mark.parametrize("user", ["a", "ada", "somebody-with-a-long-name"])
def test_one_person_has_one_line_and_every_figure_stands_under_its_heading(by_hand: UserComparison, user: str) -> None:
    head, *lines = summary_table(summarize([replace(by_hand, user_id=user)])).splitlines()
    (line,) = lines
    assert line.split("  ")[0].strip() == user
    assert len(line) == len(head)
    assert line[head.index("base") - 1 :].split() == [
        *("2.50", "3.25", "2.75", "+0.75", "[-2.43,", "+3.93]", "88%", "62%", "67%")
    ]


def test_what_was_not_measured_is_a_dash(by_hand: UserComparison) -> None:
    for part in (by_hand.images, by_hand.scores, by_hand.images_spent):
        del part["other"]
    for row in by_hand.scores.values():
        del row["faithfulness"]
    assert summary_table(summarize([by_hand])).splitlines()[1].split() == [
        *("ada", "2.50", "3.25", "-", "+0.75", "[-2.43,", "+3.93]", "88%", "-", "-")
    ]


def test_the_judges_gain_stands_beside_the_true_one(by_hand: UserComparison) -> None:
    for row in by_hand.scores.values():
        row["judge"] = row["true_rating"] / 2
    head, line = summary_table(summarize([by_hand])).splitlines()
    assert "gain in true rating (95 %)  gain in judge (95 %)" in head
    assert "+0.38 [-1.21, +1.96]" in line


def test_every_strength_has_a_line_from_the_base_model_on(by_hand: UserComparison) -> None:
    one = UserStrengths(by_hand, {1.0: 0.1, 0.0: 0.2})
    summary = {**summarize([by_hand]), "strengths": summarize_strengths([one], {"ada": 0.5})}
    head, base, own, recommended, use = strengths_table(summary).splitlines()
    assert base.split("  ")[0] == "0 (base model)"
    assert base[len("0 (base model)") :].split() == ["2.50", "100%", "0.20"]  # no gain over itself
    assert own.split() == ["1", "(as", "trained)", "3.25", "+0.75", "[-2.43,", "+3.93]", "88%", "67%", "0.10"]
    assert len(base) == len(own) == len(head)
    assert recommended == "Recommended strengths: ada 0.5."
    assert "pipe.set_adapters(name, strength)" in use
    summary["strengths"]["recommended"] = {}
    assert "Recommended" not in strengths_table(summary)


def test_one_prompt_has_no_interval(by_hand: UserComparison) -> None:
    single = summarize([replace(by_hand, prompts=("a boat",) * 4)])
    assert "+0.75 (no interval)" in summary_table(single)
    assert "+0.75 (no interval)" in arms_table(single)


def test_a_user_called_everyone_keeps_their_line(by_hand: UserComparison) -> None:
    other = replace(by_hand, scores=dict.fromkeys(by_hand.scores, by_hand.scores["base"]))
    summary = summarize([replace(by_hand, user_id="everyone"), replace(other, user_id="ben")])
    lines = summary_table(summary).splitlines()
    assert len(lines) == 4
    assert "+0.75" in lines[1]
