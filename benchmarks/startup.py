"""How long the console command takes to show its help, and each command's: medians of several runs, processes included.

python benchmarks/startup.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from pamela_rl.cli.commands import RECIPES

RUNS = 7


def seconds(*arguments: str) -> str:
    """Return the medians of wall and processor time of one command; the first run, which fills the disk's cache, is left out."""
    wall, processor = [], []
    for _ in range(RUNS + 1):
        started, before = time.perf_counter(), os.times()
        command = [sys.executable, "-m", "pamela_rl.cli.commands", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        wall.append(time.perf_counter() - started)
        processor.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return f"{statistics.median(wall[1:]):.2f} s, of the processor {statistics.median(processor[1:]):.2f} s"


def main() -> None:
    """Print a row a command."""
    print(f"pamela --help: {seconds('--help')}")
    for word in RECIPES:
        print(f"pamela {word} --help: {seconds(word, '--help')}")


if __name__ == "__main__":
    main()
