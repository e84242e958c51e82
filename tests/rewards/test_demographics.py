from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from pamela_rl.rewards.demographics import DemographicsCoding

PEOPLE = pd.DataFrame(
    {"age": [20.0, 30.0, 40.0, np.nan], "gender": ["f", "m", None, "f"], "trained": [True, False, False, True]},
    index=["a", "b", "c", "d"],
)
CODING = DemographicsCoding.of(PEOPLE)
SPREAD = float(np.std([20, 30, 40]))


def coded(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_person_is_coded_as_worked_out_by_hand() -> None:
    assert CODING.dim == 5
    expected = coded(1, 10 / SPREAD, -1, 1, 0)
    torch.testing.assert_close(CODING.encode({"age": 40, "gender": "f", "trained": False}), expected)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, "unheard of"])
def test_what_is_missing_or_unheard_of_is_zero(missing: object) -> None:
    torch.testing.assert_close(
        CODING.encode({"age": missing, "gender": missing, "trained": missing}), coded(1, 0, 0, 0, 0)
    )


@pytest.mark.parametrize("user", [None, {}, {"shoe_size": 42}])
def test_a_person_who_says_nothing_is_only_the_constant(user: dict[str, object] | None) -> None:
    torch.testing.assert_close(CODING.encode(user), coded(1, 0, 0, 0, 0))


def test_a_number_written_as_text_is_a_number() -> None:
    torch.testing.assert_close(CODING.encode({"age": "40"}), coded(1, 10 / SPREAD, 0, 0, 0))


def test_an_average_person_of_the_table_is_at_zero_with_unit_spread() -> None:
    ages = torch.stack([CODING.encode({"age": age}) for age in (20, 30, 40)])[:, 1]
    assert ages.mean().item() == pytest.approx(0)
    assert ages.std(correction=0).item() == pytest.approx(1)


def test_no_answer_is_not_the_answer_none() -> None:
    coding = DemographicsCoding.of(pd.DataFrame({"education": ["None", "college", None]}))
    torch.testing.assert_close(coding.encode({"education": "None"}), coded(1, 1, 0))
    torch.testing.assert_close(coding.encode({"education": None}), coded(1, 0, 0))
    torch.testing.assert_close(coding.encode({}), coded(1, 0, 0))


def test_a_question_that_nobody_answered_has_no_column() -> None:
    empty = pd.DataFrame({"age": [np.nan, np.nan], "gender": [None, None]})
    coding = DemographicsCoding.of(empty)
    assert coding.dim == 1
    torch.testing.assert_close(coding.encode({"age": 30, "gender": "f"}), coded(1))


def test_a_number_that_everybody_shares_says_nothing_and_divides_by_nothing() -> None:
    coding = DemographicsCoding.of(pd.DataFrame({"age": [30, 30, 30]}))
    torch.testing.assert_close(coding.encode({"age": 30}), coded(1, 0))


def test_without_people_there_is_only_the_constant() -> None:
    torch.testing.assert_close(DemographicsCoding.of(None).encode({"age": 30}), coded(1))
    assert DemographicsCoding.of(pd.DataFrame()).dim == 1


def test_a_coding_comes_back_from_json_as_it_was() -> None:
    again = DemographicsCoding.from_json(json.loads(json.dumps(CODING.to_json(), allow_nan=False)))
    assert again == CODING
