from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from pamela_rl.rewards.taste.noise import LEVELS, Noise

VARIANCES = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
NOISE = Noise(VARIANCES, misfit=0.3, log_mean=-1.2, log_std=0.7, floor=1 / 12)


def test_a_newcomers_noise_is_log_normal_above_what_rounding_adds() -> None:
    variances, log_weights = NOISE.levels()
    density = stats.norm.pdf((np.log(variances.numpy() - 1 / 12) + 1.2) / 0.7)
    np.testing.assert_allclose(log_weights.exp(), density / density.sum(), rtol=1e-12)
    assert variances.min() > 1 / 12


def test_the_levels_stand_for_the_whole_prior() -> None:
    """Means over the levels are means over the log-normal, as far as seven of them can tell."""
    variances, log_weights = NOISE.levels()
    weights, logs = log_weights.exp().numpy(), np.log(variances.numpy() - 1 / 12)
    assert weights.sum() == pytest.approx(1)
    assert weights @ logs == pytest.approx(-1.2)
    assert np.sqrt(weights @ (logs + 1.2) ** 2) == pytest.approx(0.7, rel=0.05)
    mean = stats.lognorm.mean(0.7, scale=np.exp(-1.2))
    assert weights @ variances.numpy() - 1 / 12 == pytest.approx(mean, rel=0.05)


def test_people_who_are_all_alike_leave_a_newcomer_one_level() -> None:
    variances, _ = Noise(VARIANCES, 0.0, -1.2, 0.0, 0.1).levels()
    np.testing.assert_allclose(variances, np.exp(-1.2) + 0.1)


def test_scaling_multiplies_everybodys_variance_and_every_newcomers() -> None:
    scaled = NOISE.scaled(1.7)
    torch.testing.assert_close(scaled.variances, 1.7 * VARIANCES)
    torch.testing.assert_close(scaled.levels()[0], 1.7 * NOISE.levels()[0])
    torch.testing.assert_close(scaled.levels()[1], NOISE.levels()[1])
    assert scaled.misfit == NOISE.misfit


def test_the_levels_are_as_far_to_one_side_of_the_centre_as_to_the_other() -> None:
    torch.testing.assert_close(LEVELS, -LEVELS.flip(0))
