"""A tiny language model, trained from scratch to rewrite requests faithfully but with little personalization.

It takes the place of an instruction-tuned model: it answers a request with the same request plus random phrases for the
attributes the request does not name, and follows the user's description only a little.
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
from pamela_rl.world.fitting import fit
from pamela_rl.world.settings import FitSettings

SETTINGS = FitSettings(num_steps=800, learning_rate=6e-3, warmup_steps=20, ema_decay=0.97, checkpoint_every=800)
BATCH_SIZE = 32
CURRICULUM_STEPS = 550  # first steps, whose targets follow most preferences, so that the model learns to read them
CURRICULUM_PREFERENCE_SHARE, PREFERENCE_SHARE = (
    0.9,
    0.2,
)  # of the user's preferences that targets follow, then and later
_REQUESTS = open_prompts()
_PUNCTUATION = "[,;.:]"
_DESCRIPTION_WORDS = (
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
    """Return a word-level tokenizer for the world's captions and for descriptions of users."""
    phrases = [phrase for values in PHRASEBOOK.phrases.values() for phrase in values]
    text = " ".join([*_DESCRIPTION_WORDS, *_REQUESTS, *phrases])
    words = sorted({"▁" + word for word in re.sub(_PUNCTUATION, " ", text).split()})
    vocabulary = {word: row for row, word in enumerate(["<pad>", "<eos>", "<unk>", *",;.:", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Split(Regex(_PUNCTUATION), behavior="isolated"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    fast.chat_template = _CHAT_TEMPLATE
    return fast


def make_language_model(tokenizer: Any, seed: int = 0) -> Any:
    """Return an untrained causal language model of about 90,000 parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=True,  # makes copying a word easy for attention
        max_position_embeddings=256,
        initializer_range=0.1,  # with the usual 0.02 a narrow model learns to copy late
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def train_language_model(folder: Path, settings: FitSettings = SETTINGS) -> tuple[Any, Any]:
    """Train the model on random users, requests and answers; about a minute on one core.

    Args:
        folder: Where its checkpoint and log go; a restarted training resumes from there.
        settings: Length and rates.

    Returns:
        The language model and its tokenizer.
    """
    tokenizer = make_tokenizer()
    model = make_language_model(tokenizer)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        share = CURRICULUM_PREFERENCE_SHARE if step < CURRICULUM_STEPS else PREFERENCE_SHARE
        return answer_loss(model, tokenizer, [random_example(rng, share) for _ in range(BATCH_SIZE)])

    fit("language_model", [model], loss, settings, folder)
    return model, tokenizer


def random_example(rng: np.random.Generator, preference_share: float = PREFERENCE_SHARE) -> tuple[str, str, str]:
    """Draw a description, a request and an answer: the request with phrases for some attributes it does not name.

    Each preference is followed with probability ``preference_share``; all other phrases are random.
    """
    likes, description = _random_user(rng)
    request = _pick(rng, _REQUESTS)
    chosen = {}
    for name in PHRASEBOOK.unspecified(request):
        if name in likes and rng.random() < preference_share:
            chosen[name] = likes[name]
        elif rng.random() < 0.5:
            chosen[name] = _pick(rng, PHRASEBOOK.phrases[name])
    return description, request, PHRASEBOOK.apply(request, chosen)


def _random_user(rng: np.random.Generator) -> tuple[dict[str, str], str]:
    """Draw a user's liked phrases by attribute, and a description of the user in words."""
    names = list(PHRASEBOOK.phrases)
    likes, dislikes = (
        {
            names[row]: _pick(rng, PHRASEBOOK.phrases[names[row]])
            for row in rng.permutation(len(names))[: rng.integers(4)]
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


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def answer_loss(model: Any, tokenizer: Any, examples: Sequence[tuple[str, str, str]]) -> Tensor:
    """Return the mean negative log-likelihood of the answers' tokens, conditioned on description and request."""
    chats = [rewrite_messages(description, request) for description, request, _ in examples]
    prompts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
    texts = [f"{prompt} {answer}{tokenizer.eos_token}" for prompt, (_, _, answer) in zip(prompts, examples)]
    tokens = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    labels = tokens["input_ids"].clone()
    for row, prompt in enumerate(prompts):
        num_answer_tokens = int(tokens["attention_mask"][row].sum()) - len(tokenizer(prompt)["input_ids"])
        labels[row, : labels.shape[1] - num_answer_tokens] = -100  # padding is on the left
    return model(**tokens, labels=labels).loss
