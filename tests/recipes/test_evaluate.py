from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from evaluate import EvaluateConfig, evaluate
from local_server import KEY, KEY_VARIABLE, LocalServer, Reply, Request, gemini, png

from pamela_rl.cli.command_line import read_config
from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.adapters import add_adapter, remove_adapter, save_adapter
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.errors import AdapterError, ConfigError, PamelaError
from pamela_rl.evaluation.gallery import load_gallery
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.storage import SHIPPED_PIPELINES

PEOPLE = ("rater-009", "rater-076")


@pytest.fixture(scope="module")
def finished(world_reward: PersonalReward, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a reward and two people's adapters, which were never trained but do something."""
    folder = tmp_path_factory.mktemp("run")
    world_reward.save(folder / "rewards" / "personal")
    policy = policy_for(load_pipeline("world"))
    for seed, (user, recommended) in enumerate(zip(PEOPLE, ({"recommended_strength": "0.75"}, {}))):
        for weight in add_adapter(policy, "x", LoraSettings(rank=2, alpha=2), seed):
            weight.data += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        save_adapter(policy, "x", user, folder, {"images_spent": "60", **recommended}, {})
        remove_adapter(policy, "x")
    return folder


def config(run: Path, output: Path, *arguments: str) -> EvaluateConfig:
    small = ["--num_prompts=2", "--seeds_per_prompt=1", "--reference_images=30", "--noise.num_steps=1"]
    small += ["--drawing.search_inference_steps=2", "--noise.num_inference_steps=2"]
    small += [] if any("service.model" in flag for flag in arguments) else ["--drawing.num_inference_steps=3"]
    small += ["--search.num_variants=3", "--search.num_elites=1", "--images_budget=8", "--strengths=[]"]
    return read_config(EvaluateConfig, "", [f"--run={run}", f"--output_dir={output}", *small, *arguments])


def test_all_arms_are_drawn_compared_and_reported(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(config(finished, tmp_path, "--adapters={again: " + str(finished) + "}", "--strengths=[0.5, 1, 1.5]"))
    facts = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    arms = facts["overall"]
    assert set(arms) == {
        *(
            "base",
            "own",
            "other",
            "prompt_search",
            "other_prompt_search",
            "own_and_search",
            "best_of_n",
            "noise_search",
        ),
        "again",
    }
    assert arms["again"]["true_rating"] == arms["own"]["true_rating"]  # the same adapters under another name
    assert arms["own"]["images_spent"] == 120
    assert arms["prompt_search"]["images_spent"] == 16  # two prompts, four pictures each, two people
    assert arms["own_and_search"]["images_spent"] == 136
    assert (arms["best_of_n"]["images_per_output"], arms["noise_search"]["images_per_output"]) == (5, 2)
    assert arms["best_of_n"]["gain"]["reward"]["estimate"] > 0
    assert arms["noise_search"]["gain"]["reward"]["estimate"] >= 0
    matrix = facts["matrix"]
    for user, other in (PEOPLE, PEOPLE[::-1]):
        rows = facts["users"][user]
        assert matrix[user][user]["estimate"] == pytest.approx(rows["own"]["gain"]["true_rating"]["estimate"])
        assert matrix[user][other]["estimate"] == pytest.approx(rows["other"]["gain"]["true_rating"]["estimate"])
    assert len(load_gallery(tmp_path)) == 2 * 9 * 2
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"arms.png", "matrix.png", "strengths.png"}
    strengths = facts["strengths"]
    for rows, of_arms in ((strengths["overall"], arms), *((strengths["users"][u], facts["users"][u]) for u in PEOPLE)):
        assert [row["strength"] for row in rows] == [0, 0.5, 1, 1.5]
        assert [rows[0]["true_rating"], rows[2]["true_rating"]] == [of_arms[a]["true_rating"] for a in ("base", "own")]
        assert 0 < len({row["true_rating"]["estimate"] for row in rows}) == 4
    assert strengths["recommended"] == {PEOPLE[0]: 0.75}
    assert len(list((tmp_path / "drawings").glob("*.own-at-*"))) == 4  # 0.5 and 1.5 of two people, and not 1
    said = capsys.readouterr().out
    assert "paired comparison" in said
    assert said.index("1 (as trained)") > said.index("paired comparison")
    assert f"Recommended strengths: {PEOPLE[0]} 0.75." in said
    assert str(tmp_path / "report.html") in said


@pytest.mark.slow
def test_a_comparison_that_is_started_again_gives_the_same_figures(finished: Path, tmp_path: Path) -> None:
    few = ["--arms=[own, prompt_search]"]
    evaluate(config(finished, tmp_path, *few))
    first = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    drawn = {file: file.stat().st_mtime_ns for file in (tmp_path / "drawings").iterdir()}
    evaluate(config(finished, tmp_path, *few))
    second = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "drawings").iterdir()} == drawn
    for arm, row in first["overall"].items():
        again = second["overall"][arm]["gain"]["true_rating"]  # texts in other batches differ in the last bit
        assert again == pytest.approx(row["gain"]["true_rating"], abs=1e-5)
    assert first["prompts"] == second["prompts"]


def test_outside_the_world_there_are_no_true_ratings(finished: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a boat\na tree\n", encoding="utf-8")
    elsewhere = [f"--base_model={SHIPPED_PIPELINES['world']}", f"--prompts={prompts}", "--arms=[own, best_of_n]"]
    evaluate(config(finished, tmp_path / "out", *elsewhere))
    facts = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert facts["primary_score"] == "reward"
    assert set(facts["overall"]["own"]["gain"]) == {"reward"}
    assert "strengths" not in facts  # none are drawn where none are given


def test_a_remote_service_takes_the_place_of_the_pipeline(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def paint(request: Request) -> Reply:
        dark = "night" in request.body["contents"][0]["parts"][0]["text"]
        return gemini(png((10, 10, 40) if dark else (250, 250, 210), (64, 64)))

    monkeypatch.setenv(KEY_VARIABLE, KEY)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a boat\na tree\n", encoding="utf-8")
    arguments = [f"--prompts={prompts}", "--users=[rater-009, rater-076]", "--search.num_seeds=1", "--service.model=m"]
    arguments += [
        "--service.requests_per_minute=100000",
        f"--service.key_variable={KEY_VARIABLE}",
        "--service.size=64",
        "--service.price_per_image=0.04",
        "--strengths=[0.5]",  # of adapters, which a service has not
    ]
    with LocalServer(answer=paint) as server:
        asked = config(finished, tmp_path / "out", *arguments, f"--service.url={server.url}")
        evaluate(asked)
        bought = len(server.requests)
        evaluate(asked)
        assert len(server.requests) == bought  # all of it is kept
    facts = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert set(facts["overall"]) == {"base", "prompt_search", "other_prompt_search", "best_of_n"}
    assert facts["primary_score"] == "reward"
    assert f"Bought so far: {bought:,} pictures, at a cost of {0.04 * bought:.2f}." in capsys.readouterr().out
    written = [file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert not any(KEY.encode() in content for content in written)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--arms=[magic]"], r"the arms magic cannot be made here; use any of base, own"),
        (["--arms=[rewriter]"], r"the arms rewriter cannot be made here"),
        (["--base_model=some/model"], r"no prompts are known; give --prompts FILE"),
        (["--num_prompts=0"], r"num_prompts is 0; use 1 or more"),
        (["--images_budget=0"], r"images_budget is 0; use 1 or more"),
        (["--strengths=[0.5, 0]"], r"strengths is \[0.5, 0.0\]; use positive numbers, e.g. \[0.5, 0.75\]"),
        (["--strengths=[-1]"], r"strengths is \[-1.0\]; use positive numbers"),
        (["--strengths=[.inf]"], r"strengths is \[inf\]; use positive numbers"),
    ],
)
def test_what_cannot_be_compared_is_told_in_a_sentence(
    finished: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        evaluate(config(finished, tmp_path, *arguments))


def test_a_person_without_an_adapter_is_told_in_a_sentence(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"has no adapter of user 'nobody'; it has those of: rater-009, rater-076"):
        evaluate(config(finished, tmp_path, "--users=[nobody]"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--run=nowhere"], "no adapters under nowhere/adapters"),
        (["--users=[nobody]"], "has no adapter of user 'nobody'"),
        (["--reward=nowhere"], "no personal reward can be read from nowhere"),
        (["--judge=nowhere"], "no personal reward can be read from nowhere"),
        (["--prompts=absent.txt"], "cannot read the prompt file absent.txt"),
        (["--adapters={again: nowhere}"], "no adapters under nowhere/adapters"),
        (["--rewriter=nowhere"], "rewriter is nowhere, but there is no such folder"),
        (
            ["--service.model=m", "--service.price_per_image=1"],
            "pictures are drawn by gemini, for which no prompts are known",
        ),
    ],
)
def test_what_is_not_there_is_refused_with_the_config(
    finished: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    with pytest.raises(PamelaError, match=sentence):
        config(finished, tmp_path, *arguments)


def test_further_runs_are_given_by_the_names_of_their_arms(finished: Path, tmp_path: Path) -> None:
    asked = config(finished, tmp_path, "--adapters.sft", str(finished), "--adapters.dpo", str(finished))
    assert asked.adapters == {"sft": finished, "dpo": finished}
    assert EvaluateConfig(finished).strengths == [0.25, 0.5, 0.75, 1.25]


def test_a_further_run_must_have_everybodys_adapter(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "adapters" / PEOPLE[0], tmp_path / "one" / "adapters" / PEOPLE[0])
    with pytest.raises(ConfigError, match=f"arm 'again' takes adapters from .*one, which has none of '{PEOPLE[1]}'"):
        config(finished, tmp_path, "--adapters={again: " + str(tmp_path / "one") + "}")
