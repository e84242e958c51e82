"""The front door: what it offers, and that it costs nothing to open."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pamela_rl

HEAVY = ("torch", "numpy", "pandas", "diffusers", "transformers", "peft", "accelerate", "open_clip", "matplotlib")


@pytest.mark.parametrize("name", pamela_rl.__all__)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    assert getattr(pamela_rl, name).__doc__
    assert name in dir(pamela_rl)


def test_public_names_are_listed_once_and_each_says_where_it_is() -> None:
    assert sorted(pamela_rl.__all__) == sorted(set(pamela_rl.__all__)) == sorted(pamela_rl._MODULES)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pamela_rl' has no attribute 'nothing'"):
        _ = pamela_rl.nothing


def test_importing_the_package_loads_none_of_the_large_libraries() -> None:
    script = f"import sys, pamela_rl, pamela_rl.types; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
