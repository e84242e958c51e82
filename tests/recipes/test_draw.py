"""Images are drawn once each, spread over prompts, and nothing that is rated is ever lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from draw import DrawConfig, draw
from PIL import Image

from pamela_rl.cli.command_line import read_config
from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.adapters import add_adapter, remove_adapter, save_adapter
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.errors import AdapterError, ConfigError, DataError
from pamela_rl.evaluation.rating_sheet import RatingSheet
from pamela_rl.steering.generators import PipelineGenerator

QUICK = ["--num_inference_steps=2", "--batch_size=4"]


def started(folder: Path, *flags: str) -> RatingSheet:
    draw(read_config(DrawConfig, "", [f"--output_dir={folder}", *QUICK, *flags]))
    return RatingSheet.read(folder / "ratings.csv")


def pixels(folder: Path) -> dict[str, bytes]:
    return {file.name: Image.open(file).tobytes() for file in sorted(folder.glob("*.png"))}


def test_images_go_through_the_prompts_in_turn_each_from_noise_of_its_own(
    tmp_path: Path, policy: Policy, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text('a boat\n\na "tree", at night\n', encoding="utf-8")
    folder = tmp_path / "my pictures"
    sheet = started(folder, f"--prompts={prompts}", "--num_images=4")
    assert sheet.columns == ("image", "prompt", "rating")
    assert sheet.values("image") == ["0000.png", "0001.png", "0002.png", "0003.png"]
    assert sheet.values("prompt") == ["a boat", 'a "tree", at night'] * 2
    assert sheet.values("rating") == [""] * 4
    assert len(set(pixels(folder).values())) == 4
    seeds = [generator_for(0, number).initial_seed() for number in range(4)]
    images = PipelineGenerator(policy.pipeline, None, 2, 1.0, 4)(sheet.values("prompt"), seeds)
    expected = (images[3] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "0003.png")), expected)
    said = capsys.readouterr().out
    assert f"4 images in {folder}, 0 of them rated." in said
    assert f"1. Open '{folder / 'rate.html'}' in a browser" in said
    assert f"pamela fit --source.path '{folder}' --output_dir outputs/my-reward" in said


def test_a_run_that_was_stopped_draws_what_is_missing_and_a_larger_one_adds_and_ratings_stay(tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    started(folder, "--num_images=3")
    whole, written = pixels(folder), (folder / "0000.png").stat().st_mtime_ns
    table = folder / "ratings.csv"
    rated = table.read_text(encoding="utf-8").replace("a tree,\n", "a tree,5\n")
    assert rated.count(",5\n") == 1
    table.write_text(rated.replace("0002.png", "gone.png"), encoding="utf-8")  # a row of the user's own, and one lost
    (folder / "0001.png").unlink()
    other = tmp_path / "other.txt"
    other.write_text("a house at night\n", encoding="utf-8")
    sheet = started(folder, "--num_images=5", f"--prompts={other}")
    after = pixels(folder)
    assert (folder / "0000.png").stat().st_mtime_ns == written
    assert {name: after[name] for name in whole} == whole  # also 0001, which keeps the prompt it was drawn for
    assert list(after) == [f"000{number}.png" for number in range(5)]
    assert table.read_text(encoding="utf-8").startswith(rated.replace("0002.png", "gone.png"))
    assert sheet.values("image")[2:] == ["gone.png", "0002.png", "0003.png", "0004.png"]
    assert sheet.values("prompt")[-2:] == ["a house at night"] * 2
    assert sheet.values("prompt")[3] == sheet.values("prompt")[2]


def test_a_folder_of_anything_else_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    started(folder, "--num_images=1")
    same = [f"--output_dir={folder}", *QUICK]
    with pytest.raises(ConfigError, match=r"seed is 3, but the images in .*drawn were drawn with 0; set it so to add"):
        read_config(DrawConfig, "", [*same, "--seed=3"])
    with pytest.raises(ConfigError, match=r"model.name is 'flow', but the images in .* were drawn with 'world'"):
        read_config(DrawConfig, "", [*same, "--model.name=flow"])
    with pytest.raises(ConfigError, match=r"is not empty and was not drawn by this recipe; choose another, or rate"):
        read_config(DrawConfig, "", [f"--output_dir={tmp_path}"])
    (folder / "drawn.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match=r"drawn.json cannot be read"):
        read_config(DrawConfig, "", same)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--num_images=0"], "num_images is 0; use 1 or more"),
        (["--seed=-1"], "seed is -1; use 0 or more"),
        (["--guidance_scale=0.5"], "guidance_scale is 0.5; use 1, which is no guidance, or more"),
        (
            ["--model.name=some/model"],
            "the base model is some/model, for which no prompts are known; give --prompts FILE",
        ),
        (["--model.shard=true"], "drawn by one process; use model.offload"),
        (["--images=nowhere"], "images is nowhere, but there is no such folder"),
        (["--images=recipes"], "images is recipes, which holds no .png"),
        (
            ["--images=recipes", "--prompts=x.txt"],
            "prompts is x.txt, but nothing reads it: images are your own, so nothing is drawn",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(flags: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_config(DrawConfig, "", flags)


def test_an_adapter_draws_by_its_folder_or_by_run_and_user(tmp_path: Path, policy: Policy) -> None:
    run = tmp_path / "run"
    for lora in add_adapter(policy, "x", LoraSettings(4, 4), 0):
        torch.nn.init.normal_(lora, std=0.3)
    folder = save_adapter(policy, "x", "ada", run, {"base_model": "world 64 x 64 float32"}, {})
    remove_adapter(policy, "x")
    started(tmp_path / "base", "--num_images=1")
    started(tmp_path / "by-folder", "--num_images=1", f"--adapter={folder}")
    started(tmp_path / "by-user", "--num_images=1", f"--adapter={run}", "--user=ada")
    base, by_folder, by_user = (pixels(tmp_path / name) for name in ("base", "by-folder", "by-user"))
    assert by_folder == by_user != base
    digest = json.loads((tmp_path / "by-user" / "drawn.json").read_text(encoding="utf-8"))["settings"]["adapter"]
    with pytest.raises(ConfigError, match=f"adapter is None, but the images in .* were drawn with '{digest}'"):
        started(tmp_path / "by-user", "--num_images=1")
    with pytest.raises(AdapterError, match="has no adapter of user 'bob'; it has those of: ada"):
        started(tmp_path / "bob", f"--adapter={run}", "--user=bob")
    with pytest.raises(AdapterError, match=r"run holds no adapter.json, so it is no adapter; give the folder of one"):
        started(tmp_path / "bob", f"--adapter={run}")
    with pytest.raises(ConfigError, match=r"model.name is 'flow', but the adapter in .* is of 'world'"):
        started(tmp_path / "bob", f"--adapter={folder}", "--model.name=flow")


def test_images_of_ones_own_get_a_table_and_a_page_without_a_model(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    draw(read_config(DrawConfig, "", [f"--images={tmp_path}"]))
    assert (tmp_path / "ratings.csv").read_text(encoding="utf-8") == "image,rating\na.png,\nb.jpg,\n"
    assert (tmp_path / "rate.html").exists()
    assert not (tmp_path / "drawn.json").exists()
