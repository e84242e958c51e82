"""An algorithm by one word: the name of a file in this folder, or the path of a file of one's own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.config import AlgorithmChoice
from pamela_rl.errors import ConfigError
from pamela_rl.plugins import classes_in, load_class

Settings = TypeVar("Settings")


def open_algorithm(choice: AlgorithmChoice, tuned: Mapping[str, Mapping[str, Any]] | None = None) -> Algorithm:
    """Make an algorithm from its name, or from a mapping with a ``name`` and settings of its own.

    Args:
        choice: e.g. ``"nft"``, ``"my/reinforce.py"`` or ``{"name": "nft", "beta": 0.1}``. Settings that are not given are
            the algorithm's own defaults.
        tuned: By name, what an algorithm's settings are unless the choice says otherwise.

    Raises:
        ConfigError: There is no such algorithm, or it has no such setting, or the setting has another type.
    """
    settings = {"name": choice} if isinstance(choice, str) else dict(choice)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(
            f"algorithm is {choice!r}; give a name, or a mapping with a name and settings, e.g. {{name: ddpo}}."
        )
    return build_settings(_class_of(name), {**(tuned or {}).get(name, {}), **settings}, f"algorithm {name}")


def algorithm_names() -> list[str]:
    """List the names of the algorithms that come with the package."""
    return list(_own_classes())


def build_settings(kind: type[Settings], values: Mapping[str, Any], what: str) -> Settings:
    """Make a settings dataclass of plain values, as YAML gives them; types are checked, and text may stand for a number.

    Raises:
        ConfigError: A value has no setting or another type; ``what`` names the thing that is set.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    try:
        return kind(**vars(parser.instantiate(parser.parse_object(dict(values)))))
    except ArgumentError as error:
        known = ", ".join(setting.name for setting in fields(kind))  # type: ignore[arg-type]
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"{what} cannot be set so: {reason}. Its settings are {known}.") from error


@cache
def _own_classes() -> dict[str, type[Algorithm]]:
    """The package's algorithms by the name of their file; a file that defines none is not listed."""
    package = __name__.rpartition(".")[0]
    folder = str(Path(__file__).parent)
    modules = {info.name: f"{package}.{info.name}" for info in pkgutil.iter_modules([folder])}
    found = {
        name: classes_in(importlib.import_module(module), Algorithm)  # type: ignore[type-abstract]
        for name, module in modules.items()
    }
    return {name: classes[0] for name, classes in found.items() if classes}


def _class_of(name: str) -> type[Algorithm]:
    if name.endswith(".py"):
        return load_class(name, Algorithm, "algorithm")  # type: ignore[type-abstract]
    if name not in _own_classes():
        raise ConfigError(
            f"algorithm is {name!r}; use one of {', '.join(algorithm_names())}, or the path of a file of your own, "
            "e.g. my_algorithm.py."
        )
    return _own_classes()[name]
