"""Chat language models: any OpenAI-compatible endpoint, or a local model through transformers."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pamela_rl.errors import ConfigError, ServiceError
from pamela_rl.steering.http import EndpointSettings, JsonClient
from pamela_rl.steering.responses import InvalidResponse, RequestRefused

_ROLES = ("system", "user", "assistant")
_GENERATION_LOCK = threading.Lock()  # one answer at a time seeds torch's global generator


class ChatModel(Protocol):
    """A chat language model."""

    def __call__(self, messages: Sequence[Mapping[str, str]], *, seed: int) -> str:
        """Return the next turn, without its reasoning.

        Args:
            messages: Turns so far, each with "role" (system, user or assistant) and "content".
            seed: The same seed and messages give the same answer, where the model supports it.
        """
        ...


class EndpointChat:
    """A model behind ``/v1/chat/completions``: OpenAI's, or any compatible server (vLLM, llama.cpp, Ollama).

    Seeds are best effort on most servers. Where the server refuses a request for one of its options, the option is named
    as newer servers want it (``max_completion_tokens``) or left out (temperature, seed), then and from then on.

    Args:
        config: Its address; ``key_variable=None`` for a local server without a key.
        model: As the server names it.
        temperature: 0 decodes greedily; None sends none, for models that do not accept it.
        max_tokens: Longest answer, reasoning included.
        path: Appended to the base URL.

    Raises:
        ConfigError: A number is out of range.
    """

    def __init__(
        self,
        config: EndpointSettings,
        model: str,
        *,
        temperature: float | None = 0.7,
        max_tokens: int = 512,
        path: str = "/v1/chat/completions",
    ):
        _check_sampling(temperature, max_tokens)
        self.model, self.temperature, self.max_tokens = model, temperature, max_tokens
        self.config, self._path, self._client = config, path, JsonClient(config)
        self._max_tokens_name, self._refused = (
            "max_tokens",
            frozenset[str](),
        )  # refused: options the server does not take

    def __call__(self, messages: Sequence[Mapping[str, str]], *, seed: int) -> str:
        """Return the next turn.

        Raises:
            ServiceError: The service refused, was not reached, or gave no valid response in all attempts.
            ConfigError: The messages are no conversation, or there is no key.
        """
        required = {"model": self.model, "messages": _validated(messages)}
        while True:
            options = {self._max_tokens_name: self.max_tokens, "seed": seed, "temperature": self.temperature}
            body = required | {n: v for n, v in options.items() if v is not None and n not in self._refused}
            try:
                return self._client.post(self._path, body, description=f"an answer of {self.model}", read=self._read)
            except RequestRefused as refusal:
                if not self._can_adapt(refusal, body):
                    raise

    def _can_adapt(self, refusal: RequestRefused, body: Mapping[str, object]) -> bool:
        """Rename or leave out the option that a refusal names; False where it names none that could be."""
        if refusal.status not in (400, 422):
            return False
        if "max_tokens" in body and "max_completion_tokens" in refusal.message:
            self._max_tokens_name = "max_completion_tokens"
            return True
        named = {n for n in ("temperature", "seed") if n in body and re.search(rf"\b{n}\b", refusal.message)}
        self._refused |= named
        return bool(named)

    def _read(self, answer: Any) -> str:
        try:
            choice = answer["choices"][0]
            message, finished = choice["message"], choice.get("finish_reason")
            content, refused = message.get("content"), message.get("refusal")
        except (KeyError, IndexError, TypeError, AttributeError):
            choice = None
        if choice is None:
            raise InvalidResponse("it holds no choices[0].message")
        if refused or finished == "content_filter":
            raise ServiceError(f"{self.model} will not answer: {str(refused or finished)[:300]}; change the messages.")
        text = _strip_thinking(content) if isinstance(content, str) else ""
        if not text and finished == "length":
            raise ServiceError(f"{self.model} used its {self.max_tokens} tokens without an answer; raise max_tokens.")
        if not text:
            raise InvalidResponse("its message is empty")
        return text


class TransformersChat:
    """A local causal language model with a chat template; loads safetensors alone and runs no repository code.

    Args:
        model: In evaluation mode, on its device.
        tokenizer: With a chat template.
        temperature: 0 decodes greedily; None samples as the model's own generation settings say.
        max_new_tokens: Longest answer.

    Raises:
        ConfigError: The tokenizer has no chat template, or a number is out of range.
    """

    def __init__(self, model: Any, tokenizer: Any, *, temperature: float | None = 0.7, max_new_tokens: int = 512):
        _check_sampling(temperature, max_new_tokens)
        if not tokenizer.chat_template:
            raise ConfigError(
                "the tokenizer has no chat template; give a model that was tuned to chat, e.g. an Instruct one."
            )
        self.model, self.tokenizer = model, tokenizer
        self.temperature, self.max_new_tokens = temperature, max_new_tokens

    @classmethod
    def load(
        cls, name: str | Path, *, device: str = "cpu", temperature: float | None = 0.7, max_new_tokens: int = 512
    ) -> TransformersChat:
        """Load a model by folder or by name on the Hugging Face hub, in the precision it was saved in.

        Raises:
            ConfigError: There is none, or none in safetensors.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                name, use_safetensors=True, trust_remote_code=False, dtype="auto"
            )
        except (OSError, ValueError, KeyError) as error:
            text = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"the chat model {str(name)!r} cannot be loaded ({text}); give a folder with config.json, "
                "*.safetensors and a tokenizer, or a name that can be downloaded."
            ) from error
        return cls(model.to(device).eval(), tokenizer, temperature=temperature, max_new_tokens=max_new_tokens)

    @torch.no_grad()
    def __call__(self, messages: Sequence[Mapping[str, str]], *, seed: int) -> str:
        """Return the next turn; the same seed and messages give the same on the same machine.

        Raises:
            ConfigError: The messages are no conversation.
        """
        inputs = self.tokenizer.apply_chat_template(
            _validated(messages),
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
            enable_thinking=False,
        ).to(self.model.device)
        options: dict[str, Any] = {}
        if self.temperature == 0:
            options = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        elif self.temperature is not None:
            options = {"do_sample": True, "temperature": self.temperature}
        padding = self.tokenizer.pad_token_id
        with _seeded(self.model.device, seed):
            tokens = self.model.generate(
                **inputs,
                **options,
                max_new_tokens=self.max_new_tokens,
                pad_token_id=self.tokenizer.eos_token_id if padding is None else padding,
            )
        answer = tokens[0, inputs["input_ids"].shape[1] :]
        return _strip_thinking(self.tokenizer.decode(answer, skip_special_tokens=True))


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's global generator for ``generate``, which takes no generator, and restore its state afterwards."""
    on_gpu = device.type == "cuda"
    generator = torch.cuda.default_generators[device.index or 0] if on_gpu else torch.default_generator
    with _GENERATION_LOCK:
        state = generator.get_state()
        try:
            generator.manual_seed(seed)
            yield
        finally:
            generator.set_state(state)


def _validated(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    if not messages:
        raise ConfigError("there are no messages; give at least one from the user.")
    for message in messages:
        if message.get("role") not in _ROLES or not isinstance(message.get("content"), str):
            raise ConfigError(
                f"a message has the role {message.get('role')!r}; give {', '.join(_ROLES)}, and a content."
            )
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _check_sampling(temperature: float | None, max_tokens: int) -> None:
    if temperature is not None and not 0 <= temperature <= 2:
        raise ConfigError(f"temperature is {temperature}; use 0 (greedy) to 2, or null for the model's own.")
    if max_tokens < 1:
        raise ConfigError(f"the most tokens of an answer are {max_tokens}; use at least 1, e.g. 512.")


def _strip_thinking(text: str) -> str:
    return text.rpartition("</think>")[2].strip()
