"""A blind test for people: pages of side-by-side pairs with hidden arms; read back, win rates and Elo with intervals.

python recipes/blind_test.py --run outputs/evaluate --output_dir outputs/blind
python recipes/blind_test.py --output_dir outputs/blind --choices outputs/blind/choices
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from command_line import run

from pamela_rl.errors import ConfigError, DataError
from pamela_rl.evaluation.blind_choices import read_answers
from pamela_rl.evaluation.blind_page import write_page
from pamela_rl.evaluation.blind_pairs import choose_pairs
from pamela_rl.evaluation.blind_results import answers_table, summarize_answers
from pamela_rl.evaluation.gallery import load_gallery
from pamela_rl.storage import ensure_writable, folder_name, write_text

NEXT = """
Next:
1. Give each person their own page, the file alone. It opens with a double click, offline, also on a phone.
2. They choose, press "Save my choices" and send you the file choices-<person>.json.
3. Put these files into {output}/choices and run
   python recipes/blind_test.py --output_dir {output} --choices {output}/choices

Keep {output}/keys to yourself: it says which arm is on which side.
""".rstrip()

LEGEND = """Elo: 400 points are odds of ten to one, the mean over arms is 1000; brackets: 95 % by bootstrap over people and prompts.
wins: share of pairs in which the arm of the row was chosen over that of the column; "no difference" counts one half.
left: share of choices for the left side, 50 % where nobody minds sides. same again: pairs shown twice, sides swapped."""


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


def make_pages(config: BlindTestConfig) -> None:
    """Make a page and a key for each person of the run; pages made earlier are kept, somebody may be choosing."""
    pictures = load_gallery(config.run)
    people = list(dict.fromkeys(picture.user_id for picture in pictures))
    ensure_writable(config.output_dir)
    print("Blind test: one page a person; the same prompt and noise on both sides, arms hidden.\n")
    width = max(map(len, people))
    for number, user in enumerate(people):
        page = config.output_dir / "pages" / f"{folder_name(user)}.html"
        if page.exists():
            print(f"  {user:{width}}  {page}  made earlier and kept; remove it to have it made anew")
            continue
        seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
        mine = [picture for picture in pictures if picture.user_id == user]
        pairs = choose_pairs(mine, config.num_pairs, config.repeated, config.arms, seed)
        twice = sum(pair.repeats is not None for pair in pairs)
        write_page(config.output_dir, user, pairs)
        print(f"  {user:{width}}  {page}  {len(pairs) - twice} pairs, {twice} of them twice, sides swapped")
    print(NEXT.format(output=config.output_dir))


def choice_files(choices: Path | list[Path]) -> list[Path]:
    """List the files meant: those named, and in folders all ``choices-*.json``.

    Raises:
        DataError: A folder has none.
    """
    files: list[Path] = []
    for path in choices if isinstance(choices, list) else [choices]:
        inside = sorted(path.glob("choices-*.json")) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"there is no choices-*.json in {path}; put the files there that people saved.")
        files += inside
    if not files:
        raise DataError("choices is an empty list; name a folder or the files that people saved.")
    return files


def read_back(config: BlindTestConfig, choices: Path | list[Path]) -> None:
    """Read what people chose, print it as tables and write ``blind_test.json``."""
    summary = summarize_answers(read_answers(choice_files(choices), config.output_dir / "keys"))
    path = config.output_dir / "blind_test.json"
    write_text(path, json.dumps(summary, indent=1) + "\n")
    total, people = summary["overall"]["num_choices"], len(summary["users"])
    print(
        f"{total} choices of {people} {'person' if people == 1 else 'people'}.\n\n{answers_table(summary)}\n\n{LEGEND}"
    )
    print(f"\nAll figures: {path}")


def blind_test(config: BlindTestConfig) -> None:
    """Make pages, or read choices back."""
    if config.choices is None:
        make_pages(config)
    else:
        read_back(config, config.choices)


if __name__ == "__main__":
    run(BlindTestConfig, __doc__ or "", blind_test)
