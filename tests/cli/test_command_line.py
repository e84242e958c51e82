from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from jsonargparse import ArgumentError

from pamela_rl.cli.command_line import read_config, run
from pamela_rl.config import TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.errors import ConfigError
from pamela_rl.storage import ensure_writable


@dataclass(frozen=True)
class JobConfig:
    """A job's settings.

    Attributes:
        output_dir: Where it writes.
        num_users: For how many.
        train: How.
    """

    output_dir: Path = Path("outputs/job")
    num_users: int = 4
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.num_users < 2:
            raise ConfigError(f"num_users is {self.num_users}; use 2 or more.")


def read(*arguments: str) -> JobConfig:
    return read_config(JobConfig, "a job", arguments)


@pytest.fixture
def yaml(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "job.yaml").write_text(text, encoding="utf-8")
        return f"--config={tmp_path / 'job.yaml'}"

    return write


def test_without_arguments_the_defaults_hold() -> None:
    assert read() == JobConfig()


def test_yaml_and_flags_fill_nested_settings_and_the_later_one_wins(yaml: Callable[[str], str]) -> None:
    file = yaml("output_dir: elsewhere\ntrain:\n  num_iterations: 3\n  reward:\n    std_weight: 1e-4\n")
    config = read(file, "--train.sampling.train_steps", "4", "--train.num_iterations=7")
    assert config.output_dir == Path("elsewhere")
    assert config.train.num_iterations == 7
    assert config.train.reward.std_weight == 1e-4
    assert config.train.sampling.train_steps == 4
    assert config.train.lora == TrainConfig().lora
    assert read("--train.num_iterations=7", file).train.num_iterations == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("num_user: 3\n", "num_user"),
        ("train:\n  num_iteration: 3\n", r"train.*num_iteration\b"),
        ("train:\n  lora:\n    ranc: 4\n", "ranc"),
        ("train:\n  num_iterations: many\n", r"train\.num_iterations.*Expected a .*int.* Got value: many"),
        ("train:\n  num_iterations: 2.5\n", r"train\.num_iterations.*int.*2\.5"),
        ("train: [\n", "Problems parsing config"),
    ],
)
def test_a_misspelt_key_or_a_wrong_type_in_yaml_is_refused(
    yaml: Callable[[str], str], text: str, sentence: str
) -> None:
    with pytest.raises(ArgumentError, match=f"(?s){sentence}"):
        read(yaml(text))


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--num_user=3", "unrecognized arguments: --num_user=3"),
        ("--train.num_iteration=3", "unrecognized arguments: --train.num_iteration=3"),  # not taken for a short form
        ("--train.lora.ranc=4", "unrecognized arguments: .*ranc"),
        ("--num_users=few", "num_users.*Expected a .*int.* Got value: few"),
        ("--config=absent.yaml", "File does not exist: .*absent.yaml"),
    ],
)
def test_a_misspelt_flag_or_a_wrong_type_is_refused(flag: str, sentence: str) -> None:
    with pytest.raises(ArgumentError, match=f"(?s){sentence}"):
        read(flag)


def test_a_batch_that_does_not_divide_into_groups_is_refused_with_numbers_that_do(
    yaml: Callable[[str], str],
) -> None:
    with pytest.raises(ConfigError, match=r"images_per_iteration is 10 but group_size is 4; .* e\.g\. 8 or 12"):
        read("--train.images_per_iteration=10", "--train.group_size=4")
    with pytest.raises(ConfigError, match=r"images_per_iteration is 10 but group_size is 4; .* e\.g\. 8 or 12"):
        read(yaml("train:\n  images_per_iteration: 10\n  group_size: 4\n"))
    with pytest.raises(ConfigError, match=r"num_users is 1; use 2 or more"):
        read("--num_users=1")


def nothing(config: JobConfig) -> None:
    raise AssertionError("the job began")


def write_somewhere(config: JobConfig) -> None:
    ensure_writable(config.output_dir)


def draw_nothing(config: JobConfig) -> None:
    PromptSource([], "ada")


@pytest.mark.parametrize(
    ("arguments", "job", "sentence"),
    [
        (["--train.num_iteration=3"], nothing, "unrecognized arguments: --train.num_iteration=3"),
        (["--train.num_iterations=many"], nothing, "Expected a <class 'int'>. Got value: many"),
        (["--train.images_per_iteration=10", "--train.group_size=4"], nothing, "use a multiple of 4, e.g. 8 or 12."),
        (["--output_dir=/proc/pamela"], write_somewhere, "cannot write to the output folder /proc/pamela"),
        ([], draw_nothing, "give at least one prompt and no empty ones."),
    ],
)
def test_what_a_user_can_mend_ends_in_one_line_and_exit_code_2(
    arguments: list[str],
    job: Callable[[JobConfig], None],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["job.py", *arguments])
    with pytest.raises(SystemExit) as end:
        run(JobConfig, "a job", job)
    said = capsys.readouterr()
    assert end.value.code == 2
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert sentence in said.err


def test_a_mistake_of_ours_is_not_dressed_up_as_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["job.py"])
    with pytest.raises(AssertionError, match="the job began"):
        run(JobConfig, "a job", nothing)


def test_the_job_gets_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["job.py", "--num_users=7"])
    seen: list[JobConfig] = []
    run(JobConfig, "a job", seen.append)
    assert seen == [JobConfig(num_users=7)]
