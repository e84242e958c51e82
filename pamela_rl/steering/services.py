"""What image services are asked and how they answer: Gemini's generateContent and the OpenAI images API."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pamela_rl.errors import ConfigError, ServiceError
from pamela_rl.steering.answers import BrokenAnswer

_SHOWN = 80  # letters of a prompt in an error sentence
# Gemini's reasons for no picture that say nothing against the prompt; every other is a refusal
_TRY_AGAIN = {"STOP", "NO_IMAGE", "OTHER", "IMAGE_OTHER", "FINISH_REASON_UNSPECIFIED"}


class ImageService(Protocol):
    """The dialect of one image service, for one model and one set of options."""

    @property
    def name(self) -> str:
        """The dialect, e.g. "gemini"; a part of what cached pictures are kept under."""
        ...

    @property
    def key_header(self) -> str:
        """The HTTP header that takes the key."""
        ...

    @property
    def key_prefix(self) -> str:
        """What stands before the key in it."""
        ...

    @property
    def path(self) -> str:
        """Where the request goes, behind the base URL."""
        ...

    def body(self, prompt: str, seed: int) -> dict[str, object]:
        """Return the request for one picture, model and options included where the path does not name them."""
        ...

    def read(self, answer: Any, prompt: str) -> bytes:
        """Take the picture's file out of a parsed answer.

        Raises:
            BrokenAnswer: There is none, or not a whole one; asking again may help.
            ServiceError: The service will not draw the prompt.
        """
        ...


@dataclass(frozen=True)
class GeminiImages:
    """Gemini's image models ("Nano Banana") at ``https://generativelanguage.googleapis.com``.

    The seed is sent, and the service does what it can: the same seed tends to give the same picture, without a promise.
    It reads 31 bits of it.

    Attributes:
        model: E.g. "gemini-2.5-flash-image".
        aspect_ratio: E.g. "1:1" or "16:9"; None leaves it to the service.
    """

    model: str
    aspect_ratio: str | None = None

    def __post_init__(self) -> None:
        _check_model(self.model)

    @property
    def name(self) -> str:
        """The dialect."""
        return "gemini"

    @property
    def key_header(self) -> str:
        """Never the URL's ``?key=``: addresses reach the logs of every machine on the way."""
        return "x-goog-api-key"

    @property
    def key_prefix(self) -> str:
        """Nothing."""
        return ""

    @property
    def path(self) -> str:
        """Names the model."""
        return f"/v1beta/models/{self.model}:generateContent"

    def body(self, prompt: str, seed: int) -> dict[str, object]:
        """Ask for one picture and no text."""
        settings: dict[str, object] = {"responseModalities": ["IMAGE"], "seed": seed % 2**31}
        if self.aspect_ratio is not None:
            settings["imageConfig"] = {"aspectRatio": self.aspect_ratio}
        return {"contents": [{"role": "user", "parts": [{"text": prompt}]}], "generationConfig": settings}

    def read(self, answer: Any, prompt: str) -> bytes:
        """Take the last picture that is no thought, as ``ImageService.read``."""
        blocked = _mapping(_mapping(answer).get("promptFeedback")).get("blockReason")
        if blocked:
            raise _unwilling(prompt, blocked)
        candidate = _mapping(_first(_mapping(answer).get("candidates")))
        parts = _mapping(candidate.get("content")).get("parts")
        pictures = []
        for part in map(_mapping, parts if isinstance(parts, list) else []):
            inline = _mapping(part.get("inlineData") or part.get("inline_data"))  # gateways write it either way
            if inline.get("data") and not part.get("thought"):
                pictures.append(inline["data"])
        if pictures:
            return _bytes_of(pictures[-1])
        reason = candidate.get("finishReason", "STOP")
        if reason in _TRY_AGAIN:
            raise BrokenAnswer(f"it holds no picture, finishReason {reason}")
        raise _unwilling(prompt, reason)


@dataclass(frozen=True)
class OpenAIImages:
    """The OpenAI images API, at ``https://api.openai.com`` and at servers that speak like it.

    It knows no seed: seeds only tell cached pictures apart, and asking anew gives another picture.

    Attributes:
        model: E.g. "gpt-image-1".
        size: Width x height that the model offers, e.g. "1024x1024"; None leaves it to the service.
        quality: E.g. "low"; None leaves it to the service.
    """

    model: str
    size: str | None = None
    quality: str | None = None

    def __post_init__(self) -> None:
        _check_model(self.model)

    @property
    def name(self) -> str:
        """The dialect."""
        return "openai"

    @property
    def key_header(self) -> str:
        """The usual one."""
        return "Authorization"

    @property
    def key_prefix(self) -> str:
        """The usual one."""
        return "Bearer "

    @property
    def path(self) -> str:
        """The same for all models."""
        return "/v1/images/generations"

    def body(self, prompt: str, seed: int) -> dict[str, object]:
        """Ask for one picture in the answer itself; the GPT models always do so and refuse to be told."""
        body: dict[str, object] = {"model": self.model, "prompt": prompt, "n": 1}
        if not self.model.startswith(("gpt-image", "chatgpt-image")):
            body["response_format"] = "b64_json"
        body |= {name: value for name, value in (("size", self.size), ("quality", self.quality)) if value is not None}
        return body

    def read(self, answer: Any, prompt: str) -> bytes:
        """Take the first picture, as ``ImageService.read``; a prompt it will not draw it answers with 400."""
        data = _mapping(_first(_mapping(answer).get("data"))).get("b64_json")
        if not data:
            raise BrokenAnswer("it holds no b64_json")
        return _bytes_of(data)


def shown(prompt: str) -> str:
    """Return a prompt in quotes, cut for an error sentence."""
    return repr(prompt if len(prompt) <= _SHOWN else prompt[:_SHOWN] + "…")


def _check_model(model: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/@-]*", model) or ".." in model:
        raise ConfigError(f"model is {model!r}; give the name as the service writes it, e.g. gemini-2.5-flash-image.")


def _unwilling(prompt: str, reason: object) -> ServiceError:
    return ServiceError(
        f"the service will not draw {shown(prompt)}: {str(reason)[:_SHOWN]}; change or drop the prompt."
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) and value else None


def _bytes_of(data: object) -> bytes:
    try:
        return base64.b64decode(str(data), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise BrokenAnswer("its picture is no base64")
