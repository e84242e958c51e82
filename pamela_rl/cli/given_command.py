"""How the running job was called, for its usage line and for reports."""

from __future__ import annotations

import os
import shlex
import sys

GIVEN_COMMAND = "PAMELA_COMMAND"  # environment variable in which the console command tells a recipe, and its processes


def given_command() -> str:
    """Return the command line to give again: that of the console command, or the script's."""
    return os.environ.get(GIVEN_COMMAND) or shlex.join(["python", *sys.argv])


def given_program() -> str:
    """Return the command line without its flags, e.g. "pamela train" or "python recipes/train.py"."""
    return shlex.join(shlex.split(given_command())[:2])
