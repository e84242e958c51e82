from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

from pamela_rl.errors import AdapterError, ConfigError, UnknownUserError
from pamela_rl.steering.rewriter import (
    PromptRewriter,
    RewritingGenerator,
    SeededGumbelNoise,
    load_language_model,
)
from pamela_rl.steering.rewriter_reward import RewriteReward
from pamela_rl.steering.rewriter_training import train_rewriter
from pamela_rl.steering.settings import GrpoSettings
from pamela_rl.types import RewardOutput
from pamela_rl.world.rewriter import answer_loss, make_language_model, make_tokenizer

DESCRIPTIONS = {"ada": "likes at night", "bo": "likes at noon"}
REQUESTS = ["a boat", "a house", "a tree", "a cactus"]
SHORT = GrpoSettings(
    num_steps=8, completions_per_step=64, group_size=8, batch_size=64, learning_rate=1e-2, kl_weight=0.01, rank=8
)
QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def paint(prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
    """Draw pictures of one grey: dark where the prompt says night, light where it says noon."""
    levels = [0.5 + 0.4 * (("noon" in prompt) - ("night" in prompt)) for prompt in prompts]
    return torch.stack([torch.full((3, 4, 4), level) for level in levels])


def noisy_paint(prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
    """The same, with noise that depends on the seed alone."""
    noise = [torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return 0.5 * paint(prompts, seeds) + 0.5 * torch.stack(noise)


def brightness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    """Bo likes bright pictures, Ada dark ones."""
    signs = torch.tensor([1.0 if user == "bo" else -1.0 for user in user_ids])
    return RewardOutput(3 + 4 * signs * (images.mean(dim=(1, 2, 3)) - 0.5))


def indifferent(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    return RewardOutput(torch.full((len(images),), 3.0))


def shares(rewriter: PromptRewriter, user: str) -> tuple[float, float]:
    """Return how many of many rewrites say night and noon."""
    requests = REQUESTS * 16
    rewrites = rewriter.rewrite(requests, [user] * len(requests), range(len(requests)))
    return sum("night" in r for r in rewrites) / len(requests), sum("noon" in r for r in rewrites) / len(requests)


def heeding_model(steps: int = 60) -> tuple[Any, Any]:
    """The world's small model, taught in seconds to add night or noon and to heed a person's wish a little."""
    tokenizer = make_tokenizer()
    model = make_language_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rng = random.Random(0)
    for _ in range(steps):
        examples = []
        for _ in range(24):
            description, request = rng.choice(list(DESCRIPTIONS.values())), rng.choice(REQUESTS)
            preference = description.removeprefix("likes ")
            phrase = preference if rng.random() < 0.3 else rng.choice(["at night", "at noon"])
            examples.append((description, request, f"{request}, {phrase}"))
        optimizer.zero_grad()
        answer_loss(model, tokenizer, examples).backward()
        optimizer.step()
    return model.eval(), tokenizer


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language_model")
    with torch.random.fork_rng():
        model, tokenizer = heeding_model()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def fresh(folder: Path) -> PromptRewriter:
    return PromptRewriter(*load_language_model(folder), DESCRIPTIONS, max_new_tokens=10)


@pytest.fixture(scope="module")
def training_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def trained(saved_model: Path, training_folder: Path) -> PromptRewriter:
    """A rewriter for Ada and Bo; nothing in the test may change it."""
    reward_function = RewriteReward(paint, brightness, None)
    return train_rewriter(fresh(saved_model), REQUESTS, list(DESCRIPTIONS), reward_function, SHORT, training_folder)


def test_training_gives_each_person_what_they_like(trained: PromptRewriter) -> None:
    for user, liked, disliked in (("ada", 0, 1), ("bo", 1, 0)):
        before, after = shares(trained.untrained(), user), shares(trained, user)
        assert after[liked] > before[liked] + 0.1
        assert after[liked] > 0.9 > 0.1 > after[disliked]


def test_training_leaves_the_untrained_rewriter_as_it_was(trained: PromptRewriter, saved_model: Path) -> None:
    seeds = range(8)
    for user in DESCRIPTIONS:
        arguments = (REQUESTS * 2, [user] * 8, seeds)
        assert trained.untrained().rewrite(*arguments) == fresh(saved_model).rewrite(*arguments)


def test_a_reward_that_never_differs_teaches_nothing(saved_model: Path, tmp_path: Path) -> None:
    reward_function = RewriteReward(paint, indifferent, None)
    after = train_rewriter(
        fresh(saved_model), REQUESTS, ["ada"], reward_function, replace(SHORT, num_steps=2), tmp_path
    )
    arguments = (REQUESTS * 4, ["ada"] * 16, range(16))
    assert after.rewrite(*arguments) == after.untrained().rewrite(*arguments)
    assert reward_function.images_spent == 128


def test_every_step_is_recorded(trained: PromptRewriter, training_folder: Path) -> None:
    rows = [json.loads(line) for line in (training_folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert rows[0]["kl_to_untrained"] < 1e-5 < rows[-1]["kl_to_untrained"]
    assert (
        rows[0]["rewrite_reward_mean"]
        < rows[-1]["rewrite_reward_mean"]
        == pytest.approx(rows[-1]["reward_mean"], abs=1e-4)
    )


def test_a_saved_rewriter_loads_back_and_rewrites_the_same(trained: PromptRewriter, tmp_path: Path) -> None:
    trained.save(tmp_path / "rewriter", None, {"images_spent": 512})
    loaded = PromptRewriter.load(tmp_path / "rewriter")
    arguments = (REQUESTS * 4, ["ada", "bo"] * 8, range(16))
    assert loaded.rewrite(*arguments) == trained.rewrite(*arguments)
    assert loaded.untrained().rewrite(*arguments) == trained.untrained().rewrite(*arguments)
    assert loaded.descriptions == DESCRIPTIONS
    facts = json.loads((tmp_path / "rewriter" / "rewriter.json").read_text())
    assert facts["images_spent"] == 512
    assert not [file for file in (tmp_path / "rewriter").rglob("*") if file.suffix in {".bin", ".pt", ".pth", ".pkl"}]


def test_a_rewrite_does_not_depend_on_the_others_of_its_batch(trained: PromptRewriter) -> None:
    requests, users, seeds = REQUESTS * 3, ["ada", "bo", "bo"] * 4, [101, 7, 42, 3, 58, 19, 77, 2, 91, 33, 64, 12]
    together = trained.untrained().rewrite(requests, users, seeds)
    alone = [trained.untrained()(request, user, seed) for request, user, seed in zip(requests, users, seeds)]
    assert together == alone
    assert len({*together}) > 4


def test_without_temperature_the_seed_changes_nothing(trained: PromptRewriter) -> None:
    greedy = replace(trained.untrained(), temperature=0.0)
    assert len({greedy("a boat", "ada", seed) for seed in range(6)}) == 1


def test_noise_makes_the_likeliest_word_a_sample_of_the_softmax() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(4000, 3)
    drawn = SeededGumbelNoise(range(4000), temperature=0.5)(torch.zeros(4000, 1), logits).argmax(dim=1)
    expected = (logits[0] / 0.5).softmax(dim=0)
    torch.testing.assert_close(drawn.bincount(minlength=3) / 4000, expected, atol=0.02, rtol=0)


def test_pictures_are_drawn_from_rewrites_and_the_same_seeds(trained: PromptRewriter) -> None:
    images = RewritingGenerator(trained, "bo", noisy_paint)(REQUESTS, [7, 8, 9, 7])
    rewrites = trained.rewrite(REQUESTS, ["bo"] * 4, [7, 8, 9, 7])
    torch.testing.assert_close(images, noisy_paint(rewrites, [7, 8, 9, 7]))
    torch.testing.assert_close(RewritingGenerator(trained, "bo", noisy_paint)(["a cactus"], [7])[0], images[3])


def test_somebody_without_a_description_is_refused(trained: PromptRewriter) -> None:
    with pytest.raises(UnknownUserError, match="no description of user 'carl'; it has those of: ada, bo"):
        trained("a boat", "carl")


def test_an_answer_that_says_nothing_leaves_the_request_as_it_is() -> None:
    tokenizer = make_tokenizer()
    model = make_language_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(20):
        optimizer.zero_grad()
        answer_loss(model, tokenizer, [("likes at night", "a boat", "")]).backward()
        optimizer.step()
    silent = PromptRewriter(model, tokenizer, DESCRIPTIONS, temperature=0.0, max_new_tokens=4)
    assert silent("a boat", "ada") == "a boat"


def test_a_missing_trl_names_the_remedy(saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(ConfigError, match=r"needs TRL .*pip install \"pamela_rl\[rewriter\]\""):
        train_rewriter(fresh(saved_model), REQUESTS, ["ada"], RewriteReward(paint, brightness, None), SHORT, tmp_path)


def test_a_folder_without_a_rewriter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"no rewriter can be read from .*; train one first"):
        PromptRewriter.load(tmp_path)


def test_a_model_that_cannot_chat_is_refused(saved_model: Path, tmp_path: Path) -> None:
    model, tokenizer = load_language_model(saved_model)
    tokenizer.chat_template = None
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has no chat template; give one tuned to follow instructions"):
        load_language_model(tmp_path)


def test_a_folder_without_a_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no language model can be loaded from"):
        load_language_model(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"completions_per_step": 100}, "completions_per_step is 100, but group_size is 8 and batch_size 96"),
        ({"group_size": 1}, "group_size 1; use 1 or more and 2 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        GrpoSettings(**settings)


def qwen(folder: Path) -> None:
    """Save a random Qwen3 of a few thousand weights that reads bytes, with a chat template."""
    pieces = sorted(ByteLevel.alphabet())
    vocabulary = {piece: row for row, piece in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *pieces])}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], chat_template=QWEN_TEMPLATE, eos_token="<|im_end|>")
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_a_chat_model_from_a_folder_is_trained_and_loads_back_on_the_same_folder(tmp_path: Path) -> None:
    qwen(tmp_path / "qwen")
    model, tokenizer = load_language_model(tmp_path / "qwen")
    untrained = PromptRewriter(model, tokenizer, DESCRIPTIONS, max_new_tokens=6)
    reward_function = RewriteReward(noisy_paint, lambda i, p, u: RewardOutput(i.mean(dim=(1, 2, 3))), None)
    settings = GrpoSettings(num_steps=2, completions_per_step=8, group_size=4, batch_size=4, rank=4)
    trained = train_rewriter(untrained, REQUESTS[:2], ["ada"], reward_function, settings, tmp_path / "training")
    trained.save(tmp_path / "rewriter", str(tmp_path / "qwen"), {})
    assert not (tmp_path / "rewriter" / "language_model").exists()
    loaded = PromptRewriter.load(tmp_path / "rewriter")
    assert loaded.rewrite(REQUESTS, ["bo"] * 4, range(4)) == trained.rewrite(REQUESTS, ["bo"] * 4, range(4))
