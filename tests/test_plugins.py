from __future__ import annotations

from pathlib import Path

import pytest

from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import ConfigError
from pamela_rl.plugins import load_class

FAMILY = """
from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy

class Mine(StableDiffusionPolicy):
    pipeline_class = "MinePipeline"
"""


def write(folder: Path, text: str) -> Path:
    (folder / "mine.py").write_text(text, encoding="utf-8")
    return folder / "mine.py"


def test_a_family_of_ones_own_is_the_class_its_file_defines(tmp_path: Path) -> None:
    file = write(tmp_path, FAMILY)
    family = load_class(file, Policy, "family")  # type: ignore[type-abstract]
    assert issubclass(family, StableDiffusionPolicy)
    assert family.pipeline_class == "MinePipeline"
    assert load_class(str(file), Policy, "family") is family  # type: ignore[type-abstract]


@pytest.mark.parametrize("text", ["", FAMILY.partition("class")[0]])
def test_classes_that_are_only_imported_do_not_count(text: str, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError, match=r"mine\.py defines 0 families; it must define one, a subclass of .*Policy"):
        load_class(file, Policy, "family")  # type: ignore[type-abstract]


def test_two_classes_in_a_file_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, FAMILY + "\nclass Other(Mine):\n    pass\n")
    with pytest.raises(ConfigError, match="defines 2 families; it must define one"):
        load_class(file, Policy, "family")  # type: ignore[type-abstract]
