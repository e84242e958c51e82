"""A blind test for people: pages of side-by-side pairs with hidden arms; read back, win rates and Elo with intervals.

pamela blind-test --run outputs/evaluate --output_dir outputs/blind
pamela blind-test --output_dir outputs/blind --choices outputs/blind/choices
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pamela_rl.cli.command_line import run
from pamela_rl.config.checks import refuse_unused
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.blind_choices import choice_files
from pamela_rl.evaluation.gallery import load_gallery


@dataclass(frozen=True)
class BlindTestConfig:
    """The blind test's settings.

    Attributes:
        run: The folder of a comparison with pictures.
        output_dir: Where pages and keys are, and where ``blind_test.json`` is written.
        choices: What people sent back: a folder of ``choices-*.json``, one such file, or a list of them, e.g.
            ``"[a.json, b.json]"``; without it pages are made.
        arms: Arms to compare; empty for all.
        num_pairs: Different pairs each person sees, at most.
        repeated: Share of them to show again with the sides swapped, from 0 to 0.5.
        seed: Of choice, sides and order.
    """

    run: Path = Path("outputs/evaluate")
    output_dir: Path = Path("outputs/blind")
    choices: Path | list[Path] | None = None
    arms: list[str] = field(default_factory=list)
    num_pairs: int = 60
    repeated: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_pairs < 1:
            raise ConfigError(f"num_pairs is {self.num_pairs}; use 1 or more, e.g. 60.")
        if not 0 <= self.repeated <= 0.5:
            raise ConfigError(f"repeated is {self.repeated}; use 0 to 0.5, e.g. 0.1.")
        if len(self.arms) == 1:
            raise ConfigError(f"arms names {self.arms[0]!r} alone; name two or more, or none for all.")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; use 0 or more.")
        if self.choices is None:
            load_gallery(self.run)
        else:
            refuse_unused(
                self, ("run", "arms", "num_pairs", "repeated", "seed"), "choices are read back, no pages are made"
            )
            choice_files(self.choices)


def blind_test(config: BlindTestConfig) -> None:
    """Make pages, or read choices back."""
    from pamela_rl.evaluation.blind_test import make_pages, read_back

    if config.choices is None:
        make_pages(config.run, config.output_dir, config.num_pairs, config.repeated, config.arms, config.seed)
    else:
        read_back(config.output_dir, config.choices)


if __name__ == "__main__":
    run(BlindTestConfig, __doc__ or "", blind_test)
