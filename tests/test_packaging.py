"""What is published with the package: what it needs, and under which licences."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", name, maxsplit=1)[0]).lower()


DECLARED = {normal(row) for row in PROJECT["dependencies"]}
OPTIONAL = {normal(row) for rows in PROJECT["optional-dependencies"].values() for row in rows}


def test_everything_that_is_imported_is_declared() -> None:
    by_module = packages_distributions()
    undeclared = {}
    for file in [*(ROOT / "pamela_rl").rglob("*.py"), *(ROOT / "recipes").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for module in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"pamela_rl"}:
                if not {normal(name) for name in by_module.get(module, [module])} & (DECLARED | OPTIONAL):
                    undeclared[module] = file.relative_to(ROOT)
    assert undeclared == {}


COMMANDS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", ROOT / ".ci" / "run"]
COMMANDS += [*(ROOT / "docs").glob("*.md"), *(ROOT / "recipes").rglob("*.yaml"), *(ROOT / "recipes").glob("*.py")]


@pytest.mark.parametrize("file", COMMANDS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_files_that_commands_in_the_docs_name_are_there(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<!/)(?:recipes|benchmarks)/[\w/]+\.(?:py|yaml)|(?<=--config_file )[\w./]+", text))
    shipped = ROOT / "recipes" / "configs"
    named |= set(re.findall(r"pamela [^\n]*--config ([\w/]+\.yaml)", text)) - {"mine.yaml"}
    assert [name for name in sorted(named) if not (ROOT / name).exists() and not (shipped / name).exists()] == []
