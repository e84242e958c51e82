"""Names of the tensors of a model that is part of another."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def within(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a part under its name."""
    return {f"{part}.{name}": value for name, value in tensors.items()}


def part_of(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what ``within`` was given, out of the tensors of the whole."""
    prefix = f"{part}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
