"""Picture sizes that a model can draw."""

from __future__ import annotations

from pamela_rl.errors import ConfigError


def check_multiple(name: str, side: int, multiple: int, model: str) -> None:
    """Refuse a side that does not divide into a model's patches.

    Args:
        name: "height" or "width".
        side: Pixels.
        multiple: Of which it must be one, pixels.
        model: Whose patches.

    Raises:
        ConfigError: Names the two nearest that do.
    """
    below, above = side // multiple * multiple, -(-side // multiple) * multiple
    if below != side:
        raise ConfigError(
            f"{name} is {side}; {model} draws multiples of {multiple} pixels: use {below or multiple} or {above}."
        )
