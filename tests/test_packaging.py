"""What is published with the package: what it needs, and under which licences."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def plain(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", plain(name)).lower()


DISTRIBUTIONS = {
    "PIL": "pillow",
    "open_clip": "open_clip_torch",
    "yaml": "pyyaml",
    "argon2": "argon2-cffi",
}  # where the module has another name
DECLARED = {normal(row) for row in PROJECT["dependencies"]}
OPTIONAL = {normal(row) for rows in PROJECT["optional-dependencies"].values() for row in rows}


def test_everything_that_is_imported_is_declared() -> None:
    undeclared = {}
    for file in [*(ROOT / "pamela_rl").rglob("*.py"), *(ROOT / "recipes").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for module in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"pamela_rl"}:
                if normal(DISTRIBUTIONS.get(module, module)) not in DECLARED | OPTIONAL:
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


def licence(name: str) -> str:
    """What a distribution's own metadata, or else its licence file, says."""
    told = metadata(name)
    short = told.get("License-Expression") or told.get("License") or ""
    if "\n" not in short and short not in ("", "UNKNOWN"):
        return short
    classified = [row.split(" :: ")[-1] for row in told.get_all("Classifier") or [] if row.startswith("License ::")]
    files = [file for file in distribution(name).files or [] if file.name.startswith("LICEN")]
    return classified[0] if classified else files[0].read_text(encoding="utf-8").splitlines()[0]


def families(text: str) -> set[str]:
    """The families of licences that a text names; their spelling changes with releases."""
    return {word for word in ("Apache", "BSD", "Lesser", "LGPL", "MPL", "MIT", "Python Software") if word in text}


def extras() -> list[str]:
    """Names of what extras add for users."""
    rows = [row for extra, rows in PROJECT["optional-dependencies"].items() if extra != "dev" for row in rows]
    return list(dict.fromkeys(map(plain, rows)))


def test_the_licence_of_everything_that_is_installed_is_listed() -> None:
    text = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| ([\w.-]+) \| (.+) \|$", text, flags=re.MULTILINE))
    for name in [*map(plain, PROJECT["dependencies"]), *extras()]:
        with suppress(PackageNotFoundError):  # extras need not be installed
            assert families(listed[name]) & families(licence(name)), name


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])


def test_hooks_before_commit_and_push_run_what_make_check_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipes = dict(re.findall(r"^(\w+):.*\n((?:\t.+\n)+)", makefile, flags=re.MULTILINE))
    lines = [line.strip() for line in (recipes["check"] + recipes["test"]).splitlines()]
    expected = [line.replace("$(BIN)", ".venv/bin") for line in lines if not line.startswith("$(MAKE)")]
    assert [hook["entry"] for hook in hooks] == expected


if __name__ == "__main__":
    for kind, names in (("needed", list(map(plain, PROJECT["dependencies"]))), ("extra", extras())):
        print(f"| {kind} | licence |\n|---|---|")
        for name in names:
            with suppress(PackageNotFoundError):
                print(f"| {name} | {licence(name)} |")
        print()
