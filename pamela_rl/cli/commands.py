"""The console command ``pamela``: a recipe by a word, and what is needed where only the package is installed."""

from __future__ import annotations

import os
import runpy
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from pamela_rl.cli.given_command import GIVEN_COMMAND
from pamela_rl.cli.launching import has_own_config, launch
from pamela_rl.cli.shipped import (
    config_names,
    configs_folder,
    copy_config,
    describe_config,
    describe_recipe,
    recipes_folder,
    with_shipped_configs,
)
from pamela_rl.config.checks import did_you_mean
from pamela_rl.errors import ConfigError, PamelaError
from pamela_rl.rewards.settings import DEFAULT_ENCODER, JUDGE_ENCODER, PIXELS, POPULATION_NAMES, SIGLIP, TIMM, WORLD
from pamela_rl.storage import SHIPPED_PIPELINES

RECIPES: Mapping[str, str] = MappingProxyType(
    {
        "quickstart": "quickstart",
        "draw": "draw",
        "fit": "fit_reward",
        "train": "train",
        "evaluate": "evaluate",
        "search": "search",
        "blind-test": "blind_test",
        "export": "export",
        "rewriter": "train_rewriter",
        "world": "train_world",
    }
)
"""The recipe of each word."""
LAUNCHED = ("quickstart", "train")  # those that can be several processes
_DEFAULT_CONFIGS = {"quickstart": "quickstart.yaml"}  # what make quickstart runs
_HELP = """Text-to-image models tuned to one person.

usage: pamela COMMAND [flags]        pamela COMMAND --help lists the flags

{commands}

--config takes a file, or a shipped config by the name that pamela ls shows.
Training is launched as accelerate config has said, or in one process; else pamela {launched} [flags of accelerate launch] -- [flags], e.g.
  pamela train --config_file accelerate/multi_gpu.yaml -- --config train_sd35.yaml --reward outputs/my-reward
"""


def list_shipped(arguments: Sequence[str]) -> None:
    """List the shipped configs, and the models, rewards and encoders that have a name."""
    _expect("ls", arguments, range(1))
    print(f"configs (--config NAME; pamela cp NAME copies one):\n{_table({n: _about(n) for n in config_names()})}")
    print(f"\nmodels (--model.name, --base_model): {', '.join(SHIPPED_PIPELINES)}; or a hub id, or a pipeline's folder")
    print(f"rewards of the average person (--watch, --content): {', '.join(POPULATION_NAMES)}")
    print(
        f"encoders (--encoder): {', '.join((DEFAULT_ENCODER, JUDGE_ENCODER, WORLD, PIXELS))}; or {TIMM}NAME, or a model of "
        f"open_clip's, e.g. {SIGLIP}"
    )


def copy(arguments: Sequence[str]) -> None:
    """Copy a shipped config here, or to a file or folder: pamela cp CONFIG [TO]."""
    _expect("cp CONFIG [TO]", arguments, range(1, 3))
    print(copy_config(arguments[0], Path(*arguments[1:] or ["."])))


def show_environment(arguments: Sequence[str]) -> None:
    """Show versions, device and settings, for a report of a fault."""
    _expect("env", arguments, range(1))
    from pamela_rl.cli.environment import environment

    print(environment())


OWN: Mapping[str, Callable[[Sequence[str]], None]] = MappingProxyType(
    {"ls": list_shipped, "cp": copy, "env": show_environment}
)
"""The commands that are no recipe."""


def main() -> None:
    """Do what the command line asks, and end with its exit code."""
    word, *arguments = sys.argv[1:] or ["--help"]
    try:
        if word in ("--help", "-h"):
            print(_help(), end="")
        elif word == "--version":
            print(version("pamela_rl"))
        elif word in OWN:
            print(OWN[word].__doc__) if {"--help", "-h"} & set(arguments) else OWN[word](arguments)
        elif word in RECIPES:
            sys.exit(_run(word, arguments))
        else:
            known = [*RECIPES, *OWN]
            raise ConfigError(f"there is no command {word!r}, pamela --help lists all{did_you_mean(word, known)}")
    except PamelaError as error:
        print("error:", error, file=sys.stderr)
        sys.exit(2)


def _run(word: str, arguments: Sequence[str]) -> int:
    """Run a recipe and return its exit code: training by Accelerate's launcher, but in this process where one is all it would be."""
    recipe, given = recipes_folder() / f"{RECIPES[word]}.py", with_shipped_configs(arguments)
    os.environ[GIVEN_COMMAND] = shlex.join(["pamela", word, *arguments])
    launch_flags, flags, launched = [], given, False
    if "--" in given:
        if word not in LAUNCHED:
            raise ConfigError(f"pamela {word} is one process, which needs no launch flags; leave out --.")
        launch_flags, flags, launched = given[: given.index("--")], given[given.index("--") + 1 :], True
    elif word in LAUNCHED and not {"--help", "-h"} & set(given):
        launched = has_own_config()
    if word in _DEFAULT_CONFIGS and not any(flag.partition("=")[0] == "--config" for flag in flags):
        flags = ["--config", str(configs_folder() / _DEFAULT_CONFIGS[word]), *flags]
    if launched:
        return launch(recipe, launch_flags, flags)
    sys.argv[1:] = flags
    runpy.run_path(str(recipe), run_name="__main__")
    return 0


def _help() -> str:
    recipes = {word: describe_recipe(recipes_folder() / f"{name}.py") for word, name in RECIPES.items()}
    own = {word: command.__doc__ or "" for word, command in OWN.items()}
    return _HELP.format(commands=_table(recipes | own), launched="|".join(LAUNCHED))


def _about(config: str) -> str:
    return describe_config(configs_folder() / config)


def _table(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {name:{width}}  {text}" for name, text in rows.items())


def _expect(usage: str, arguments: Sequence[str], count: range) -> None:
    if len(arguments) not in count:
        given = shlex.join(arguments) or "nothing"
        raise ConfigError(f"pamela {usage.split()[0]} was given {given}; write pamela {usage}.")


if __name__ == "__main__":
    main()
