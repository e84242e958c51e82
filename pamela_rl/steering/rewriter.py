"""A language model that rewrites requests for users, given a description of each user's taste."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LogitsProcessor, LogitsProcessorList

from pamela_rl.data.rewriting import parse_rewrite, rewrite_messages
from pamela_rl.errors import AdapterError, ConfigError, UnknownUserError
from pamela_rl.storage import publish, recover, write_text
from pamela_rl.types import ImageGenerator

INFO = "rewriter.json"
WEIGHTS = "adapter_model.safetensors"
_BASE_MODEL_FOLDER = "language_model"  # subfolder with a copy of the base model, where it is not on the hub
CHAT_OPTIONS = {"enable_thinking": False}  # no reasoning; templates without this option ignore it


def load_language_model(name: str | Path) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer by hub name or folder; weights from safetensors alone.

    Raises:
        ConfigError: It cannot be loaded, or it is not one to chat with.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name), padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(str(name), use_safetensors=True)
    except (OSError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"no language model can be loaded from {name} ({first}); give a folder or a name on the Hugging Face hub."
        ) from error
    if tokenizer.chat_template is None:
        raise ConfigError(f"the language model {name} has no chat template; give one tuned to follow instructions.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.eval(), tokenizer


@dataclass(frozen=True)
class PromptRewriter:
    """Rewrites requests for users.

    Attributes:
        model: Causal language model; a PEFT model once it has been trained.
        tokenizer: Its tokenizer, with a chat template.
        descriptions: Each user's taste in words, by user id.
        use_adapter: False uses the base model without the trained adapter.
        temperature: Of sampling; 0 decodes greedily, whatever the seed.
        max_new_tokens: Longest answer.
        batch_size: Requests per call of the model.
    """

    model: Any
    tokenizer: Any
    descriptions: Mapping[str, str]
    use_adapter: bool = True
    temperature: float = 1.0
    max_new_tokens: int = 64
    batch_size: int = 32

    def __call__(self, request: str, user_id: str, seed: int = 0) -> str:
        """Rewrite one request, as ``rewrite`` does."""
        return self.rewrite([request], [user_id], [seed])[0]

    def rewrite(self, requests: Sequence[str], user_ids: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Rewrite each request for its user; rewrite i depends on request, user and seed i alone.

        Where the answer holds no prompt, the request stays as it is.

        Raises:
            UnknownUserError: A user has no description.
        """
        chats = [rewrite_messages(description_of(self.descriptions, user), r) for r, user in zip(requests, user_ids)]
        answers: list[str] = []
        for first in range(0, len(chats), self.batch_size):
            part = slice(first, first + self.batch_size)
            answers += self._answer(chats[part], seeds[part])
        return [parse_rewrite(answer) or request for answer, request in zip(answers, requests)]

    def untrained(self) -> PromptRewriter:
        """Return the same rewriter without the trained adapter."""
        return replace(self, use_adapter=False)

    @torch.no_grad()
    def _answer(self, chats: list[list[dict[str, str]]], seeds: Sequence[int]) -> list[str]:
        texts = self.tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False, **CHAT_OPTIONS)
        tokens = self.tokenizer(
            texts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False
        ).to(self.model.device)
        ends = {self.tokenizer.eos_token_id, *_as_list(self.model.generation_config.eos_token_id)}
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=self.max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=sorted(ends),
        )
        sampling = LogitsProcessorList([SeededGumbelNoise(seeds, self.temperature)] if self.temperature > 0 else [])
        off = self.model.disable_adapter() if isinstance(self.model, PeftModel) and not self.use_adapter else None
        training = self.model.training
        self.model.eval()
        with off or nullcontext():
            answers = self.model.generate(**tokens, generation_config=settings, logits_processor=sampling)
        self.model.train(training)
        new_tokens = answers[:, tokens["input_ids"].shape[1] :]
        return list(self.tokenizer.batch_decode(new_tokens, skip_special_tokens=True))

    def save(self, folder: Path, base_model: str | None, facts: Mapping[str, Any]) -> None:
        """Write the adapter as a PEFT folder, with ``rewriter.json`` beside it.

        Args:
            folder: Where to; an older one is replaced once the new one is whole.
            base_model: Hub name or folder of the model the adapter belongs to; None keeps a copy of it inside.
            facts: Provenance: images spent, recipe, versions, …
        """
        with publish(folder) as target:
            self.model.save_pretrained(str(target), safe_serialization=True)
            if base_model is None:
                bare = self.model.get_base_model()
                state = {name.replace(".base_layer", ""): value for name, value in bare.state_dict().items()}
                state = {name: value for name, value in state.items() if "lora_" not in name}
                bare.save_pretrained(str(target / _BASE_MODEL_FOLDER), state_dict=state)
                self.tokenizer.save_pretrained(str(target / _BASE_MODEL_FOLDER))
            settings = {"temperature": self.temperature, "max_new_tokens": self.max_new_tokens}
            info = {"base_model": base_model, "descriptions": dict(self.descriptions), **settings, **facts}
            write_text(target / INFO, json.dumps(info, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> PromptRewriter:
        """Read what ``save`` wrote.

        Raises:
            AdapterError: There is no rewriter there.
            ConfigError: Its language model cannot be loaded.
        """
        path = recover(Path(folder))
        try:
            info = json.loads((path / INFO).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise AdapterError(f"no rewriter can be read from {path} ({error}); train one first.") from error
        if not (path / WEIGHTS).exists():
            raise AdapterError(f"the rewriter in {path} has no {WEIGHTS}; train it again.")
        model, tokenizer = load_language_model(info["base_model"] or path / _BASE_MODEL_FOLDER)
        model = PeftModel.from_pretrained(model, str(path)).eval()
        return cls(
            model,
            tokenizer,
            info["descriptions"],
            temperature=info["temperature"],
            max_new_tokens=info["max_new_tokens"],
        )


@dataclass(frozen=True)
class RewritingGenerator:
    """Rewrites each prompt for one user and draws it from the same seed; an ``ImageGenerator``.

    Attributes:
        rewriter: Rewrites the prompts.
        user_id: The user.
        draw: Draws the rewritten prompts.
    """

    rewriter: PromptRewriter
    user_id: str
    draw: ImageGenerator

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return images in [0, 1], ``(b, 3, height, width)``; image i depends on prompt i and seed i alone.

        Raises:
            UnknownUserError: The rewriter has no description of the user.
        """
        return self.draw(self.rewriter.rewrite(prompts, [self.user_id] * len(prompts), seeds), seeds)


class SeededGumbelNoise(LogitsProcessor):
    """Gumbel-max sampling: adds Gumbel noise to the logits of each row from that row's own seed, for greedy decoding.

    A rewrite then does not depend on the others of its batch, as it would with one generator for all.
    """

    def __init__(self, seeds: Sequence[int], temperature: float):
        self._generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self._temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return noisy logits, ``(b, vocabulary)``; their argmax is a sample of the softmax at the temperature."""
        uniform = torch.stack([torch.rand(scores.shape[1], generator=each) for each in self._generators])
        tiny = torch.finfo(torch.float32).tiny
        gumbel = -torch.log(-torch.log(uniform.clamp(min=tiny, max=1 - 1e-7)))
        return scores.float() / self._temperature + gumbel.to(scores.device)


def description_of(descriptions: Mapping[str, str], user_id: str) -> str:
    """Return a user's description.

    Raises:
        UnknownUserError: There is none.
    """
    if user_id not in descriptions:
        available = ", ".join(sorted(descriptions)[:10])
        raise UnknownUserError(f"the rewriter has no description of user {user_id!r}; it has those of: {available}.")
    return descriptions[user_id]


def _as_list(tokens: int | list[int] | None) -> list[int]:
    if tokens is None:
        return []
    return [tokens] if isinstance(tokens, int) else list(tokens)
