"""A blind test with people: pages of pairs with hidden arms, and what people chose on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pamela_rl.evaluation.blind_choices import choice_files, read_choices
from pamela_rl.evaluation.blind_page import write_page
from pamela_rl.evaluation.blind_pairs import choose_pairs
from pamela_rl.evaluation.blind_results import choices_table, summarize_choices
from pamela_rl.evaluation.gallery import load_gallery
from pamela_rl.evaluation.verdict import interval_meaning
from pamela_rl.storage import ensure_writable, folder_name, write_text

NEXT = """
Next:
1. Give each person their own page, the file alone. It opens with a double click, offline, also on a phone.
2. They choose, press "Save my choices" and send you the file choices-<person>.json.
3. Put these files into {output}/choices and run
   pamela blind-test --output_dir {output} --choices {output}/choices

Keep {output}/keys to yourself: it says which arm is on which side.
""".rstrip()

LEGEND = """Elo: 400 points are odds of ten to one, the mean over arms is 1000; brackets: {intervals}
wins: share of pairs in which the arm of the row was chosen over that of the column; "no difference" counts one half.
left: share of choices for the left side, 50 % where nobody minds sides. same again: pairs shown twice, sides swapped."""


def make_pages(
    run: Path, folder: Path, num_pairs: int = 60, repeated: float = 0.1, arms: Sequence[str] = (), seed: int = 0
) -> None:
    """Make a page and a key for each user of a comparison, and print what to do with them.

    Pages that are there are kept: somebody may be choosing.

    Args:
        run: Folder of a comparison with images.
        folder: Gets ``pages/`` and ``keys/``.
        num_pairs: Different pairs on each page, at most.
        repeated: Share of them to show again with the sides swapped, from 0 to 0.5.
        arms: Arms to compare; empty for all.
        seed: Of choice, sides and order.

    Raises:
        DataError: The run has no images.
        ConfigError: An arm is not there, or no two share a prompt and seed.
    """
    images = load_gallery(run)
    users = list(dict.fromkeys(image.user_id for image in images))
    ensure_writable(folder)
    print("Blind test: one page a person; the same prompt and noise on both sides, arms hidden.\n")
    width = max(map(len, users))
    for number, user in enumerate(users):
        page = folder / "pages" / f"{folder_name(user)}.html"
        if page.exists():
            print(f"  {user:{width}}  {page}  made earlier and kept; remove it to have it made anew")
            continue
        page_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        own = [image for image in images if image.user_id == user]
        pairs = choose_pairs(own, num_pairs, repeated, arms, page_seed)
        twice = sum(pair.repeats is not None for pair in pairs)
        write_page(folder, user, pairs)
        print(f"  {user:{width}}  {page}  {len(pairs) - twice} pairs, {twice} of them twice, sides swapped")
    print(NEXT.format(output=folder))


def read_back(folder: Path, choices: Path | Sequence[Path]) -> None:
    """Read what people chose, print it as tables and write ``blind_test.json``.

    Args:
        folder: Where the pages were made.
        choices: A folder of ``choices-*.json``, one such file, or a list of them.

    Raises:
        DataError: There is no such file, or one is wrong.
    """
    summary = summarize_choices(read_choices(choice_files(choices), folder / "keys"))
    path = folder / "blind_test.json"
    write_text(path, json.dumps(summary, indent=1) + "\n")
    total, num_users = summary["overall"]["num_choices"], len(summary["users"])
    people = "person" if num_users == 1 else "people"
    print(f"{total} choices of {num_users} {people}.\n\n{choices_table(summary)}\n")
    print(LEGEND.format(intervals=interval_meaning(num_users)))
    print(f"\nAll figures: {path}")
