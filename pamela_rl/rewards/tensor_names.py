"""Prefixes of tensor names, for models that contain other models."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def add_prefix(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Prefix the names of the tensors with the name of the part."""
    return {f"{part}.{name}": value for name, value in tensors.items()}


def strip_prefix(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a part without its prefix; the inverse of ``add_prefix``."""
    prefix = f"{part}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
