"""What ships beside the package: recipes, and configs that any folder can name, list and copy."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

from pamela_rl.config.checks import did_you_mean
from pamela_rl.errors import ConfigError
from pamela_rl.storage import writing

_CONFIG_FLAGS = ("--config", "--config_file")
_IN_CHECKOUT = "recipes/configs/"  # what the docs' paths begin with


def recipes_folder() -> Path:
    """Return the folder of recipes: inside the package where a wheel installed it, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def configs_folder() -> Path:
    """Return the folder of the shipped configs."""
    return recipes_folder() / "configs"


def config_names() -> list[str]:
    """List the shipped configs, e.g. "train_sd35.yaml" and "memory/16gb.yaml"; those of jobs first."""
    names = [path.relative_to(configs_folder()).as_posix() for path in configs_folder().rglob("*.yaml")]
    return sorted(names, key=lambda name: (name.count("/"), name))


def find_config(name: str) -> Path:
    """Return a shipped config by the name that ``config_names`` lists, or by its path in a checkout.

    Raises:
        ConfigError: There is none of that name.
    """
    short = name.removeprefix(_IN_CHECKOUT)
    names = config_names()
    if short in names:
        return configs_folder() / short
    raise ConfigError(f"there is no shipped config {name!r}, pamela ls lists them{did_you_mean(short, names)}")


def with_shipped_configs(arguments: Sequence[str]) -> list[str]:
    """Replace the names of shipped configs by their paths, behind ``--config`` and ``--config_file``; files that are there go first."""
    resolved = list(arguments)
    for place, argument in enumerate(arguments):
        flag, is_joined, value = argument.partition("=")
        if is_joined and flag in _CONFIG_FLAGS:
            resolved[place] = f"{flag}={_existing(value)}"
        elif place and arguments[place - 1] in _CONFIG_FLAGS:
            resolved[place] = _existing(argument)
    return resolved


def _existing(name: str) -> str:
    short = name.removeprefix(_IN_CHECKOUT)
    return str(configs_folder() / short) if not Path(name).exists() and short in config_names() else name


def describe_config(config: Path) -> str:
    """Return what a config is: the first clause of its first comment line."""
    with config.open(encoding="utf-8") as file:
        return _first_clause(file.readline().lstrip("# "))


def describe_recipe(recipe: Path) -> str:
    """Return what a recipe is: the first clause of its docstring, without running it."""
    return _first_clause(ast.get_docstring(ast.parse(recipe.read_text(encoding="utf-8"))) or "")


def _first_clause(text: str) -> str:
    return re.split(r"[.:;](?:\s|$)", text)[0].strip()


def copy_config(name: str, to: Path) -> Path:
    """Copy a shipped config to a file, or into a folder that is there; what is there already is kept.

    Returns:
        The copy.

    Raises:
        ConfigError: There is no such config, or the file is there already.
        StorageError: It cannot be written.
    """
    config = find_config(name)
    target = to / config.name if to.is_dir() else to
    with writing("the config", target):
        try:
            with target.open("xb") as file:
                file.write(config.read_bytes())
        except FileExistsError as error:
            raise ConfigError(f"{target} is there already; name another file, or remove it.") from error
    return target
