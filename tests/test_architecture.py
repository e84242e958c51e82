"""The arrows of the design, read from the imports themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "pamela_rl").rglob("*.py"))
READ_PT_FILES = {  # weights that are published as .pt or .pth alone
    ROOT / "pamela_rl/rewards/population/weights.py",
    ROOT / "pamela_rl/rewards/encoders/timm_weights.py",
}
NOUNS = {"types", "errors", "config", "storage", "intervals", "plugins"}
MAY_IMPORT = {
    "errors": set(),
    "types": {"errors"},
    "config": {"errors"},
    "plugins": {"errors"},
    "storage": {"errors"},
    "intervals": set(),
    "cli": NOUNS | {"rewards"},  # the names of its settings
    "data": NOUNS,
    "diffusion": NOUNS,
    "rewards": NOUNS | {"data"},
    "agreement": NOUNS | {"data", "rewards"},
    "algorithms": NOUNS | {"diffusion"},
    "steering": NOUNS | {"data", "diffusion", "rewards"},
    "evaluation": NOUNS | {"data", "diffusion", "rewards", "steering"},
    "training": NOUNS | {"data", "diffusion", "algorithms", "steering", "evaluation"},
    "sharing": NOUNS | {"diffusion", "rewards"},
    "": {
        *NOUNS,
        "data",
        "diffusion",
        "rewards",
        "agreement",
        "algorithms",
        "steering",
        "evaluation",
        "training",
        "sharing",
        "world",
    },
    "world": NOUNS | {"data", "diffusion", "rewards", "agreement", "algorithms", "steering", "evaluation", "training"},
}


def part_of(module: str) -> str:
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else ""


def module_of(file: Path) -> str:
    pieces = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(pieces[:-1] if pieces[-1] == "__init__" else pieces)


def imports_of(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_arrows_point_one_way(file: Path) -> None:
    mine = part_of(module_of(file))
    used = {part_of(name) for name in imports_of(file) if name.startswith("pamela_rl.")}
    assert used <= MAY_IMPORT[mine] | {mine}, f"{module_of(file)} may not import {used - MAY_IMPORT[mine] - {mine}}"


def test_no_import_goes_round_in_a_circle() -> None:
    graph = {module_of(f): {i for i in imports_of(f) if i.startswith("pamela_rl")} for f in FILES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module in done:
            return
        for following in graph.get(module, ()):
            visit(following, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_only_recipes_read_flags_and_nothing_unpickles(file: Path) -> None:
    used = {name.split(".")[0] for name in imports_of(file)}
    assert not used & {"argparse", "pickle"}
    assert "yaml" not in used or part_of(module_of(file)) == "cli"
    assert "jsonargparse" not in used or part_of(module_of(file)) in {"cli", "algorithms"}
    loads = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if is_torch_load(node)]
    assert len(loads) == (1 if file in READ_PT_FILES else 0)
    assert all("weights_only=True" in ast.unparse(load) for load in loads)


def test_tensors_are_saved_by_storage_alone() -> None:
    """safetensors' own ``save_file`` leaves a file to its owner alone."""
    trees = {module_of(file): ast.walk(ast.parse(file.read_text(encoding="utf-8"))) for file in FILES}
    calls = {module: [node for node in nodes if isinstance(node, ast.Call)] for module, nodes in trees.items()}
    saving = [m for m, found in calls.items() if any(ast.unparse(call.func).endswith("save_file") for call in found)]
    assert saving == ["pamela_rl.storage"]


def is_torch_load(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("torch.load", "serialization.load"))


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_files_and_functions_stay_short_and_public_names_are_explained(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None
                length, longest = node.end_lineno - node.lineno + 1, 100 if node.name == "train" else 70  # the loop
                assert length <= longest, f"{node.name} is {length} lines long"
            if not node.name.startswith("_") and not _is_nested(node, text):
                assert ast.get_docstring(node), f"{node.name} has no docstring"


def _is_nested(node: ast.AST, text: str) -> bool:
    return (isinstance(node, ast.FunctionDef) and node.col_offset > 4) or _inside_function(node, text)


def _inside_function(node: ast.AST, text: str) -> bool:
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    return any(f.lineno < node.lineno <= (f.end_lineno or 0) for f in functions)


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_fp64_is_asked_for_on_the_cpu(file: Path) -> None:
    """Apple's MPS has no fp64: what comes from a device is moved before it is widened."""
    calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    moved_late = [call for call in calls if ast.unparse(call.func).endswith(".double().cpu")]
    assert not moved_late
