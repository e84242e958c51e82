"""A million ratings: seconds to read, check and split them, and the most memory that takes.

python benchmarks/ratings.py [rows]

Twelve thousand people, fifty thousand pictures (which must be there: they lie in a zip), five splits, a prompt and a
number a row. Every format is read in a process of its own. Reading includes every check; splitting takes all five
splits and ten people. Memory is the most the process ever held; "import" is what it held before it read anything.
Where the machine is busy with other things, look at the seconds of CPU.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.ratings import SPLITS, RatingTable
from pamela_rl.data.sources import RatedImages, read_folder, read_pamela

NUM_USERS, NUM_IMAGES = 12_000, 50_000


def make(folder: Path, num_rows: int) -> None:
    """Write the same ratings in every layout."""
    rng = np.random.default_rng(0)
    images = rng.integers(NUM_IMAGES, size=num_rows)
    names = np.array([f"images/picture_{number:06d}.png" for number in range(NUM_IMAGES)])
    prompts = np.array([f"a picture of subject {number}, in oil, at dusk" for number in range(500)])
    rows = pd.DataFrame(
        {
            "user_id": [f"person-{number}" for number in rng.integers(NUM_USERS, size=num_rows)],
            "image": names[images],
            "rating": rng.integers(1, 6, size=num_rows),
            "prompt": prompts[images % 500],
            "split": np.array(SPLITS)[rng.integers(5, size=num_rows)],
            "seconds": rng.random(num_rows),
        }
    )
    table = RatingTable(rows)
    for suffix in (".csv", ".parquet", ".jsonl"):
        table.to_file(folder / f"ratings{suffix}")
    rows.loc[::100, "rating"] = 9
    rows.to_csv(folder / "one_in_a_hundred_is_wrong.csv", index=False)
    rows = rows.assign(image_b=names[(images + 1) % NUM_IMAGES], choice=rng.choice(["a", "b", "tie"], num_rows))
    rows.rename(columns={"image": "image_a"}).to_csv(folder / "choices.csv", index=False)
    with zipfile.ZipFile(folder / "pamela.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in names:
            archive.writestr(f"PAMELA/{name}", b"not decoded here")
        for split, part in table.rows.groupby("split"):
            entries = [
                {
                    "participant_id": user, "image_id": image, "image_path": f"./{image}", "original_score": rating,
                    "image_metadata": {"prompt": prompt, "group": "animal", "style": None, "type": "photorealism"},
                    "user_demographics": {"age": 31, "age_binned": "30-39", "gender": None, "nationality": "belgian"},
                }
                for user, image, rating, prompt in zip(part["user_id"], part["image"], part["rating"], part["prompt"])
            ]  # fmt: skip
            archive.writestr(f"PAMELA/annotations/pamela_{split}.json", json.dumps(entries))


def readers(folder: Path) -> dict[str, Callable[[], RatedImages | ChoiceTable]]:
    """How each file is read."""
    images = folder / "pamela.zip" / "PAMELA"
    return {
        "ratings.csv": lambda: read_folder(folder / "ratings.csv", images),
        "ratings.parquet": lambda: read_folder(folder / "ratings.parquet", images),
        "ratings.jsonl": lambda: read_folder(folder / "ratings.jsonl", images),
        "one_in_a_hundred_is_wrong.csv": lambda: read_folder(
            folder / "one_in_a_hundred_is_wrong.csv", images, on_bad_row="skip"
        ),
        "choices.csv": lambda: ChoiceTable.from_file(folder / "choices.csv"),
        "pamela.zip": lambda: read_pamela(folder / "pamela.zip"),
    }


def measure(folder: Path, name: str) -> None:
    """Read one file in this process and print what it took."""
    before, start, busy = peak(), time.perf_counter(), time.process_time()
    rated = readers(folder)[name]()
    read, busy = time.perf_counter() - start, time.process_time() - busy
    table = rated.table if isinstance(rated, RatedImages) else rated
    start = time.perf_counter()
    parts = [table.split(split) for split in SPLITS]
    users = [table.for_user(user) for user in table.user_ids[:10]]
    split = time.perf_counter() - start
    assert sum(len(part.rows) for part in parts) == len(table.rows)
    assert all(len(user.rows) for user in users)
    size = (folder / name).stat().st_size / 2**20
    figures = f"{size:>9.0f}{read:>9.1f}{busy:>9.1f}{split:>9.2f}{before:>9.0f}{peak():>9.0f}"
    print(f"{name:32}{len(table.rows):>10,}{figures}", flush=True)


def peak() -> float:
    """The most memory this process ever held, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's getrusage would count the parent's, before the program was started
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Make the files, and read each in a process of its own."""
    if len(sys.argv) == 3:
        measure(Path(sys.argv[1]), sys.argv[2])
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), int(sys.argv[1]) if len(sys.argv) == 2 else 1_000_000)
        titles = ("file", "rows", "MiB", "read s", "CPU s", "split s", "import", "peak MiB")
        print("{:32}{:>10}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}".format(*titles), flush=True)
        for name in readers(Path(folder)):
            subprocess.run([sys.executable, __file__, folder, name], check=True)


if __name__ == "__main__":
    main()
