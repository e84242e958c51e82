"""YAML and flags to one frozen config; what a user can mend becomes one sentence and exit code 2."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from jsonargparse import ArgumentError, ArgumentParser

from pamela_rl.cli.given_command import given_program
from pamela_rl.cli.settings_text import MODE, expand_flag
from pamela_rl.cli.shipped import with_shipped_configs
from pamela_rl.config.checks import did_you_mean
from pamela_rl.errors import Interrupted, PamelaError

Config = TypeVar("Config")
STOPPED = 75  # exit code of a run that was asked to stop and can go on: sysexits' EX_TEMPFAIL
_UNKNOWN = re.compile(
    r"unrecognized arguments: (?P<flag>--)(?P<name>[\w.]+)"
    r"|Option '(?P<key>[\w.]+)' is not accepted|Group '(?P<group>[\w.]+)' does not accept option '(?P<inner>[\w.]+)'"
)  # as jsonargparse says it


def read_config(config_class: type[Config], description: str, arguments: Sequence[str] | None = None) -> Config:
    """Parse ``--config file.yaml`` and flags; later ones win. Unknown keys and wrong types are refused.

    Text stays as it is typed where a setting wants text, and a path's ``~`` is written out.

    Raises:
        ArgumentError: A key is unknown or a value has the wrong type.
        ConfigError: A value, or a combination of values, cannot work.
    """
    parser = ArgumentParser(
        prog=given_program(), description=description, exit_on_error=False, allow_abbrev=False, parser_mode=MODE
    )
    parser.add_argument(
        "--config",
        action="config",
        help="YAML with any of the settings below: a file, or the name of one that pamela ls shows",
    )
    parser.add_class_arguments(config_class)
    given = with_shipped_configs(sys.argv[1:] if arguments is None else arguments)
    try:
        values = parser.instantiate(parser.parse_args([expand_flag(argument) for argument in given]))
    except ArgumentError as error:
        raise ArgumentError(None, _with_suggestion(error, parser)) from error
    del values["config"]
    return config_class(**vars(values))


def _with_suggestion(error: ArgumentError, parser: ArgumentParser) -> str:
    """Name the setting that a misspelt one is likely to mean."""
    text, found = str(error), _UNKNOWN.search(str(error))
    if found is None:
        return text
    name = found["name"] or found["key"] or f"{found['group']}.{found['inner']}"
    known = parser.get_defaults(skip_validation=True).keys(branches=True)
    return text.rstrip(". ") + did_you_mean(name, known, found["flag"] or "")


def use_all_cores() -> None:
    """Share this machine's cores out over its processes; ``accelerate launch`` leaves each process one thread."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def run(config_class: type[Config], description: str, job: Callable[[Config], object]) -> None:
    """Read the config, do the job, and end with a sentence where the user can mend something (2) or go on later (75)."""
    try:
        config = read_config(config_class, description)
        use_all_cores()
        job(config)
    except Interrupted as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(STOPPED)
    except KeyboardInterrupt:
        print("\nstopped; what was finished is saved, and the same command goes on from there.", file=sys.stderr)
        sys.exit(STOPPED)
    except (ArgumentError, PamelaError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
