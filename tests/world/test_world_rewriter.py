from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pamela_rl.data.rewriting import parse_rewrite, rewrite_messages
from pamela_rl.world.captions import PHRASEBOOK, open_prompts, parse_prompt
from pamela_rl.world.rewriter import (
    answer_loss,
    make_language_model,
    make_tokenizer,
    random_example,
    train_language_model,
)
from pamela_rl.world.settings import FitSettings


def test_the_tokenizer_gives_every_request_and_phrase_back_as_it_was() -> None:
    tokenizer = make_tokenizer()
    for request in open_prompts():
        text = PHRASEBOOK.apply(request, {"lighting": "at night", "palette": "in earthy colours"})
        tokens = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in tokens
        assert tokenizer.decode(tokens) == text


def test_the_chat_ends_where_the_answer_begins_and_holds_person_and_request() -> None:
    tokenizer = make_tokenizer()
    chat = rewrite_messages("likes at night; dislikes a close-up", "a boat")
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert text == "person: likes at night; dislikes a close-up\nrequest: a boat rewrite:"
    assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]


def test_examples_keep_what_was_asked_and_name_each_attribute_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        _, request, answer = random_example(rng)
        assert parse_prompt(request).items() <= parse_prompt(answer).items()
        assert PHRASEBOOK.apply(request, PHRASEBOOK.added_phrases(answer, request)) == answer


def test_examples_take_up_likes_a_little_more_often_than_chance() -> None:
    rng, taken = np.random.default_rng(0), []
    for _ in range(3000):
        description, _, answer = random_example(rng)
        if "likes at night" in description.split("dislikes")[0]:
            taken.append("at night" in answer)
    assert 0.2 < float(np.mean(taken)) < 0.4  # 0.2 + 0.8 / 8, where chance alone gives 1 / 8


def test_only_the_answers_count() -> None:
    """The loss is that of the answer's tokens, computed one example at a time without padding."""
    tokenizer = make_tokenizer()
    model = make_language_model(tokenizer)
    examples = [("likes at night", "a boat", "a boat, at noon"), ("likes nothing in particular", "a tree", "a tree")]
    total, count = 0.0, 0
    for description, request, answer in examples:
        question = tokenizer(f"person: {description}\nrequest: {request} rewrite:")["input_ids"]
        tokens = torch.tensor([*question, *tokenizer(f" {answer}<eos>")["input_ids"]])
        log_probs = model(tokens[None]).logits[0].log_softmax(dim=-1)
        for place in range(len(question), len(tokens)):
            total -= log_probs[place - 1, tokens[place]].item()
            count += 1
    assert answer_loss(model, tokenizer, examples).item() == pytest.approx(total / count, rel=1e-4)


@pytest.mark.slow
def test_training_lowers_the_loss_on_new_examples(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    examples = [random_example(rng) for _ in range(64)]
    settings = FitSettings(num_steps=25, learning_rate=6e-3, warmup_steps=5, ema_decay=0.5)
    model, tokenizer = train_language_model(tmp_path, settings)
    before = answer_loss(make_language_model(tokenizer), tokenizer, examples).item()
    assert answer_loss(model, tokenizer, examples).item() < 0.75 * before


@pytest.mark.parametrize(
    ("answer", "prompt"),
    [
        ("a boat, at night", "a boat, at night"),
        ('\n  "a boat, at night"\nbecause they like it', "a boat, at night"),
        ("<think>\nthey like dark\n</think>\n\nRewrite: a boat", "a boat"),
        (" ,;\n", None),
        ("", None),
        ("a boat " * 60, None),
    ],
)
def test_answers_are_read_down_to_the_prompt(answer: str, prompt: str | None) -> None:
    assert parse_rewrite(answer) == prompt
