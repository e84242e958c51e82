"""Checks of settings, each a sentence with what would do."""

from __future__ import annotations

from pamela_rl.errors import ConfigError


def require(holds: bool, sentence: str) -> None:
    """Raise a ``ConfigError`` that says ``sentence`` unless it ``holds``."""
    if not holds:
        raise ConfigError(sentence)


def at_least(name: str, value: float, least: float, remedy: str) -> None:
    """Refuse a number below ``least``."""
    require(value >= least, f"{name} is {value}; it must be at least {least}: {remedy}.")


def check_division(name: str, value: int, by_name: str, by: int) -> None:
    """Refuse a number that ``by`` does not divide; names the nearest that it does."""
    below, above = value // by * by, -(-value // by) * by
    require(
        below == value,
        f"{name} is {value} but {by_name} is {by}; use a multiple of {by}, e.g. {below or above} or {above}.",
    )


def check_negative_prompt(prefix: str, negative_prompt: str, guidance_scale: float | None) -> None:
    """Refuse a negative prompt without guidance, where it would do nothing; ``prefix`` leads to both settings."""
    scale = "is not given" if guidance_scale is None else f"is {guidance_scale:g}"
    require(
        not negative_prompt or (guidance_scale is not None and guidance_scale > 1),
        f"{prefix}negative_prompt is {negative_prompt!r} but {prefix}guidance_scale {scale}, and only guidance above 1 uses it; "
        "give such a scale, e.g. 5, or leave the negative prompt out.",
    )
