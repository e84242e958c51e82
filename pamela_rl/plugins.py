"""A class or a function from a file of one's own: an algorithm, a family of models, a reward."""

from __future__ import annotations

import ast
import importlib.util
import sys
import traceback
from collections.abc import Callable
from functools import cache
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from pamela_rl.errors import ConfigError

PREFIX = "own_"  # of the name of a module made from a file, so that a file called random.py hides no module of Python
Base = TypeVar("Base")


def load_class(path: str | Path, base: type[Base], what: str) -> type[Base]:
    """Run a file and return the one subclass of ``base`` that it defines.

    A file is run once in a process: the same path gives the same class again.

    Args:
        path: The file.
        base: The class it must extend.
        what: What the class is, for error sentences, e.g. "algorithm".

    Raises:
        ConfigError: There is no such file, it cannot be run, or it does not define exactly one.
    """
    found = classes_in(_load_module(Path(path), what), base)
    if len(found) != 1:
        plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
        raise ConfigError(
            f"{path} defines {len(found)} {plural}; it must define one, a subclass of {base.__module__}.{base.__name__}."
        )
    return found[0]


def load_function(path: str | Path, name: str, what: str) -> Callable[..., Any]:
    """Run a file, once in a process, and return its function of that name.

    Raises:
        ConfigError: There is no such file, it cannot be run, or it has no such function.
    """
    found = getattr(_load_module(Path(path), what), name, None)
    if not callable(found):
        raise _no_function(Path(path), name)
    return cast("Callable[..., Any]", found)


def check_function(path: Path, name: str, what: str) -> None:
    """Refuse a file without a function of that name; it is read and not run, so nothing that it imports is loaded.

    Raises:
        ConfigError: There is no such file, it is no Python, or it has no such function.
    """
    if not path.is_file():
        raise ConfigError(f"{what} is {str(path)!r}, but there is no such file.")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        raise ConfigError(f"the {what} in {path} cannot be read: {line}{type(error).__name__}: {error}") from error
    named = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assigned = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    if name not in named | {target.id for target in assigned if isinstance(target, ast.Name)}:
        raise _no_function(path, name)


def _no_function(path: Path, name: str) -> ConfigError:
    return ConfigError(f"{path} has no function {name}; it must define one.")


def classes_in(module: ModuleType, base: type[Base]) -> list[type[Base]]:
    """Return the concrete subclasses of ``base`` that a module defines itself."""
    classes = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, base)]
    return [kind for kind in classes if kind.__module__ == module.__name__ and not isabstract(kind)]


@cache
def _load_module(path: Path, what: str) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{what} is {str(path)!r}, but there is no such file.")
    spec = importlib.util.spec_from_file_location(f"{PREFIX}{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise ConfigError(
            f"the {what} in {path} cannot be read: {_line_of(error, path)}{type(error).__name__}: {error}"
        ) from error
    return module


def _line_of(error: Exception, path: Path) -> str:
    """Where in the file it went wrong, however deep in other files the error arose."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"line {error.lineno}: "
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}: " if lines else ""
