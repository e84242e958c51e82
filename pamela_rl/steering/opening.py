"""Open what settings name: a remote image service, a chat language model."""

from __future__ import annotations

from pathlib import Path

from pamela_rl.steering.chat import ChatModel, EndpointChat, TransformersChat
from pamela_rl.steering.http import EndpointSettings
from pamela_rl.steering.ledger import Budget
from pamela_rl.steering.remote import RemoteGenerator
from pamela_rl.steering.services import GeminiImages, ImageService, OpenAIImages
from pamela_rl.steering.settings import ChatSettings, ServiceSettings

_VENDORS = {
    "gemini": ("https://generativelanguage.googleapis.com", "GEMINI_API_KEY"),
    "openai": ("https://api.openai.com", "OPENAI_API_KEY"),
}


def open_service(settings: ServiceSettings, folder: Path) -> RemoteGenerator | None:
    """Open the image service; images and the ledger are kept in ``folder``. None where the settings name none.

    Raises:
        ConfigError: The address or a number cannot be.
    """
    if settings.model is None:
        return None
    service: ImageService = GeminiImages(settings.model) if settings.kind == "gemini" else OpenAIImages(settings.model)
    url, variable = _VENDORS[settings.kind]
    key = settings.key_variable or (None if settings.is_local else variable)
    endpoint = EndpointSettings(settings.url or url, key, requests_per_minute=settings.requests_per_minute)
    budget = Budget(settings.max_images, settings.price, settings.max_cost)
    return RemoteGenerator(service, endpoint, budget, folder, height=settings.size, width=settings.size)


def open_chat(settings: ChatSettings) -> ChatModel | None:
    """Load the language model, or make the client of its server; None where the settings name none.

    Raises:
        ConfigError: The model cannot be loaded, or the address cannot be.
    """
    if settings.model is None:
        return None
    if settings.url is None:
        return TransformersChat.load(
            settings.model, temperature=settings.temperature, max_new_tokens=settings.max_tokens
        )
    endpoint = EndpointSettings(settings.url, settings.key_variable)
    return EndpointChat(endpoint, settings.model, temperature=settings.temperature, max_tokens=settings.max_tokens)
