from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pamela_rl.world.captions import caption
from pamela_rl.world.judge import CHOICES, ContentJudge, Faithfulness
from pamela_rl.world.scenes import ATTRIBUTES, SUBJECTS, Scene, draw_scenes, random_scenes

SCENES = random_scenes(200, 51)  # neither these scenes' jitter nor their order was trained on


@pytest.fixture(scope="module")
def drawings() -> Tensor:
    return torch.from_numpy(draw_scenes(SCENES, 52)).permute(0, 3, 1, 2).float() / 255


def test_the_judge_sees_what_was_drawn(content_judge: ContentJudge, drawings: Tensor) -> None:
    seen = content_judge.classify(drawings)
    for name in ("subject", *ATTRIBUTES):
        right = sum(value == scene.attribute(name) for value, scene in zip(seen[name], SCENES))
        assert right >= 0.97 * len(SCENES), f"{name}: {right} of {len(SCENES)}"


def test_a_picture_that_shows_all_that_was_asked_is_faithful(content_judge: ContentJudge, drawings: Tensor) -> None:
    everything = [caption(scene, ATTRIBUTES) for scene in SCENES]
    assert content_judge.faithfulness(drawings, everything).mean() > 0.95
    assert content_judge.faithfulness(drawings, [""] * len(SCENES)).mean() == 1


@pytest.mark.parametrize("name", ["subject", *ATTRIBUTES])
def test_one_wrong_thing_is_unfaithful(content_judge: ContentJudge, drawings: Tensor, name: str) -> None:
    values = CHOICES[name]
    wrong = [Scene(**{**vars(s), name: values[(values.index(s.attribute(name)) + 1) % len(values)]}) for s in SCENES]
    requested = [caption(scene, {name} if name in ATTRIBUTES else set()) for scene in wrong]
    assert content_judge.faithfulness(drawings, requested).mean() < 0.05


def test_the_probability_of_a_subject_is_one_where_none_was_asked(
    content_judge: ContentJudge, drawings: Tensor
) -> None:
    requested = [f"a {scene.subject}" for scene in SCENES[:3]] + ["something pretty"]
    shown = content_judge.probability_of_subject(drawings[:4], requested)
    assert (shown[:3] > 0.9).all()
    assert shown[3] == 1
    every = torch.stack([content_judge.probability_of_subject(drawings[:4], [f"a {s}"] * 4) for s in SUBJECTS])
    torch.testing.assert_close(every.sum(dim=0), torch.ones(4))


def test_a_saved_judge_judges_the_same(content_judge: ContentJudge, drawings: Tensor, tmp_path: Path) -> None:
    content_judge.save(tmp_path / "judge.safetensors")
    before, after = content_judge(drawings[:20]), ContentJudge.load(tmp_path / "judge.safetensors")(drawings[:20])
    assert all(torch.equal(before[name], after[name]) for name in CHOICES)  # shipped in the precision it is saved in


def test_faithfulness_is_a_reward_and_the_same_for_everyone(content_judge: ContentJudge, drawings: Tensor) -> None:
    prompts = [f"a {scene.subject}" for scene in SCENES[:6]]
    reward = Faithfulness(content_judge)
    output = reward(drawings[:6].half(), prompts, ["ada"] * 6)
    torch.testing.assert_close(output.mean, content_judge.faithfulness(drawings[:6], prompts))
    assert torch.equal(output.mean, reward(drawings[:6].half(), prompts, ["ben"] * 6).mean)
    assert output.std is None
