"""A recipe run by Accelerate's launcher, in several processes or as ``accelerate config`` says; its exit code is passed on."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path


def has_own_config() -> bool:
    """Tell whether ``accelerate config`` has written down how to launch; without, and without flags, it is one process."""
    from accelerate.commands.config.config_args import default_config_file

    return Path(default_config_file).is_file()


def launch(recipe: Path, launch_flags: Sequence[str], flags: Sequence[str]) -> int:
    """Run a recipe as ``accelerate launch`` does, and return its exit code, which that command replaces by 1; 128 + n for signal n.

    Args:
        recipe: Its file.
        launch_flags: Of ``accelerate launch``.
        flags: Of the recipe.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    arguments = launch_command_parser().parse_args([*launch_flags, str(recipe), *flags])
    signal.signal(signal.SIGINT, lambda *_: None)  # the terminal tells the recipe too, which saves and ends
    code = 0
    try:
        launch_command(arguments)
    except subprocess.CalledProcessError as error:
        code = int(error.returncode)
    except ChildFailedError as error:
        code = int(error.get_first_failure()[1].exitcode)
    return code if code >= 0 else 128 - code
