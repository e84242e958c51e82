"""Ratings of what an adapter draws are added to what is known, and training goes on from it; or from rated images alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from draw import DrawConfig, draw
from safetensors.torch import load_file
from train import TrainRecipeConfig, train_users

from pamela_rl.agreement.add_people import add_people
from pamela_rl.cli.command_line import read_config
from pamela_rl.data.settings import SourceSettings
from pamela_rl.errors import AdapterError, ConfigError, DataError, PamelaError
from pamela_rl.evaluation.rating_sheet import RatingSheet
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.personal import FittedOn, PersonalReward
from pamela_rl.rewards.preference import ImageFeatures, RatingData, RatingTensors
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.storage import read_metrics

SHORT = [
    "--model.name=world", "--train.num_iterations=1", "--train.images_per_iteration=4", "--train.group_size=2",
    "--train.batch_size=4", "--train.sampling.num_inference_steps=3", "--train.sampling.train_steps=1",
    "--train.validation.every=0", "--train.validation.strengths=[]", "--num_inference_steps=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of the base model, of which the bright ones are liked."""
    folder = tmp_path_factory.mktemp("rated") / "pictures"
    draw(read_config(DrawConfig, "", [f"--output_dir={folder}", "--num_images=8", "--num_inference_steps=2"]))
    rate(folder)
    return folder


def rate(folder: Path, **columns: object) -> None:
    table = pd.read_csv(folder / "ratings.csv")
    table = table.assign(rating=[1 + number % 5 for number in range(len(table))], **columns)
    table.to_csv(folder / "ratings.csv", index=False)


@pytest.fixture
def reward(pictures: Path, tmp_path: Path) -> Path:
    from PIL import Image

    files = sorted(pictures.glob("*.png"))
    images = torch.stack([torch.from_numpy(np.array(Image.open(f))).permute(2, 0, 1).float() / 255 for f in files])
    features = PixelEncoder().encode(images, [""] * len(files))
    rows = torch.arange(len(files))
    ratings = RatingTensors(torch.zeros_like(rows), rows, 1.0 + (rows % 5).double())
    model = fit_taste_basis(RatingData(ImageFeatures(features), ratings, ("me",)))
    fitted_on = FittedOn(frozenset({"me"}), frozenset(map(str, files)), prompts=False, bounded=True)
    PersonalReward(PixelEncoder(), model, fitted_on).save(tmp_path / "reward")
    return tmp_path / "reward"


def trained(out: Path, *flags: str) -> dict[str, torch.Tensor]:
    train_users(read_config(TrainRecipeConfig, "", [f"--output_dir={out}", *SHORT, *flags]))
    return load_file(out / "adapters" / "me" / "pytorch_lora_weights.safetensors")


@pytest.mark.parametrize("algorithm", ["sft", "dpo"])
def test_an_adapter_learns_from_rated_images_without_a_reward(
    pictures: Path, tmp_path: Path, algorithm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = trained(tmp_path / "out", f"--source.path={pictures}", f"--algorithm={algorithm}")
    assert any(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name)
    said = capsys.readouterr().out
    assert "1 iterations of 4 of the rated images, none sampled" in said
    assert "0 to sample" in said
    facts = json.loads((tmp_path / "out" / "adapters" / "me" / "adapter.json").read_text())
    assert facts["images_spent"] == "0"
    assert facts["reward"] == "none: learned from rated images"


def test_training_goes_on_from_an_adapter(reward: Path, tmp_path: Path) -> None:
    first = trained(tmp_path / "first", f"--reward={reward}")
    still = trained(tmp_path / "still", f"--reward={reward}", f"--start={tmp_path / 'first'}", "--train.advantages.zero=true",
                    "--algorithm={name: ddpo, kl_weight: 0.0, weight_decay: 0.0}", "--train.sampling.eta=1.0")  # fmt: skip
    for name, tensor in first.items():
        torch.testing.assert_close(still[name], tensor)
    metrics = read_metrics(tmp_path / "first" / "users" / "me" / "metrics.jsonl")
    assert metrics[0]["rollout/lacks_of_prompt_mean"] >= 0
    with pytest.raises(
        AdapterError, match=r"has rank 8 on 32 layers, the one to train has rank 4 on 32; set train.lora"
    ):
        trained(tmp_path / "other", f"--reward={reward}", f"--start={tmp_path / 'first'}", "--train.lora.rank=4")


def test_of_many_images_those_are_kept_whose_ratings_tell_most(reward: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "second"
    flags = [
        f"--output_dir={out}",
        f"--reward={reward}",
        "--num_images=3",
        "--num_candidates=8",
        "--num_inference_steps=2",
    ]
    draw(read_config(DrawConfig, "", flags))
    names = RatingSheet.read(out / "ratings.csv").values("image")
    assert len(names) == 3
    plain = tmp_path / "plain"
    draw(read_config(DrawConfig, "", [f"--output_dir={plain}", "--num_images=8", "--num_inference_steps=2"]))
    assert all((out / name).read_bytes() == (plain / name).read_bytes() for name in names)
    draw(read_config(DrawConfig, "", flags))  # again: the same
    assert RatingSheet.read(out / "ratings.csv").values("image") == names
    with pytest.raises(ConfigError, match="num_candidates is 2, fewer than num_images"):
        read_config(DrawConfig, "", [*flags[:3], "--num_candidates=2"])


def test_answers_of_a_known_person_are_added_to_what_is_known(reward: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "more"
    draw(read_config(DrawConfig, "", [f"--output_dir={out}", "--num_images=6", "--num_inference_steps=2", "--seed=5"]))
    rate(out)
    before = PersonalReward.load(reward, PixelEncoder())
    said = add_people(reward, SourceSettings(path=str(out), user="me"), tmp_path / "cache")
    assert "more answers of me" in said
    after = PersonalReward.load(reward, PixelEncoder())
    from PIL import Image

    images = torch.stack(
        [torch.from_numpy(np.array(Image.open(out / f"000{n}.png"))).permute(2, 0, 1).float() / 255 for n in range(6)]
    )
    old, new = (r.model.predict(r.features(images, [""] * 6), ["me"] * 6) for r in (before, after))
    assert old.std is not None
    assert new.std is not None
    assert bool((new.std < old.std).all())
    given = torch.tensor([1.0 + n % 5 for n in range(6)])
    assert (new.mean - given).abs().mean() < (old.mean - given).abs().mean()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "nft learns from a reward, but reward is not given"),
        (["--algorithm=sft"], "sft learns from images that people rated, but there are none; give their folder"),
        (["--algorithm=sft", "--source.path=nowhere"], "source.path is nowhere"),
        (["--algorithm={name: dpo, beta: 0}", "--source.path=."], "dpo's beta is 0"),
    ],
)
def test_what_lacks_something_to_learn_from_is_refused_with_the_config(flags: list[str], sentence: str) -> None:
    with pytest.raises(PamelaError, match=sentence):
        read_config(TrainRecipeConfig, "", flags)


def test_rated_images_without_prompts_are_refused(pictures: Path, tmp_path: Path) -> None:
    table = pd.read_csv(pictures / "ratings.csv").drop(columns="prompt")
    table.to_csv(tmp_path / "ratings.csv", index=False)
    flags = [f"--source.path={tmp_path / 'ratings.csv'}", f"--source.images={pictures}", "--algorithm=sft"]
    with pytest.raises(DataError, match="does not say which prompts its images were made for"):
        trained(tmp_path / "out", *flags)
