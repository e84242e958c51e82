from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
        users: For whom.
        columns: Our names to theirs.
        tables: Where ratings are.
        source: A folder, or a name on the hub.
        runs: Further ones.
        train: How.
    """

    output_dir: Path = Path("outputs/job")
    num_users: int = 4
    users: list[str] | Literal["all"] = "all"
    columns: dict[str, str] = field(default_factory=dict)
    tables: list[Path] = field(default_factory=list)
    source: str | None = None
    runs: dict[str, Path] = field(default_factory=dict)
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


IDS = "[7, 007, NO, 1e5, 2024-01-02, null, '8', 0x1F, true, ada]"


def test_ids_stay_as_they_are_typed_in_flags_and_in_yaml(yaml: Callable[[str], str]) -> None:
    typed = ["7", "007", "NO", "1e5", "2024-01-02", "null", "8", "0x1F", "true", "ada"]
    assert read(f"--users={IDS}").users == typed
    assert read("--users", IDS).users == typed
    assert read(yaml(f"users: {IDS}\n")).users == typed
    assert read(yaml("users:\n- 007\n- NO\n")).users == ["007", "NO"]
    assert read("--source=007").source == "007"
    assert read(yaml("source: 007\n")).source == "007"
    assert read(yaml("source: null\nusers: all\n")) == read(yaml("source:\n")) == JobConfig()


def test_a_mapping_in_a_flag_needs_no_blanks(yaml: Callable[[str], str]) -> None:
    expected = {"user_id": "annotator", "rating": "7"}
    assert read("--columns={user_id:annotator,rating:7}").columns == expected
    assert read("--columns={user_id: annotator, rating: 7}").columns == expected
    assert read('--columns={"user_id":"annotator","rating":7}').columns == expected
    assert read(yaml("columns: {user_id:annotator, rating:7}\n")).columns == expected
    assert read(yaml("columns:\n  user_id: a:b\n")).columns == {"user_id": "a:b"}


def test_the_home_folder_is_written_out_in_every_path(
    yaml: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    flags = ["--output_dir=~/run", "--source", "~/rated", "--tables=[~/a.csv, b~/c.csv]", "--runs={long:~/long}"]
    text = "output_dir: ~/run\nsource: '~/rated'\ntables: [~/a.csv, b~/c.csv]\nruns: {long: ~/long}\n"
    for config in (read(*flags), read(yaml(text))):
        assert config.output_dir == Path("/home/ada/run")
        assert config.source == "/home/ada/rated"
        assert config.tables == [Path("/home/ada/a.csv"), Path("b~/c.csv")]
        assert config.runs == {"long": Path("/home/ada/long")}
    monkeypatch.setenv("HOME", yaml("num_users: 9\n").removeprefix("--config=").removesuffix("/job.yaml"))
    assert read("--config=~/job.yaml").num_users == 9


@pytest.mark.parametrize(
    ("flag", "text", "meant"),
    [
        ("--num_user=3", "num_user: 3\n", "num_users"),
        ("--train.num_iteration=3", "train:\n  num_iteration: 3\n", "train.num_iterations"),
        ("--train.lora.ranc=4", "train:\n  lora:\n    ranc: 4\n", "train.lora.rank"),
        ("--trian.lora.rank=4", "trian:\n  lora:\n    rank: 4\n", "train.lora.rank"),
        ("--num_iterations=3", "num_iterations: 3\n", "train.num_iterations"),
        ("--ranc=3", "ranc: 3\n", "train.lora.rank"),
    ],
)
def test_what_a_misspelt_flag_or_key_is_likely_to_mean_is_named(
    yaml: Callable[[str], str], flag: str, text: str, meant: str
) -> None:
    with pytest.raises(ArgumentError, match=rf"did you mean --{meant}\?$"):
        read(flag)
    with pytest.raises(ArgumentError, match=rf"did you mean {meant}\?$"):
        read(yaml(text))
    with pytest.raises(ArgumentError) as error:
        read("--colour=blue")
    assert "did you mean" not in str(error.value)


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
