from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pamela_rl.data.phrases import Phrasebook
from pamela_rl.errors import CheckpointError, ConfigError
from pamela_rl.steering.prompt_search import PromptedGenerator, SearchResult, search_prompt
from pamela_rl.steering.proposers import EvolutionaryProposer, MixedProposer, PhraseProposer, ScoredPrompt
from pamela_rl.steering.search_table import SearchTable, VariantRecord
from pamela_rl.steering.settings import PromptSearchSettings
from pamela_rl.types import RewardOutput, Verdict

COLOURS = {"red": 0, "green": 1, "blue": 2}
BOOK = Phrasebook({"colour": ("in red", "in green", "in blue"), "light": ("bright", "dark"), "scene": ("without it",)})


class Painter:
    """Paints a plain picture in the colours its prompt names, a little different for every seed, and counts."""

    def __init__(self, noise: float = 0.02) -> None:
        self.noise, self.drawn = noise, 0
        self.requests: list[tuple[str, int]] = []

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        self.requests += list(zip(prompts, seeds))
        self.drawn += len(prompts)
        return torch.stack([self.paint(prompt, seed) for prompt, seed in zip(prompts, seeds)])

    def paint(self, prompt: str, seed: int) -> Tensor:
        image = torch.full((3, 4, 4), 0.2)
        for colour, channel in COLOURS.items():
            image[channel] += 0.5 * (colour in prompt)
        image *= 1.2 if "bright" in prompt else 0.6 if "dark" in prompt else 1.0
        image[:, 0, 0] = 0.0 if "without it" in prompt else 1.0  # the subject
        noise = self.noise * torch.randn(1, generator=torch.Generator().manual_seed(seed))
        return (image + noise).clamp(0, 1)


def likes_blue(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    assert set(prompts) == {"a boat"}, "pictures are judged for the request, not for the variant"
    centre = images[:, :, 2:, 2:].mean(dim=(2, 3))
    return RewardOutput(1 + 4 * (centre[:, 2] - 0.5 * centre[:, 0]), torch.zeros(len(images)))


def shows_subject(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    return RewardOutput(images[:, 0, 0, 0])


PROPOSE = MixedProposer([PhraseProposer(BOOK), EvolutionaryProposer(PhraseProposer(BOOK))])
CONFIG = PromptSearchSettings(num_rounds=3, num_variants=6, num_seeds=2, num_elites=2)


def search(folder: Path, painter: Painter | None = None, config: PromptSearchSettings = CONFIG) -> SearchResult:
    return search_prompt("a boat", "ada", PROPOSE, painter or Painter(), likes_blue, shows_subject, config, folder)


def test_the_search_finds_what_the_person_likes(tmp_path: Path) -> None:
    result = search(tmp_path)
    assert result.prompt == "a boat, in blue, bright"
    assert result.ranked[0].score > result.ranked[-1].score
    assert result.images_spent == 36


def test_a_variant_that_drops_its_subject_is_refused_however_much_it_is_liked(tmp_path: Path) -> None:
    careless = search_prompt("a boat", "ada", PROPOSE, Painter(), likes_blue, None, CONFIG, tmp_path / "careless")
    assert any("without it" in scored.prompt for scored in careless.ranked)
    careful = search(tmp_path / "careful")
    assert not any("without it" in scored.prompt for scored in careful.ranked)
    lines = (tmp_path / "careful" / "variants.jsonl").read_text().splitlines()[1:]
    rows = [VariantRecord(**row) for line in lines for row in json.loads(line)]
    assert {row.refused for row in rows if "without it" in row.prompt} == {True}
    assert {row.refused for row in rows if "without it" not in row.prompt} == {False}


@pytest.mark.parametrize(("budget", "spent"), [(36, 36), (20, 20), (13, 12), (2, 2), (1, 0)])
def test_the_budget_of_pictures_is_kept(tmp_path: Path, budget: int, spent: int) -> None:
    painter = Painter()
    config = PromptSearchSettings(num_rounds=3, num_variants=6, num_seeds=2, num_elites=2, max_images=budget)
    result = search(tmp_path, painter, config)
    assert painter.drawn == result.images_spent == spent
    assert result.prompt == "a boat" or spent > 2


def test_every_variant_picture_and_score_is_in_the_table(tmp_path: Path) -> None:
    painter = Painter()
    search(tmp_path, painter)
    lines = (tmp_path / "variants.jsonl").read_text().splitlines()
    rows = [VariantRecord(**row) for line in lines[1:] for row in json.loads(line)]
    assert [(row.prompt, seed) for row in rows for seed in row.seeds] == painter.requests
    for row in rows:
        for file, seed, reward in zip(row.files, row.seeds, row.rewards, strict=True):
            pixels = torch.from_numpy(np.array(Image.open(tmp_path / file))).permute(2, 0, 1) / 255
            painted = painter.paint(row.prompt, seed)
            torch.testing.assert_close(pixels, painted, atol=0.51 / 255, rtol=0)
            assert reward == pytest.approx(float(likes_blue(painted[None], ["a boat"], ["ada"]).mean))


def test_seeds_are_shared_within_a_round_and_fresh_in_the_next_and_the_best_are_drawn_again(tmp_path: Path) -> None:
    search(tmp_path)
    lines = (tmp_path / "variants.jsonl").read_text().splitlines()[1:]
    rounds = [[VariantRecord(**row) for row in json.loads(line)] for line in lines]
    seeds = [{tuple(row.seeds) for row in rows} for rows in rounds]
    assert [len(s) for s in seeds] == [1, 1, 1]
    assert len(set.union(*seeds)) == 3
    assert rounds[0][0].prompt == "a boat"
    for before, after in pairwise(rounds):
        best = max((row for row in before if not row.refused), key=lambda row: float(np.mean(row.rewards)))
        assert best.prompt in [row.prompt for row in after[:2]]


def test_a_search_cut_off_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole")
    search(tmp_path / "cut", config=CONFIG)
    path = tmp_path / "cut" / "variants.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:40])  # killed in the middle of writing the second round
    painter = Painter()
    assert search(tmp_path / "cut", painter) == whole
    assert painter.drawn == 24
    assert path.read_text() == (tmp_path / "whole" / "variants.jsonl").read_text()


def test_a_folder_with_another_search_is_refused(tmp_path: Path) -> None:
    search(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds a search with other settings; .*remove that folder"):
        search(tmp_path, config=PromptSearchSettings(num_rounds=2))


def test_luck_does_not_win_over_many_pictures(tmp_path: Path) -> None:
    table = SearchTable(tmp_path, {})
    lucky = VariantRecord(0, "lucky", [1, 2], [2.0, 4.4], [], False, [])
    steady = VariantRecord(0, "steady", [1, 2, 3, 4, 5, 6, 7, 8], [2.0, 4.0] * 4, [], False, [])
    table.add_round([lucky, steady])
    assert table.ranked()[0] == ScoredPrompt("lucky", pytest.approx(3.2), None, 2)
    assert table.best() == ScoredPrompt("steady", pytest.approx(3.0), None, 8)


def test_rewards_that_are_no_numbers_never_win(tmp_path: Path) -> None:
    table = SearchTable(tmp_path, {})
    table.add_round(
        [
            VariantRecord(0, "broken", [1], [float("nan")], [], False, []),
            VariantRecord(0, "b", [1], [1.0], [], False, []),
        ]
    )
    best = table.best()
    assert best is not None
    assert best.prompt == "b"


def test_nothing_is_searched_against_a_judge(tmp_path: Path) -> None:
    def judge(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> Verdict:
        return Verdict(torch.zeros(len(images)))

    with pytest.raises(ConfigError, match="the reward to train against is a judge"):
        search_prompt("a boat", "ada", PROPOSE, Painter(), judge, None, CONFIG, tmp_path)  # type: ignore[arg-type]


def test_found_prompts_are_drawn_in_place_of_requests_from_the_same_seeds() -> None:
    painter = Painter()
    PromptedGenerator(painter, {"a boat": "a boat, in blue"})(["a boat", "a tree"], [3, 4])
    assert painter.requests == [("a boat, in blue", 3), ("a tree", 4)]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_rounds": 0}, "search.num_rounds is 0; use 1 or more"),
        ({"num_elites": 15}, "search.num_elites is 15 but only 15 prompts are drawn a round"),
        ({"faithfulness_share": 1.5}, "search.faithfulness_share is 1.5; it is a share"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        PromptSearchSettings(**{**asdict(PromptSearchSettings()), **settings})
