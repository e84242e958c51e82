"""The reward that newcomers start from: what many people's tastes have in common, and nobody of them.

python -m pamela_rl.studio.start_reward     # fits the world's, and writes it into the package
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.opening import open_reward
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.saved import JUDGE, REWARDS, TENSORS, SavedReward, judge_folder
from pamela_rl.rewards.settings import MAIN_MODEL
from pamela_rl.rewards.taste.posterior import posterior_from_prior
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.storage import START_REWARD, WORLD_ENCODER, publish, write_tensors

LARGE = 10_000  # numbers
EVERYBODY = "everybody"  # the only user of such a reward: the mean of those it was fitted on


def without_people(reward: PersonalReward) -> PersonalReward:
    """Return a reward that knows ``EVERYBODY`` alone: the mean of all tastes, as uncertain as anybody's is beforehand.

    It predicts for newcomers what the whole one does. People and images that it was fitted on are named by digests, so that a
    judge's can still be told from them.

    Raises:
        ConfigError: It is no taste basis, which alone knows how tastes differ.
    """
    model, fitted_on = reward.model, reward.fitted_on
    if not isinstance(model, TasteBasis):
        raise ConfigError(
            f"the reward is a {type(model).__name__}, from which nobody can start; give the {MAIN_MODEL} that "
            "recipes/fit_reward.py fits."
        )
    nobody = replace(
        model,
        user_ids=(),
        means=model.means[:0],
        covariances=model.covariances[:0],
        noise=replace(model.noise, variances=model.noise.variances[:0]),
    )
    mean = model.means.mean(dim=0) if model.user_ids else model.prior().mean
    everybody = nobody.with_user(EVERYBODY, posterior_from_prior(mean, model.prior_covariance, nobody.noise))
    unnamed = replace(fitted_on, users=_digests(fitted_on.users), images=_digests(fitted_on.images), answers={})
    return PersonalReward(reward.encoder, everybody, unnamed)


def save_start_reward(reward: PersonalReward, judge: PersonalReward | None, folder: Path) -> None:
    """Write a reward and its judge without the people in them, laid out as recipes/fit_reward.py does."""
    with publish(folder) as target:
        without_people(reward).save(target / REWARDS / MAIN_MODEL)
        if judge is not None:
            without_people(judge).save(target / JUDGE)


def copy_start_reward(source: Path, folder: Path) -> None:
    """Write a reward and the judge beside it, if there is one, without the people in them.

    Raises:
        ConfigError: There is no taste basis in ``source``.
    """
    if SavedReward.read(source).user_ids == (EVERYBODY,):
        shutil.copytree(source, folder, dirs_exist_ok=True)
        return
    judge = judge_folder(source)
    save_start_reward(open_reward(source), None if judge is None else open_reward(judge), folder)


def _digests(names: Iterable[str]) -> frozenset[str]:
    return frozenset(hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12] for name in names)


def fit_world(folder: Path = START_REWARD) -> None:
    """Fit the world's reward, and a judge on other people's ratings of other images."""
    from pamela_rl.world.fitted_rewards import fit_judge, fit_reward
    from pamela_rl.world.judge import ContentJudge
    from pamela_rl.world.raters import make_raters
    from pamela_rl.world.ratings import make_ratings

    raters, content, encoder = make_raters(), ContentJudge.load(), FeatureEncoder.load(WORLD_ENCODER)
    reward, _ = fit_reward(make_ratings(raters, content), raters, encoder)
    save_start_reward(reward, fit_judge(raters, [], content, encoder), folder)
    for file in folder.rglob(TENSORS):
        write_tensors(file, {name: _rounded(tensor) for name, tensor in load_file(file).items()})


def _rounded(tensor: Tensor) -> Tensor:
    """Return large tensors in half the precision, which changes ratings by less than .001 and the package by half a file."""
    if tensor.numel() < LARGE:
        return tensor
    return tensor.half() if tensor.dtype == torch.float32 else tensor.float()


if __name__ == "__main__":
    fit_world()
