"""What a push uploads, as the hub's own client sends it to a server on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import TOKEN, HubServer
from huggingface_hub import ModelCard
from safetensors.torch import load

import pamela_rl
from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.adapters import add_adapter, save_adapter
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import STRENGTH
from pamela_rl.errors import AdapterError
from pamela_rl.rewards.baselines.population_baselines import PopulationMean
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.personal import FittedOn, PersonalReward
from pamela_rl.sharing.identity import copy_adapter

USER = "Ada Lovelace"
BASE = "stabilityai/stable-diffusion-3.5-medium"
SCRIPT = """
import os
import sys
import pamela_rl
from pamela_rl.errors import PamelaError

run, reward = sys.argv[1:]
print(pamela_rl.push_to_hub(run, "ada/hers", "Ada Lovelace"))
pamela_rl.push_to_hub(run, "ada/open", "Ada Lovelace", private=False, with_identity=True)
pamela_rl.push_to_hub(reward, "ada/taste")
for name, token in (("ada/open", None), ("ada/no/name", None), ("ada/hers", "hf_wrong")):
    os.environ["HF_TOKEN"] = token or os.environ["HF_TOKEN"]
    try:
        pamela_rl.push_to_hub(run, name, "Ada Lovelace")
    except PamelaError as error:
        print(type(error).__name__, error)
"""


def pushed(server: HubServer, *folders: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": server.url, "HF_TOKEN": TOKEN, "HF_HOME": str(folders[0] / "none")}
    command = [sys.executable, "-c", SCRIPT, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "hf_" not in done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as running:
        yield running


@pytest.fixture
def run(policy: Policy, tmp_path: Path) -> Path:
    (weights,) = add_adapter(policy, "ada", LoraSettings(rank=2, alpha=4), seed=0)
    torch.nn.init.normal_(weights)
    info = {"base_model": f"{BASE} 512 x 512", "ratings": "5ec3e7", "reward": f"in {tmp_path}", STRENGTH: "0.75"}
    save_adapter(policy, "ada", USER, tmp_path / "run", info | {"neighbours": "ben, eve"}, {"samples.png": b"x"})
    (tmp_path / "run" / "adapters" / "ada-lovelace-notes.txt").write_text(USER)
    return tmp_path / "run"


@pytest.fixture
def reward(tmp_path: Path) -> Path:
    encoder, ratings = PixelEncoder(), torch.ones(2, dtype=torch.float64)
    encoder.name = str(tmp_path / "encoder")
    model = PopulationMean((USER, "ben"), torch.arange(2), ratings, ratings.clone(), 3.0, 1.0, 0.5)
    answers = FittedOn(frozenset([USER, "ben"]), frozenset(["holiday.png"]), answers={USER: "5ec3e7"})
    PersonalReward(encoder, model, answers).save(tmp_path / "reward")
    return tmp_path / "reward"


def test_adapters_and_rewards_are_pushed_without_whose_they_are_unless_asked(
    server: HubServer, run: Path, reward: Path, tmp_path: Path
) -> None:
    said = pushed(server, run, reward)
    assert server.repositories == {"ada/hers": True, "ada/open": False, "ada/taste": True}
    commits = dict(server.commits)
    assert len(server.commits) == len(commits) == 3  # nothing went to a public repository that should be private
    names = ["README.md", "adapter.json", "comfyui.safetensors", "pytorch_lora_weights.safetensors", "samples.png"]
    assert sorted(commits["ada/hers"]) == sorted(commits["ada/open"]) == names
    assert sorted(commits["ada/taste"]) == ["README.md", "reward.json", "reward.safetensors"]
    secrets = [USER.encode(), b"lovelace", b"5ec3e7", b"ben", b"holiday", str(tmp_path).encode()]
    for repository in ("ada/hers", "ada/taste"):
        for name, content in commits[repository].items():
            assert not [secret for secret in secrets if secret in content], name

    [folder] = pamela_rl.list_adapters(run).values()
    for name in (name for name in names if name.endswith("safetensors")):
        ours, theirs = load((folder / name).read_bytes()), load(commits["ada/hers"][name])
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    facts = json.loads(commits["ada/hers"]["adapter.json"])
    assert facts == {
        "base_model": f"{BASE} 512 x 512",
        "reward": "not told",
        "rank": "2",
        "alpha": "4",
        STRENGTH: "0.75",
    }
    assert ModelCard(commits["ada/hers"]["README.md"].decode()).data.base_model == BASE
    assert commits["ada/open"] == {name: (folder / name).read_bytes() for name in names}

    config = json.loads(commits["ada/taste"]["reward.json"])
    assert config["model"]["user_ids"] == ["person-1", "person-2"]
    assert config["fitted_on"]["users"] == ["person-1", "person-2"]
    assert config["encoder_name"] == "encoder"
    (tmp_path / "downloaded").mkdir()
    for name, content in commits["ada/taste"].items():
        (tmp_path / "downloaded" / name).write_bytes(content)
    again = PersonalReward.load(tmp_path / "downloaded", PixelEncoder())
    assert again(torch.rand(1, 3, 32, 32), [""], ["person-2"]).mean == 3.0

    lines = said.splitlines()
    assert lines[0].startswith(
        "Uploading to the private repository ada/hers, without user_id, ratings, reward, neighbours"
    )
    assert all(name in lines[0] for name in names)
    assert lines[1] == str(names)
    assert lines[2].startswith("Uploading to the PUBLIC repository ada/open, with all they tell of people: README.md")
    assert "ConfigError the repository ada/open is public already" in said
    assert "ConfigError repo_id is 'ada/no/name', which no repository can be called; give OWNER/NAME." in said
    assert "ServiceError the hub did not take the files for ada/hers (" in said
    assert "log in with 'hf auth login'" in said


def test_what_is_no_adapter_is_refused_before_anything_is_sent(run: Path) -> None:
    with pytest.raises(AdapterError, match="has no adapter of user 'eve'"):
        pamela_rl.push_to_hub(run, "ada/hers", "eve")
    with pytest.raises(AdapterError, match=r"holds no adapter\.json"):
        pamela_rl.push_to_hub(run, "ada/hers")


def test_a_folder_that_looks_like_an_id_of_the_hub_is_not_told_from_elsewhere(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    add_adapter(policy, "ada", LoraSettings(rank=2, alpha=4), seed=0)
    folder = save_adapter(policy, "ada", "ada", tmp_path, {"base_model": "models/mine 8 x 8"}, {})
    (tmp_path / "target").mkdir()
    monkeypatch.chdir(tmp_path / "target")
    assert "base_model" in copy_adapter(folder, tmp_path / "target")
    for file in (tmp_path / "target").iterdir():
        assert b"mine 8" not in file.read_bytes()
    assert json.loads((tmp_path / "target" / "adapter.json").read_text())["base_model"] == "a local model"


def test_a_copy_says_the_shipped_model_it_is_for_and_how_it_is_drawn(policy: Policy, tmp_path: Path) -> None:
    add_adapter(policy, "ada", LoraSettings(rank=2, alpha=4), seed=0)
    drawn = {
        "num_inference_steps": "20",
        "guidance_scale": "4",
        "negative_prompt": "fog",
        "height": "64",
        "width": "64",
    }
    folder = save_adapter(policy, "ada", "ada", tmp_path, {"base_model": "world 64 x 64 float32", **drawn}, {})
    (tmp_path / "target").mkdir()
    assert copy_adapter(folder, tmp_path / "target") == ["user_id"]
    facts = json.loads((tmp_path / "target" / "adapter.json").read_text(encoding="utf-8"))
    assert facts == {"rank": "2", "alpha": "4", "base_model": "world 64 x 64 float32", **drawn}
