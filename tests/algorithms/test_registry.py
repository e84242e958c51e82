from __future__ import annotations

from pathlib import Path

import pytest

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.grpo import GRPO
from pamela_rl.algorithms.nft import NFT
from pamela_rl.algorithms.registry import algorithm_names, open_algorithm
from pamela_rl.errors import ConfigError
from pamela_rl.storage import SHIPPED_PIPELINES
from pamela_rl.training.loop import settings_of
from pamela_rl.world.algorithm_settings import ALGORITHM_SETTINGS, open_tuned_algorithm


def test_every_algorithm_is_known_by_its_files_name() -> None:
    assert algorithm_names() == ["ddpo", "ddpo_sf", "dpo", "draft", "grpo", "nft", "sft"]
    assert [open_algorithm(name).name for name in algorithm_names()] == algorithm_names()


def test_a_word_takes_the_algorithms_own_defaults_and_a_mapping_its_settings() -> None:
    assert open_algorithm("nft") == NFT()
    assert open_algorithm({"name": "grpo", "window": "sliding", "kl_weight": 0.25}) == GRPO(
        window="sliding", kl_weight=0.25
    )
    assert open_algorithm({"name": "nft", "learning_rate": "4e-3"}) == NFT(learning_rate=0.004)


def test_on_the_world_settings_that_are_not_given_are_those_tuned_for_it() -> None:
    tuned = {"nft": {"learning_rate": 0.5, "beta": 0.25}}
    assert open_algorithm({"name": "nft", "beta": 1.0}, tuned) == NFT(learning_rate=0.5)
    assert open_algorithm("ddpo", tuned) == DDPO()
    for of_model in ALGORITHM_SETTINGS.values():
        assert all(open_algorithm(name, of_model) != open_algorithm(name) for name in algorithm_names())
        assert of_model.keys() == set(algorithm_names())
    assert ALGORITHM_SETTINGS.keys() == SHIPPED_PIPELINES.keys()
    assert open_tuned_algorithm("nft", "world") == open_algorithm("nft", ALGORITHM_SETTINGS["world"])
    assert open_tuned_algorithm("nft", "some/model") == NFT()


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        (
            "nftt",
            r"algorithm is 'nftt'; use one of ddpo, ddpo_sf, dpo, draft, grpo, nft, sft, or the path of a file of your own",
        ),
        ("advantages", "algorithm is 'advantages'; use one of"),
        ("policy_gradient", "algorithm is 'policy_gradient'; use one of"),
        ({"beta": 1.0}, "give a name, or a mapping with a name and settings"),
        (
            {"name": "nft", "clip_range": 0.1},
            r"(?s)nft cannot be set so: .*clip_range.*Its settings are learning_rate, .*beta",
        ),
        ({"name": "nft", "beta": "much"}, r"(?s)nft cannot be set so: .*beta.*much"),
        ("absent.py", "algorithm is 'absent.py', but there is no such file"),
        ({"name": "nft", "beta": 0.0}, "nft's beta is 0.0"),
    ],
)
def test_a_wrong_choice_is_refused_with_what_there_is(choice: object, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        open_algorithm(choice)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["x = 1\n", "from pamela_rl.algorithms.ddpo import DDPO\n"])
def test_a_file_without_an_algorithm_of_its_own_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="defines 0 algorithms; it must define one"):
        open_algorithm(str(file))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = (\n", r"cannot be read: line 1: SyntaxError"),
        ("\nimport json\njson.loads('{')\n", r"cannot be read: line 3: JSONDecodeError"),
        ("import os\nimport nothing_at_all\n", "line 2: ModuleNotFoundError"),
    ],
)
def test_a_file_with_a_mistake_is_a_sentence_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=sentence):
        open_algorithm(str(file))


def test_a_file_named_like_a_module_of_python_stands_in_nobodys_way_and_is_run_once(tmp_path: Path) -> None:
    file = tmp_path / "random.py"
    text = "from dataclasses import dataclass\nfrom pamela_rl.algorithms.ddpo import DDPO\n@dataclass(frozen=True)\n"
    file.write_text(text + "class Mine(DDPO):\n    pass\n", encoding="utf-8")
    first, second = open_algorithm(str(file)), open_algorithm({"name": str(file), "clip_range": 0.5})
    assert type(first) is type(second)
    assert first.name == "random"
    import random

    assert random.random() < 1


def test_a_run_does_not_go_on_with_another_text_under_the_same_name(tmp_path: Path) -> None:
    text = "from dataclasses import dataclass\nfrom pamela_rl.algorithms.ddpo import DDPO\n@dataclass(frozen=True)\n"
    records = []
    for folder, more in (("a", ""), ("b", "# changed\n")):
        file = tmp_path / folder / "mine.py"
        file.parent.mkdir()
        file.write_text(text + "class Mine(DDPO):\n    pass\n" + more, encoding="utf-8")
        records.append(settings_of(open_algorithm(str(file))))
    assert records[0]["algorithm.source"] != records[1]["algorithm.source"]
    assert "algorithm.source" not in settings_of(NFT())
