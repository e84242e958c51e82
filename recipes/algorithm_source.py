"""An algorithm by one word: the name of a file in pamela_rl/algorithms, or the path of a file of your own."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

import pamela_rl.algorithms
from pamela_rl.algorithms.algorithm import OWN, Algorithm
from pamela_rl.errors import ConfigError

AlgorithmChoice = str | dict[str, Any]


def open_algorithm(choice: AlgorithmChoice, tuned: Mapping[str, Mapping[str, Any]] | None = None) -> Algorithm:
    """Make an algorithm of its name, or of a mapping with a ``name`` and settings of its own.

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
    kind = _algorithm_of(_module(name), name)
    settings = {**(tuned or {}).get(name, {}), **settings}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    try:
        return kind(**vars(parser.instantiate(parser.parse_object(settings))))
    except ArgumentError as error:
        known = ", ".join(setting.name for setting in fields(kind))
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"algorithm {name} cannot be set so: {reason}. Its settings are {known}.") from error


def known_algorithms() -> list[str]:
    """List the names of the algorithms that come with the package."""
    names = [module.name for module in pkgutil.iter_modules(pamela_rl.algorithms.__path__)]
    return [name for name in names if _found_in(importlib.import_module(f"pamela_rl.algorithms.{name}"))]


def _module(name: str) -> ModuleType:
    if name.endswith(".py"):
        return _module_of_file(Path(name))
    if name in known_algorithms():
        return importlib.import_module(f"pamela_rl.algorithms.{name}")
    raise ConfigError(
        f"algorithm is {name!r}; use one of {', '.join(known_algorithms())}, or the path of a file of your own, "
        "e.g. my_algorithm.py."
    )


@cache
def _module_of_file(path: Path) -> ModuleType:
    """Run a file once; its module's name is its own, so that a file called random.py stands in nobody's way."""
    if not path.is_file():
        raise ConfigError(f"algorithm is {str(path)!r}, but there is no such file.")
    spec = importlib.util.spec_from_file_location(f"{OWN}{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise ConfigError(
            f"the algorithm in {path} cannot be read: {_line(error, path)}{type(error).__name__}: {error}"
        ) from error
    return module


def _line(error: Exception, path: Path) -> str:
    """Where in the file it went wrong, however deep in other files the error arose."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"line {error.lineno}: "
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}: " if lines else ""


def _found_in(module: ModuleType) -> list[type[Algorithm]]:
    """The algorithms that a module itself defines."""
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Algorithm)]
    return [kind for kind in kinds if kind.__module__ == module.__name__ and not isabstract(kind)]


def _algorithm_of(module: ModuleType, name: str) -> type[Algorithm]:
    found = _found_in(module)
    if len(found) != 1:
        raise ConfigError(
            f"{name} defines {len(found)} algorithms; it must define one, a subclass of pamela_rl.algorithms.algorithm."
            "Algorithm."
        )
    return found[0]
