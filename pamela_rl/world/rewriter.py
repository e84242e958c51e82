"""A tiny language model, trained from nothing to rewrite requests faithfully and hardly for anybody in particular.

It stands for the instruction-tuned model that learning starts from elsewhere: it answers a request with the same request
and random phrases for what was left open, and heeds little of what it is told about the person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pamela_rl.data.rewriting import rewrite_messages
from pamela_rl.world.captions import PHRASEBOOK, open_prompts
from pamela_rl.world.fitting import FitSettings, fit

SETTINGS = FitSettings(num_steps=800, learning_rate=6e-3, warmup_steps=20, ema_decay=0.97, checkpoint_every=800)
BATCH_SIZE = 32
READING_STEPS = 550  # in which answers take up most of what a person likes, so that the model learns to read it
HEEDED_READING, HEEDED = 0.9, 0.2  # share of what a person likes that answers take up, then and afterwards
_REQUESTS = open_prompts()
_MARKS = "[,;.:]"
_TASTE_WORDS = (
    "person:",
    "request:",
    "rewrite:",
    "likes",
    "dislikes",
    "nothing",
    "in",
    "particular",
    ";",
    ".",
)
_CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}{{ message.content }}"
    "{% elif message.role == 'assistant' %} rewrite: {{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} rewrite:{% endif %}"
)


def make_tokenizer() -> Any:
    """Return a tokenizer of whole words: those of the world's captions and of descriptions of people."""
    phrases = [phrase for values in PHRASEBOOK.phrases.values() for phrase in values]
    text = " ".join([*_TASTE_WORDS, *_REQUESTS, *phrases])
    words = sorted({"▁" + word for word in re.sub(_MARKS, " ", text).split()})
    vocabulary = {word: row for row, word in enumerate(["<pad>", "<eos>", "<unk>", *",;.:", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Split(Regex(_MARKS), behavior="isolated"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    fast.chat_template = _CHAT_TEMPLATE
    return fast


def make_language_model(tokenizer: Any, seed: int = 0) -> Any:
    """Return an untrained causal language model of about 90,000 weights."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=True,  # copying a word is then what attention does by itself
        max_position_embeddings=256,
        initializer_range=0.1,  # the usual 0.02 is for wide models; a narrow one would learn to copy late
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def train_language_model(folder: Path, settings: FitSettings = SETTINGS) -> tuple[Any, Any]:
    """Train the model on random people, requests and answers; about a minute on one core.

    Args:
        folder: Where its checkpoint and log go; started again, training goes on from there.
        settings: Length and rates.

    Returns:
        The language model and its tokenizer.
    """
    tokenizer = make_tokenizer()
    model = make_language_model(tokenizer)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        numbers = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        heeded = HEEDED_READING if step < READING_STEPS else HEEDED
        return answer_loss(model, tokenizer, [random_example(numbers, heeded) for _ in range(BATCH_SIZE)])

    fit("language_model", [model], loss, settings, folder)
    return model, tokenizer


def random_example(numbers: np.random.Generator, heeded: float = HEEDED) -> tuple[str, str, str]:
    """Draw a description, a request, and an answer: the request with phrases for some of what it leaves open.

    A share ``heeded`` of what the person likes is taken up; all else is drawn at random.
    """
    likes, description = _random_person(numbers)
    request = _one_of(numbers, _REQUESTS)
    chosen = {}
    for name in PHRASEBOOK.left_open(request):
        if name in likes and numbers.random() < heeded:
            chosen[name] = likes[name]
        elif numbers.random() < 0.5:
            chosen[name] = _one_of(numbers, PHRASEBOOK.phrases[name])
    return description, request, PHRASEBOOK.apply(request, chosen)


def _random_person(numbers: np.random.Generator) -> tuple[dict[str, str], str]:
    """Draw what somebody likes, by attribute, and their description in words."""
    names = list(PHRASEBOOK.phrases)
    likes, dislikes = (
        {
            names[row]: _one_of(numbers, PHRASEBOOK.phrases[names[row]])
            for row in numbers.permutation(len(names))[: numbers.integers(4)]
        }
        for _ in range(2)
    )
    dislikes = {name: phrase for name, phrase in dislikes.items() if likes.get(name) != phrase}
    parts = [
        f"{verb} {', '.join(phrase.removesuffix(' of') for phrase in chosen.values())}"
        for verb, chosen in (("likes", likes), ("dislikes", dislikes))
        if chosen
    ]
    return likes, "; ".join(parts) or "likes nothing in particular"


def _one_of(numbers: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(numbers.integers(len(choices)))]


def answer_loss(model: Any, tokenizer: Any, examples: Sequence[tuple[str, str, str]]) -> Tensor:
    """Return the mean negative log-likelihood of the answers' tokens, given description and request."""
    chats = [rewrite_messages(description, request) for description, request, _ in examples]
    questions = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
    texts = [f"{question} {answer}{tokenizer.eos_token}" for question, (_, _, answer) in zip(questions, examples)]
    tokens = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    labels = tokens["input_ids"].clone()
    for row, question in enumerate(questions):
        answered = int(tokens["attention_mask"][row].sum()) - len(tokenizer(question)["input_ids"])
        labels[row, : labels.shape[1] - answered] = -100  # padding stands on the left
    return model(**tokens, labels=labels).loss
