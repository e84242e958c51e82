"""What a bare machine with one card should do: real sizes through the recipes' own path, a line each and a table at the end.

make gpu-check                                              # on a card, within minutes
python benchmarks/gpu_check.py --only sd15 compiled         # some parts; those that are done are kept in the output folder
python benchmarks/gpu_check.py --small --output_dir outputs/gpu-check-small     # the same code on a CPU, small

Models have random weights of the published sizes, text encoders of full width with two layers; each is written to a folder, trained
for one iteration by recipes/train.py (encoder, offload, validation, checkpoint, adapter saved and loaded back), and deleted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from diffusers.utils import logging
from PIL import Image
from real_models import MODELS
from text_encoders import text_parts

from pamela_rl.agreement.preparation import prepare_study
from pamela_rl.data.settings import SourceSettings
from pamela_rl.rewards.models import MODELS as MODELS_OF_TASTE
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.storage import read_metrics

ROOT = Path(__file__).parents[1]
USER = "rater-007"  # a user of the world, whose models are among those checked
Row = dict[str, Any]


def families(folder: Path, small: bool) -> Row:
    """Every family's contract in bf16 on the card, on small models."""
    chosen = ["-m", "not gpu"] if small else ["-m", "gpu"]
    file = "tests/diffusion/test_families_on_a_card.py"
    run([sys.executable, "-m", "pytest", "-q", "-n", "0", *chosen, file], folder / "families.log")
    return {}


def model(key: str) -> Callable[[Path, bool], Row]:
    """One iteration of a model of the published size."""

    def check(folder: Path, small: bool) -> Row:
        base, reward = folder / f"{key}-model", small_reward(folder)
        chosen = MODELS[key]
        side = chosen.side // 8 if small else chosen.side
        pipeline = chosen.build(small)
        pipeline.register_modules(**text_parts(key, small))
        pipeline.to(dtype=torch.bfloat16).save_pretrained(base)
        del pipeline
        prompts = folder / "prompts.txt"
        prompts.write_text("a boat\na tree at dusk\n", encoding="utf-8")
        try:
            return train(key, folder, reward, base, side, chosen.guidance_scale, compiled=False)
        finally:
            shutil.rmtree(base, ignore_errors=True)

    return check


def compiled(folder: Path, small: bool) -> Row:
    """One iteration with compiled blocks, on the world's UNet."""
    prompts = folder / "prompts.txt"
    prompts.write_text("a boat\na tree at dusk\n", encoding="utf-8")
    return train("compiled", folder, small_reward(folder), Path("world"), 64, 1.0, compiled=not small)


def quickstart(folder: Path, small: bool) -> Row:
    """The shortened quickstart."""
    launch("recipes/quickstart.py", folder, "quickstart", "--config", "recipes/configs/quickstart_short.yaml",
           "--output_dir", str(folder / "quickstart"))  # fmt: skip
    return {"images/s": rate(folder / "quickstart")}


def train(key: str, folder: Path, reward: Path, base: Path, side: int, guidance_scale: float, compiled: bool) -> Row:
    """Run recipes/train.py for one iteration and read what it left."""
    run_folder = folder / f"{key}-run"
    shutil.rmtree(run_folder, ignore_errors=True)
    noise = ["--train.sampling.window_size=3"] if key in ("sd35", "flux") else []
    launch(
        "recipes/train.py", folder, key, f"--reward={reward}", f"--model.name={base}", f"--prompts={folder / 'prompts.txt'}",
        f"--output_dir={run_folder}", "--encoder=pixels", "--algorithm=ddpo", f"--users=[{USER}]", f"--model.height={side}",
        f"--model.width={side}", "--model.dtype=bfloat16", "--model.offload=true",
        f"--model.compile={'blocks' if compiled else 'no'}", "--train.num_iterations=1", "--train.images_per_iteration=4",
        "--train.group_size=2", "--train.batch_size=2", "--train.validation.every=1", "--train.validation.num_images=2",
        "--train.sampling.num_inference_steps=4", "--train.sampling.train_steps=2", "--num_inference_steps=2",
        f"--train.sampling.guidance_scale={guidance_scale}", "--train.lora.rank=16", *noise,
    )  # fmt: skip
    (row,) = read_metrics(run_folder / "users" / USER / "metrics.jsonl")
    weights = run_folder / "adapters" / USER / "pytorch_lora_weights.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"{weights} was not written")
    planned = next(line for line in (folder / f"{key}.log").read_text().splitlines() if "iteration: planned" in line)
    facts = {"images/s": rate(run_folder), "mismatch": row["train/sampling_mismatch"], "peak GB": row["memory/peak_gb"]}
    return {**facts, "memory": planned.split("iteration: ")[1].strip()}


def rate(run_folder: Path) -> float:
    """Images a second of a run's last iteration."""
    files = sorted(run_folder.glob("users/*/metrics.jsonl"))
    return round(float(read_metrics(files[-1])[-1]["time/images_per_second"]), 2)


def small_reward(folder: Path) -> Path:
    """A personal reward of pixels, fitted to ratings that follow lightness."""
    target = folder / "reward" / "rewards" / "taste_basis"
    if not target.is_dir():
        images = folder / "images"
        images.mkdir(parents=True, exist_ok=True)
        for number in range(60):
            Image.new("RGB", (32, 32), (4 * number, 255 - 4 * number, 128)).save(images / f"{number}.png")
        likes = {USER: 1, "bob": -1, "eve": 1, "joe": -1, "kim": 1}  # light or dark
        rows = [(u, f"{n}.png", 3 + sign * (n // 12 - 2)) for u, sign in likes.items() for n in range(60)]
        table = pd.DataFrame(rows, columns=["user_id", "image", "rating"])
        table["split"] = ["train" if n % 3 else "val_seen" for n in range(len(table))]
        table.to_csv(images / "ratings.csv", index=False)
        source = SourceSettings(kind="folder", path=str(images / "ratings.csv"))
        prepared = prepare_study(source, "pixels", folder / "features")
        fitted = MODELS_OF_TASTE["taste_basis"](prepared.study.data, 0)
        PersonalReward(prepared.encoder, fitted, prepared.study.fitted_on).save(target)
    return target


def launch(recipe: str, folder: Path, name: str, *flags: str) -> None:
    """Run a recipe through ``accelerate launch``."""
    config = str(ROOT / "recipes/configs/accelerate/one_process.yaml")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config, str(ROOT / recipe), *flags]
    run(command, folder / f"{name}.log")


def run(command: list[str], log: Path) -> None:
    """Run a command in the repository, its output in a file; a failure shows the end of it."""
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        end = "\n".join(log.read_text(encoding="utf-8").splitlines()[-15:])
        raise RuntimeError(f"{' '.join(command[:6])} … ended with {done.returncode}:\n{end}")


PARTS: dict[str, Callable[[Path, bool], Row]] = {
    "families": families,
    **{key: model(key) for key in MODELS},
    "quickstart": quickstart,
    "compiled": compiled,
}


def main() -> None:
    """Check, part by part, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS), help="parts, in this order")
    parser.add_argument("--small", action="store_true", help="small models, for machines without a card")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "outputs" / "gpu-check")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    folder = arguments.output_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{device}, PyTorch {torch.__version__}; logs and results in {arguments.output_dir}")
    results = folder / "results.json"
    rows: dict[str, Row] = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {}
    for name in arguments.only:
        if rows.get(name, {}).get("result") == "ok" and set(arguments.only) == set(PARTS):
            continue  # done by an earlier call
        started = time.monotonic()
        try:
            row = {"result": "ok", **PARTS[name](folder, arguments.small)}
        except Exception as error:
            row = {"result": f"failed: {error}"}
        rows[name] = row | {"seconds": round(time.monotonic() - started)}
        results.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {'; '.join(f'{key} {value}' for key, value in rows[name].items())}", flush=True)
    table(rows)
    sys.exit(any(row["result"] != "ok" for row in rows.values()))


def table(rows: dict[str, Row]) -> None:
    """Print everything that is known, one row a part."""
    print("\npart        result   seconds  images/s  mismatch  peak GB  memory")
    for name, row in rows.items():
        figures = [row.get(key, "") for key in ("seconds", "images/s", "mismatch", "peak GB", "memory")]
        cells = "  ".join(f"{value:>8}" if not isinstance(value, float) else f"{value:8.3g}" for value in figures)
        print(f"{name:11s} {row['result'][:7]:8s} {cells}")


if __name__ == "__main__":
    main()
