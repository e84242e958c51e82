"""Recipes are short scripts; they show their help and refuse what cannot work before any heavy library loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.py"))
HEAVY = (
    "torch", "torchvision", "diffusers", "transformers", "peft", "accelerate", "open_clip", "pandas", "scipy", "matplotlib",
)  # fmt: skip
REFUSED = {
    "blind_test": ["--run=nowhere"],
    "draw": ["--images=nowhere"],
    "evaluate": ["--run=nowhere"],
    "export": ["--run=nowhere", "--user=ada"],
    "fit_reward": ["--source.kind=folder", "--source.path=nowhere.csv"],
    "quickstart": ["--num_users=1"],
    "search": ["--reward=nowhere"],
    "train": ["--reward=nowhere"],
    "train_rewriter": ["--rewards=nowhere"],
    "train_world": ["--num_scenes=1"],
}
LAUNCH = f"""
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("loaded:", *(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)
"""


def start(recipe: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LAUNCH, str(recipe), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_help_loads_no_heavy_library(recipe: Path) -> None:
    ended = start(recipe, "--help")
    assert ended.returncode == 0
    assert ended.stderr.splitlines()[-1].split() == ["loaded:"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_config_that_cannot_work_is_refused_before_a_heavy_library_loads(recipe: Path) -> None:
    ended = start(recipe, *REFUSED[recipe.stem])
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.splitlines()[-1].split() == ["loaded:"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_has_at_most_a_hundred_lines_and_none_imports_another(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    assert text.count("\n") <= 100
    assert not any(f"from {other.stem} import" in text for other in RECIPES)


def test_nothing_but_recipes_lies_among_them() -> None:
    assert [recipe.stem for recipe in RECIPES] == sorted(REFUSED)
    assert {path.name for path in (ROOT / "recipes").iterdir()} - {"__pycache__"} == {
        "configs",
        *(recipe.name for recipe in RECIPES),
    }
