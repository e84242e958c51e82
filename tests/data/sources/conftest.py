from __future__ import annotations

from collections.abc import Callable

import pytest
from PIL import Image


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Everything Pillow opens from now on."""
    calls: list[object] = []
    original: Callable[..., Image.Image] = Image.open

    def counting(stream: object, *args: object, **kwargs: object) -> Image.Image:
        calls.append(stream)
        return original(stream, *args, **kwargs)

    monkeypatch.setattr(Image, "open", counting)
    return calls
