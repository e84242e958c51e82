"""YAML and flags to one frozen config; what a user can mend becomes one sentence and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from jsonargparse import ArgumentError, ArgumentParser

from pamela_rl.errors import PamelaError

Config = TypeVar("Config")


def read_config(config_class: type[Config], description: str, arguments: Sequence[str] | None = None) -> Config:
    """Parse ``--config file.yaml`` and flags; later ones win. Unknown keys and wrong types are refused.

    Raises:
        ArgumentError: A key is unknown or a value has the wrong type.
        ConfigError: A value, or a combination of values, cannot work.
    """
    parser = ArgumentParser(description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML with any of the settings below")
    parser.add_class_arguments(config_class)
    values = parser.instantiate(parser.parse_args(list(arguments) if arguments is not None else None))
    del values["config"]
    return config_class(**vars(values))


def run(config_class: type[Config], description: str, job: Callable[[Config], object]) -> None:
    """Read the config, do the job, and end with a sentence where the user can mend something."""
    try:
        job(read_config(config_class, description))
    except (ArgumentError, PamelaError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
