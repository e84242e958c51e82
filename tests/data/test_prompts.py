from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pamela_rl.data.prompts import PromptSource, check_prompt_file, read_metadata, read_prompts
from pamela_rl.errors import ConfigError, DataError

PROMPTS = [f"prompt {number}" for number in range(7)]


def test_no_prompt_is_repeated_before_all_have_been_used() -> None:
    source = PromptSource(PROMPTS, "ada")
    drawn = [p for iteration in range(14) for p in source.draw(iteration, 2, 3, seed=5).prompts[::3]]
    assert len(drawn) == 28
    for lap in range(4):
        assert sorted(drawn[lap * 7 : lap * 7 + 7]) == PROMPTS
    assert drawn[:7] != drawn[7:14]


def test_a_draw_depends_on_its_arguments_alone() -> None:
    first, again = PromptSource(PROMPTS, "ada"), PromptSource(PROMPTS, "ada")
    for iteration in range(5):
        first.draw(iteration, 3, 2, seed=1)
    assert first.draw(9, 3, 2, seed=1).prompts == again.draw(9, 3, 2, seed=1).prompts
    laps = [first.draw(0, 7, 2, seed=seed).prompts for seed in range(5)]
    assert len(set(laps)) > 1


def test_a_group_is_one_prompt_and_every_picture_has_a_place() -> None:
    batch = PromptSource(PROMPTS, "ada").draw(0, 4, 5, seed=0)
    assert len(batch) == 20
    assert set(batch.user_ids) == {"ada"}
    torch.testing.assert_close(batch.image_ids, torch.arange(20))
    for group in batch.group_ids.unique():
        assert len({batch.prompts[int(row)] for row in (batch.group_ids == group).nonzero()}) == 1
    assert len(batch.group_ids.unique()) == 4


def test_the_same_prompt_twice_in_one_iteration_is_one_group() -> None:
    batch = PromptSource(PROMPTS[:2], "ada").draw(0, 4, 3, seed=0)
    assert sorted(torch.bincount(batch.group_ids).tolist()) == [6, 6]


def test_a_file_gives_one_prompt_a_line_without_blank_lines_and_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes("\ufeffa boat\r\n\r\n  a tree, „im Nebel“  \n".encode())
    assert read_prompts(tmp_path / "p.txt") == ["a boat", "a tree, „im Nebel“"]


@pytest.mark.parametrize("text", ["", "\n  \n"])
def test_a_file_without_a_prompt_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"holds 0 prompts, 0 of them empty; give at least one prompt"):
        read_prompts(tmp_path / "p.txt")


def test_an_empty_prompt_among_others_is_counted() -> None:
    with pytest.raises(DataError, match=r"holds 3 prompts, 2 of them empty"):
        PromptSource(["a boat", "", "  "], "ada")


@pytest.mark.parametrize("content", [None, b"a caf\xe9\n"])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "p.txt").write_bytes(content)
    with pytest.raises(
        DataError, match=r"cannot read the prompt file .*p\.txt \(.*\); give one prompt a line, in UTF-8"
    ):
        read_prompts(tmp_path / "p.txt")


def test_a_model_without_prompts_of_its_own_needs_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a boat\n", encoding="utf-8")
    check_prompt_file(tmp_path / "p.txt", "the base model is some/model")
    check_prompt_file(None, None)
    with pytest.raises(
        ConfigError, match="the base model is some/model, for which no prompts are known; give --prompts"
    ):
        check_prompt_file(None, "the base model is some/model")
    with pytest.raises(DataError, match="cannot read the prompt file"):
        check_prompt_file(tmp_path / "absent.txt", None)


def test_a_jsonl_file_says_more_of_its_prompts(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": " a boat", "colour": "blue", "count": 2}\n\n{"prompt": "a tree"}\n', encoding="utf-8")
    assert read_prompts(file) == ["a boat", "a tree"]
    assert read_metadata(file) == {"a boat": {"colour": "blue", "count": 2}}
    (tmp_path / "p.txt").write_text('{"prompt": "a boat"}\n')
    assert read_prompts(tmp_path / "p.txt") == ['{"prompt": "a boat"}']
    assert read_metadata(tmp_path / "p.txt") == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"prompt": "a boat"}\n{"prompt"\n', "line 2 of .* is no JSON"),
        ('{"text": "a boat"}\n', r'line 1 of .* has no prompt; give objects such as \{"prompt": "a boat"\}'),
        ('["a boat"]\n', "line 1 of .* has no prompt"),
        (
            '{"prompt": "a boat", "n": 1}\n{"prompt": "a boat", "n": 2}\n',
            "has the prompt 'a boat' twice, with different",
        ),
        ("\n", "holds 0 prompts"),
    ],
)
def test_a_jsonl_file_that_cannot_be_told_apart_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "p.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=sentence):
        (read_metadata if "twice" in sentence else read_prompts)(tmp_path / "p.jsonl")
