"""Requests and responses of image services: Gemini's generateContent and the OpenAI images API."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pamela_rl.errors import ConfigError, ServiceError
from pamela_rl.steering.responses import InvalidResponse

_MAX_QUOTED_LENGTH = 80  # characters of a prompt in an error message
# Gemini's finish reasons that do not reject the prompt; every other is a refusal
_RETRYABLE_REASONS = {"STOP", "NO_IMAGE", "OTHER", "IMAGE_OTHER", "FINISH_REASON_UNSPECIFIED"}


class ImageService(Protocol):
    """The protocol of one image service, for one model and one set of options."""

    @property
    def name(self) -> str:
        """The protocol's name, e.g. "gemini"; part of the cache key."""
        ...

    @property
    def key_header(self) -> str:
        """HTTP header of the key."""
        ...

    @property
    def key_prefix(self) -> str:
        """Text before the key in that header."""
        ...

    @property
    def path(self) -> str:
        """Path of the request, appended to the base URL."""
        ...

    def body(self, prompt: str, seed: int) -> dict[str, object]:
        """Return the request body for one image."""
        ...

    def read(self, answer: Any, prompt: str) -> bytes:
        """Extract the image file from a parsed response.

        Raises:
            InvalidResponse: There is no valid image; a retry may help.
            ServiceError: The service refuses the prompt.
        """
        ...


@dataclass(frozen=True)
class GeminiImages:
    """Gemini's image models ("Nano Banana") at ``https://generativelanguage.googleapis.com``.

    The seed is best effort: the same seed tends to give the same image. The service reads 31 bits of it.

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
        """The protocol's name."""
        return "gemini"

    @property
    def key_header(self) -> str:
        """A header, not the URL's ``?key=``: URLs are logged on the way."""
        return "x-goog-api-key"

    @property
    def key_prefix(self) -> str:
        """Nothing."""
        return ""

    @property
    def path(self) -> str:
        """Contains the model name."""
        return f"/v1beta/models/{self.model}:generateContent"

    def body(self, prompt: str, seed: int) -> dict[str, object]:
        """Request one image and no text."""
        settings: dict[str, object] = {"responseModalities": ["IMAGE"], "seed": seed % 2**31}
        if self.aspect_ratio is not None:
            settings["imageConfig"] = {"aspectRatio": self.aspect_ratio}
        return {"contents": [{"role": "user", "parts": [{"text": prompt}]}], "generationConfig": settings}

    def read(self, answer: Any, prompt: str) -> bytes:
        """Extract the last image that is not part of the reasoning, as ``ImageService.read``."""
        blocked = _mapping(_mapping(answer).get("promptFeedback")).get("blockReason")
        if blocked:
            raise _refused(prompt, blocked)
        candidate = _mapping(_first(_mapping(answer).get("candidates")))
        parts = _mapping(candidate.get("content")).get("parts")
        images = []
        for part in map(_mapping, parts if isinstance(parts, list) else []):
            inline = _mapping(part.get("inlineData") or part.get("inline_data"))  # gateways write it either way
            if inline.get("data") and not part.get("thought"):
                images.append(inline["data"])
        if images:
            return _decode_base64(images[-1])
        reason = candidate.get("finishReason", "STOP")
        if reason in _RETRYABLE_REASONS:
            raise InvalidResponse(f"it holds no picture, finishReason {reason}")
        raise _refused(prompt, reason)


@dataclass(frozen=True)
class OpenAIImages:
    """The OpenAI images API, at ``https://api.openai.com`` and compatible servers.

    It has no seeds: they are only part of the cache key, and a new request gives another image.

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
        """The protocol's name."""
        return "openai"

    @property
    def key_header(self) -> str:
        """As usual for bearer tokens."""
        return "Authorization"

    @property
    def key_prefix(self) -> str:
        """As usual for bearer tokens."""
        return "Bearer "

    @property
    def path(self) -> str:
        """The same for all models."""
        return "/v1/images/generations"

    def body(self, prompt: str, seed: int) -> dict[str, object]:
        """Request one base64 image; the GPT models always return base64 and reject the option."""
        body: dict[str, object] = {"model": self.model, "prompt": prompt, "n": 1}
        if not self.model.startswith(("gpt-image", "chatgpt-image")):
            body["response_format"] = "b64_json"
        body |= {name: value for name, value in (("size", self.size), ("quality", self.quality)) if value is not None}
        return body

    def read(self, answer: Any, prompt: str) -> bytes:
        """Extract the first image, as ``ImageService.read``; a refused prompt is answered with 400."""
        data = _mapping(_first(_mapping(answer).get("data"))).get("b64_json")
        if not data:
            raise InvalidResponse("it holds no b64_json")
        return _decode_base64(data)


def quoted(prompt: str) -> str:
    """Return a prompt in quotes, cut for an error message."""
    return repr(prompt if len(prompt) <= _MAX_QUOTED_LENGTH else prompt[:_MAX_QUOTED_LENGTH] + "…")


def _check_model(model: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/@-]*", model) or ".." in model:
        raise ConfigError(f"model is {model!r}; give the name as the service writes it, e.g. gemini-2.5-flash-image.")


def _refused(prompt: str, reason: object) -> ServiceError:
    return ServiceError(
        f"the service will not draw {quoted(prompt)}: {str(reason)[:_MAX_QUOTED_LENGTH]}; change or drop the prompt."
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) and value else None


def _decode_base64(data: object) -> bytes:
    try:
        return base64.b64decode(str(data), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise InvalidResponse("its picture is no base64")
