from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pamela_rl.cli.commands import OWN, RECIPES
from pamela_rl.cli.shipped import config_names, configs_folder, copy_config, describe_config, with_shipped_configs
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.settings import POPULATION_NAMES

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "jsonargparse", "yaml", "accelerate")
PAMELA = "import sys; sys.argv = ['pamela', *sys.argv[1:]]; from pamela_rl.cli.commands import main; main()"


def pamela(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", PAMELA, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_every_recipe_has_a_word_and_the_help_says_what_each_does() -> None:
    assert sorted(RECIPES.values()) == sorted(recipe.stem for recipe in (ROOT / "recipes").glob("*.py"))
    said = pamela("--help").stdout
    for word in (*RECIPES, *OWN):
        (line,) = [line for line in said.splitlines() if line.startswith(f"  {word} ")]
        assert 10 < len(line.removeprefix(f"  {word}").strip()) < 120
    assert pamela().stdout == said


def test_the_help_of_the_console_command_loads_nothing_it_does_not_show() -> None:
    script = f"{PAMELA.replace('main()', '')}\nmain()\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script, "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian"], "there is no command 'trian', pamela --help lists all; did you mean train?"),
        (["evaluate", "--", "--run=x"], "pamela evaluate is one process, which needs no launch flags; leave out --."),
        (["cp"], "pamela cp was given nothing; write pamela cp CONFIG [TO]."),
        (["ls", "configs"], "pamela ls was given configs; write pamela ls."),
        (
            ["cp", "train_sd3.yaml"],
            "there is no shipped config 'train_sd3.yaml', pamela ls lists them; did you mean train_sd35.yaml?",
        ),
        (["train", "--reward=nowhere"], "no personal reward can be read from nowhere"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str) -> None:
    ended = pamela(*arguments)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"error: {sentence}")


def test_a_recipe_by_its_word_reads_flags_and_shipped_configs_from_any_folder(tmp_path: Path) -> None:
    shown = pamela("quickstart", "--help", folder=tmp_path)
    assert shown.stdout.startswith("usage: pamela quickstart [")
    ended = pamela("evaluate", "--config", "evaluate_short.yaml", folder=tmp_path)  # the file names the run
    assert ended.stderr.startswith("error: no adapters under outputs/quickstart-short/adapters")


def test_the_quickstart_without_a_config_is_the_one_of_make(tmp_path: Path) -> None:
    ended = pamela("quickstart", "--algorithm={name: ddpo, num_updates: 7}", "--print_config", folder=tmp_path)
    assert "num_iterations: 15" in ended.stdout
    assert "num_updates: 7" in ended.stdout
    ended = pamela("quickstart", "--config=quickstart_short.yaml", "--print_config", folder=tmp_path)
    assert "num_iterations: 2" in ended.stdout


@pytest.mark.slow
def test_the_launcher_passes_a_recipes_exit_code_on(tmp_path: Path) -> None:
    ended = pamela(
        "train",
        "--config_file=accelerate/one_process.yaml",
        "--",
        "--reward=nowhere",
        "--model.name=world",
        folder=tmp_path,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: no personal reward can be read from nowhere")
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_training_is_launched_as_accelerate_config_has_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "hub" / "accelerate" / "default_config.yaml"
    own.parent.mkdir(parents=True)
    config = (configs_folder() / "accelerate" / "one_process.yaml").read_text(encoding="utf-8")
    own.write_text(config.replace("mixed_precision: 'no'", "mixed_precision: fp8000"), encoding="utf-8")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    ended = pamela("train", "--reward=nowhere", folder=tmp_path)
    assert "fp8000" in ended.stderr  # the launcher has read it


def test_shipped_configs_have_a_name_a_description_and_a_place_behind_files_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = config_names()
    assert {"train_sd35.yaml", "memory/16gb.yaml", "accelerate/one_process.yaml"} < set(names)
    assert all(10 < len(describe_config(configs_folder() / name)) < 125 for name in names)
    sd35 = str(configs_folder() / "train_sd35.yaml")
    flags = ["--config", "train_sd35.yaml", "--config=recipes/configs/train_sd35.yaml", "--prompts", "train_sd35.yaml"]
    monkeypatch.chdir(tmp_path)
    assert with_shipped_configs(flags) == ["--config", sd35, f"--config={sd35}", "--prompts", "train_sd35.yaml"]
    Path("train_sd35.yaml").write_text("my own", encoding="utf-8")
    assert with_shipped_configs(flags[:2]) == flags[:2]


def test_a_copy_is_the_same_and_never_takes_the_place_of_a_file(tmp_path: Path) -> None:
    copy = copy_config("recipes/configs/memory/16gb.yaml", tmp_path)
    assert copy == tmp_path / "16gb.yaml"
    assert copy.read_bytes() == (configs_folder() / "memory" / "16gb.yaml").read_bytes()
    assert copy_config("memory/8gb.yaml", tmp_path / "mine.yaml").name == "mine.yaml"
    with pytest.raises(ConfigError, match=r"16gb\.yaml is there already; name another file, or remove it\."):
        copy_config("memory/16gb.yaml", tmp_path)


def test_what_is_listed_by_name_is_what_there_is() -> None:
    from pamela_rl.rewards.population import POPULATION_REWARDS

    assert set(POPULATION_NAMES) == set(POPULATION_REWARDS)
    said = pamela("ls").stdout
    assert all(name in said for name in (*POPULATION_NAMES, *config_names(), "world, flow"))


def test_the_environment_tells_versions_and_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "ada"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    said = pamela("env", folder=tmp_path).stdout
    for row in ("pamela_rl ", "torch ", "device ", "accelerate config ", "hub "):
        assert any(line.startswith(row) for line in said.splitlines())
    assert "offline, cache in ~/" in said
    assert "ada" not in said.replace("adapters", "")
    assert "hf_secret" not in said
