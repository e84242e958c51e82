"""Checks of settings, each a sentence with what would do; and which of them a run may go on without."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pamela_rl.errors import ConfigError

BESIDE: Mapping[str, bool] = MappingProxyType({"beside": True})
"""Metadata of a setting that changes memory, speed or what is seen of a run, but not what is learned: it may change on resuming."""


def require(holds: bool, sentence: str) -> None:
    """Raise a ``ConfigError`` that says ``sentence`` unless it ``holds``."""
    if not holds:
        raise ConfigError(sentence)


def at_least(name: str, value: float, least: float, remedy: str) -> None:
    """Refuse a number below ``least``."""
    require(value >= least, f"{name} is {value}; it must be at least {least}: {remedy}.")


def refuse_unused(settings: Any, names: Iterable[str], because: str, default: Any = None, prefix: str = "") -> None:
    """Refuse settings that were given, that is, differ from their defaults, although nothing would read them.

    Args:
        settings: A dataclass; what is inside a nested one is named.
        names: Of its settings that nothing reads.
        because: Ends "…, but nothing reads it: "; says what is missing, or what is in their place.
        default: Where defaults are looked up; None makes one of the settings' own.
        prefix: Of the names in the sentence.
    """
    for setting in fields(settings):
        value, name = getattr(settings, setting.name), f"{prefix}{setting.name}"
        usual = setting.default if setting.default_factory is MISSING else setting.default_factory()
        usual = usual if default is None else getattr(default, setting.name)
        if setting.name not in names or value == usual:
            continue
        if is_dataclass(value):
            refuse_unused(value, [inner.name for inner in fields(value)], because, usual, f"{name}.")
        shown = str(value) if isinstance(value, Path) else repr(value)
        raise ConfigError(f"{name} is {shown}, but nothing reads it: {because}; leave it out.")


def check_division(name: str, value: int, by_name: str, by: int) -> None:
    """Refuse a number that ``by`` does not divide; names the nearest that it does."""
    below, above = value // by * by, -(-value // by) * by
    require(
        below == value,
        f"{name} is {value} but {by_name} is {by}; use a multiple of {by}, e.g. {below or above} or {above}.",
    )


def did_you_mean(name: str, known: Iterable[str], before: str = "") -> str:
    """Return the end of a sentence about an unknown setting: the known one that is meant, as far as spelling tells.

    Args:
        name: What was given, dotted where it is nested.
        known: Settings, dotted likewise; one whose last parts alone were given, or misspelt, is found as well.
        before: What a suggestion begins with, e.g. ``--``.
    """
    names, last = list(known), name.rpartition(".")[2]
    inner = {other.rpartition(".")[2]: other for other in reversed(names)}
    found = (
        get_close_matches(name, names, 1, 0.85)
        or [other for other in names if other.endswith(f".{name}")]
        or get_close_matches(name, names, 1, 0.7)
        or [inner[close] for close in get_close_matches(last, inner, 1, 0.7)]
    )
    return f"; did you mean {before}{found[0]}?" if found else ""


def free_settings(settings: Any, prefix: str = "") -> set[str]:
    """Name the settings of a (nested) dataclass that are marked ``BESIDE``, dotted; what is inside one is free with it."""
    names = set()
    for setting in fields(settings):
        name, value = f"{prefix}{setting.name}", getattr(settings, setting.name)
        if setting.metadata.get("beside"):
            names.add(name)
        elif is_dataclass(value):
            names |= free_settings(value, f"{name}.")
    return names


def spans_run(*settings: Any) -> bool:
    """Tell whether what an iteration learns depends on how many there will be: a (nested) dataclass says so by ``spans_run``."""
    return any(
        getattr(part, "spans_run", False)
        or spans_run(*(value for setting in fields(part) if is_dataclass(value := getattr(part, setting.name))))
        for part in settings
    )


def check_negative_prompt(prefix: str, negative_prompt: str, guidance_scale: float | None) -> None:
    """Refuse a negative prompt without guidance, where it would do nothing; ``prefix`` leads to both settings."""
    scale = "is not given" if guidance_scale is None else f"is {guidance_scale:g}"
    require(
        not negative_prompt or (guidance_scale is not None and guidance_scale > 1),
        f"{prefix}negative_prompt is {negative_prompt!r} but {prefix}guidance_scale {scale}, and only guidance above 1 uses it; "
        "give such a scale, e.g. 5, or leave the negative prompt out.",
    )
