from __future__ import annotations

from pathlib import Path

import pytest
from command_line import read_config
from quickstart import QuickstartConfig

CONFIGS = sorted((Path(__file__).parents[2] / "recipes" / "configs").glob("quickstart*.yaml"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_shipped_settings_hold_together(file: Path) -> None:
    config = read_config(QuickstartConfig, "", [f"--config={file}"])
    assert config.output_dir.parts[0] == "outputs"
