from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image

from pamela_rl.evaluation.contact_sheets import save_contact_sheet
from pamela_rl.evaluation.training_curves import draw_curves, in_unit_interval


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_run_draws_its_curves_and_one_row_of_images_per_validation(tmp_path: Path) -> None:
    write(
        tmp_path / "metrics.jsonl",
        [{"iteration": i, "rollout/reward_mean": i / 10, "train/grad_norm": None if i == 1 else 0.1} for i in range(4)],
    )
    write(
        tmp_path / "validation.jsonl",
        [{"iteration": i, "eval/reward_mean": 1.0, "eval/diversity": 0.2} for i in (0, 2, 4)],
    )
    (tmp_path / "validation").mkdir()
    for shade, iteration in ((0.0, 0), (0.5, 2), (1.0, 4)):
        save_contact_sheet(
            torch.full((8, 3, 16, 16), shade), tmp_path / "validation" / f"{iteration:06d}.png", 4, scale=1
        )
    assert [path.name for path in draw_curves(tmp_path, 4)] == ["curves.png", "taste.png"]
    with Image.open(tmp_path / "taste.png") as strip:
        assert strip.size == (4 * 128, 3 * 128)
        assert [strip.getpixel((5, y))[0] for y in (5, 200, 300)] == [0, 128, 255]  # type: ignore[index]
    with Image.open(tmp_path / "curves.png") as curves:
        assert curves.size[0] > 800


def test_a_run_without_validation_has_curves_only_and_one_without_rows_has_nothing(tmp_path: Path) -> None:
    assert draw_curves(tmp_path, 4) == []
    write(tmp_path / "metrics.jsonl", [{"iteration": i, "rollout/reward_mean": 0.0} for i in range(2)])
    assert [path.name for path in draw_curves(tmp_path, 4)] == ["curves.png"]


def test_the_strip_shows_eight_whole_pictures_at_most_of_any_shape(tmp_path: Path) -> None:
    write(tmp_path / "validation.jsonl", [{"iteration": i, "eval/reward_mean": 1.0} for i in (0, 2)])
    (tmp_path / "validation").mkdir()
    for iteration in (0, 2):
        sheet = torch.arange(22).view(22, 1, 1, 1).expand(-1, 3, 16, 12) / 22
        save_contact_sheet(sheet, tmp_path / "validation" / f"{iteration:06d}.png", 11, scale=1)
    assert [path.name for path in draw_curves(tmp_path, 11)] == ["taste.png"]
    with Image.open(tmp_path / "taste.png") as strip:
        assert strip.size == (8 * 96, 2 * 128)
        assert strip.getpixel((8 * 96 - 5, 5)) == (round(255 * 7 / 22),) * 3


def test_a_score_of_faithfulness_that_is_no_share_keeps_its_unit_and_has_an_axis_of_its_own(tmp_path: Path) -> None:
    rows = [{"iteration": i, "rollout/faithfulness_mean": 25.0 - i, "rollout/reward_mean": 1.0} for i in range(3)]
    assert not in_unit_interval(rows, "faithfulness_mean")
    assert in_unit_interval(
        [{"eval/faithfulness_mean": 0.5}, {"eval/faithfulness_mean": None}, {}], "faithfulness_mean"
    )
    write(tmp_path / "metrics.jsonl", rows)
    assert [path.name for path in draw_curves(tmp_path, 4)] == ["curves.png"]
