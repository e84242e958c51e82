from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from local_server import LocalServer, Reply, gemini, png
from safetensors import safe_open
from small_taste_basis import small_taste_basis
from torch import Tensor

from pamela_rl.config import LoraSettings
from pamela_rl.data.phrases import Phrasebook
from pamela_rl.diffusion.adapters import add_adapter, load_adapter, remove_adapter, save_adapter
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.evaluation.arms import ArmMaker
from pamela_rl.evaluation.identity import chat_identity, digest_of, pipeline_identity, reward_digest, service_identity
from pamela_rl.evaluation.settings import DrawingSettings
from pamela_rl.evaluation.source import Source
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.steering.chat import EndpointChat
from pamela_rl.steering.http import EndpointSettings
from pamela_rl.steering.ledger import Budget
from pamela_rl.steering.remote import RemoteGenerator
from pamela_rl.steering.services import GeminiImages, OpenAIImages
from pamela_rl.steering.settings import NoiseSearchSettings, PromptSearchSettings

DRAWING = DrawingSettings(num_inference_steps=2, search_inference_steps=1, height=32, width=32)
SEARCH = PromptSearchSettings(num_rounds=1, num_variants=2, num_seeds=1, num_elites=1, max_images=2)
BOOK = Phrasebook({"light": ("at noon", "at night")})
USER = "a"


class FivePixels:
    """An encoder of five numbers an image."""

    name = fingerprint = "five pixels"
    reads_prompts = True

    def encode(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return images.mean(dim=1).flatten(1)[:, :5]


def a_reward(shift: float = 0.0) -> PersonalReward:
    basis = small_taste_basis()
    return PersonalReward(FivePixels(), replace(basis, means=basis.means + shift))


def a_source(pipeline: Any, remote: RemoteGenerator | None, run: Path, reward: PersonalReward) -> Source:
    prompts = ["a boat", "a tree"]
    return Source(run, pipeline, remote, [USER], reward, {"reward": reward}, prompts, prompts, BOOK, remote is None)


def drawn(source: Source, folder: Path, arm: str, **changes: Any) -> Tensor:
    """Images of one arm, from a maker of its own, as a run of the recipe would have."""
    drawing = replace(DRAWING, **changes)
    maker = ArmMaker(source, folder, drawing, 4, SEARCH, NoiseSearchSettings(num_steps=1), None, {})
    maker.describe(12)
    (made,) = maker.make([arm], USER, 2)
    return made.generate(source.prompts, [1, 2])


def new_run(pipeline: Any, folder: Path, seed: int, facts: Mapping[str, str] | None = None) -> Path:
    """A run with one adapter that was never trained but does something, and says more of itself."""
    policy = policy_for(pipeline, 32, 32)
    for weight in add_adapter(policy, "x", LoraSettings(rank=2, alpha=2), seed):
        weight.data += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    save_adapter(policy, "x", USER, folder, {"images_spent": "4", **(facts or {})}, {})
    remove_adapter(policy, "x")
    load_adapter(pipeline, folder, USER)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A pipeline, and a run whose adapter is loaded into it."""
    pipeline = load_pipeline("world")
    return pipeline, new_run(pipeline, tmp_path_factory.mktemp("run"), 0)


def test_another_adapter_gets_images_of_its_own_and_the_same_is_not_drawn_again(tmp_path: Path) -> None:
    images = []
    for seed in (0, 1, 0):
        pipeline = load_pipeline("world")
        source = a_source(pipeline, None, new_run(pipeline, tmp_path / f"run-{seed}", seed), a_reward())
        images.append(drawn(source, tmp_path / "out", "own"))
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])
    (file,) = (tmp_path / "out" / "drawings").glob("a.own.*")
    written = file.stat().st_mtime_ns
    assert torch.equal(drawn(source, tmp_path / "out", "own", batch_size=1), images[2])
    assert file.stat().st_mtime_ns == written
    assert not torch.equal(drawn(source, tmp_path / "out", "own", num_inference_steps=3), images[2])


def test_an_adapter_is_drawn_at_its_strength_and_kept_by_it(finished: tuple[Any, Path], tmp_path: Path) -> None:
    pipeline, run = finished
    source = a_source(pipeline, None, run, a_reward())
    base, own = (drawn(source, tmp_path / "out", arm) for arm in ("base", "own"))

    def at(*strengths: float) -> list[Tensor]:
        maker = ArmMaker(source, tmp_path / "out", DRAWING, 4, SEARCH, NoiseSearchSettings(num_steps=1), None, {})
        return [draw(source.prompts, [1, 2]) for draw in maker.at_strengths(USER, strengths).values()]

    half, full, none = at(0.5, 1.0, 0.0)
    assert torch.equal(full, own)
    assert torch.equal(none, base)
    assert 0 < (half - base).abs().mean() < (own - base).abs().mean()
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "drawings").iterdir()}
    assert len(files) == 6  # with the images that describe tastes
    keys = set()
    for file in files:
        with safe_open(str(file), "pt") as kept:
            keys.add(kept.metadata()["key"])
    assert len(keys) == 6  # what is kept is known by its strength, not by its name alone
    assert torch.equal(at(0.5)[0], half)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "drawings").iterdir()} == files
    assert torch.equal(drawn(source, tmp_path / "elsewhere", "own"), own)  # whatever strength was drawn before


@pytest.mark.parametrize("arm", ["best_of_n", "noise_search", "prompt_search"])
def test_another_reward_gets_images_of_its_own(finished: tuple[Any, Path], tmp_path: Path, arm: str) -> None:
    pipeline, run = finished
    first = a_source(pipeline, None, run, a_reward())
    drawn(first, tmp_path / "out", arm)
    kept = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    drawn(first, tmp_path / "out", arm)
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()} == kept
    drawn(a_source(pipeline, None, run, a_reward(shift=-3.0)), tmp_path / "out", arm)
    if arm == "prompt_search":
        assert len(list((tmp_path / "out" / "searches" / USER).iterdir())) == 2
    else:
        (file,) = (tmp_path / "out" / "drawings").glob(f"a.{arm}.*")
        assert file.read_bytes() != kept[file]


def test_another_service_gets_requests_of_its_own(tmp_path: Path) -> None:
    colours = {"/one": (250, 10, 10), "/two": (10, 10, 250)}
    seen: list[str] = []

    def remote(url: str, model: str) -> RemoteGenerator:
        endpoint = EndpointSettings(url, None, requests_per_minute=100_000)
        return RemoteGenerator(
            GeminiImages(model), endpoint, Budget(1000, 0.0, 1.0), tmp_path / "bought", height=8, width=8
        )

    images = {}
    for colour in colours.values():
        with LocalServer(Reply(gemini(png(colour, (8, 8))).body)) as server:
            for model in ("m", "n"):
                source = a_source(None, remote(server.url, model), tmp_path / "run", a_reward())
                images[colour, model] = drawn(source, tmp_path / "out", "base")
                seen.append(f"{len(server.requests)}")
    assert not torch.equal(images[(250, 10, 10), "m"], images[(10, 10, 250), "m"])
    assert seen == ["14", "28", "14", "28"]  # twelve to describe tastes and two to compare, for each service and model


def test_a_services_identity_holds_its_model_and_settings_and_the_size_of_images(tmp_path: Path) -> None:
    def identity(model: str, quality: str, height: int) -> str:
        endpoint, budget = EndpointSettings("http://localhost:1", None), Budget(1, 0.0, 1.0)
        service = OpenAIImages(model, quality=quality)
        return digest_of(service_identity(RemoteGenerator(service, endpoint, budget, tmp_path, height=height, width=8)))

    assert identity("m", "low", 8) == identity("m", "low", 8)
    assert (
        len({identity("m", "low", 8), identity("n", "low", 8), identity("m", "high", 8), identity("m", "low", 9)}) == 4
    )


def test_a_pipelines_identity_is_that_of_its_weights_not_of_its_adapters(tmp_path: Path) -> None:
    pipeline = load_pipeline("world")
    before = pipeline_identity(pipeline)
    new_run(pipeline, tmp_path, 0)
    assert pipeline_identity(pipeline) == before
    next(pipeline.vae.parameters()).data.add_(1.0)
    assert pipeline_identity(pipeline)["weights"] != before["weights"]
    assert pipeline_identity(load_pipeline("flow"))["weights"] != before["weights"]


def test_a_rewards_digest_follows_its_numbers_and_its_encoder() -> None:
    reward = a_reward()
    other = PersonalReward(FivePixels(), reward.model)
    other.encoder.fingerprint = "others"  # type: ignore[misc]
    assert reward_digest(reward) == reward_digest(a_reward())
    assert len({reward_digest(reward), reward_digest(a_reward(0.1)), reward_digest(other)}) == 3


def test_a_chat_model_is_known_by_its_address_name_and_temperature() -> None:
    def chat(url: str, model: str, temperature: float) -> EndpointChat:
        return EndpointChat(EndpointSettings(url, None), model, temperature=temperature)

    ours = chat("http://localhost:1", "m", 0.5)
    others = [
        chat("http://localhost:2", "m", 0.5),
        chat("http://localhost:1", "n", 0.5),
        chat("http://localhost:1", "m", 0),
    ]
    assert chat_identity(ours) == chat_identity(chat("http://localhost:1", "m", 0.5))
    assert all(chat_identity(other) != chat_identity(ours) for other in others)
    assert chat_identity(None) is None
