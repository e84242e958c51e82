"""Captions that name a scene's subject and some of its attributes, and their parser."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence

import numpy as np

from pamela_rl.data.phrases import Phrasebook
from pamela_rl.data.prompts import PromptSource
from pamela_rl.world.scenes import ATTRIBUTES, SUBJECTS, Scene

PHRASES: dict[str, dict[str, str]] = {
    "viewpoint": {"wide": "a wide view of", "close": "a close-up of"},
    "lighting": {"noon": "at noon", "sunset": "at sunset", "night": "at night", "mist": "in mist"},
    "palette": {"vivid": "in vivid colours", "pastel": "in pastel colours", "earthy": "in earthy colours"},
    "angle": {"low": "seen from below", "high": "seen from above"},
    "placement": {"left": "on the left", "centre": "in the centre", "right": "on the right"},
}
PHRASEBOOK = Phrasebook({name: tuple(phrases.values()) for name, phrases in PHRASES.items()})
_AFTER_SUBJECT = ("lighting", "palette", "angle", "placement")


def caption(scene: Scene, named: Collection[str]) -> str:
    """Describe a scene by its subject and the ``named`` attributes, e.g. "a close-up of a boat, at night"."""
    noun = f"a {scene.subject}"
    start = f"{PHRASES['viewpoint'][scene.viewpoint]} {noun}" if "viewpoint" in named else noun
    return ", ".join([start, *(PHRASES[name][scene.attribute(name)] for name in _AFTER_SUBJECT if name in named)])


def random_captions(
    scenes: Sequence[Scene], generator: np.random.Generator, named: tuple[float, float] = (0.0, 1.0)
) -> list[str]:
    """Caption each scene, naming each attribute with a probability drawn for that caption from the range ``named``.

    The full range gives captions from those that name no attribute to those that name all of them, so that a model
    learns the meaning of each word.
    """
    shares = generator.uniform(*named, (len(scenes), 1))
    named_flags = generator.random((len(scenes), len(ATTRIBUTES))) < shares
    names = list(ATTRIBUTES)
    return [caption(s, {n for n, flag in zip(names, row, strict=True) if flag}) for s, row in zip(scenes, named_flags)]


def parse_prompt(prompt: str) -> dict[str, str]:
    """Return the ``subject`` and every attribute that a prompt names; what it does not name is absent."""
    words = prompt.lower()
    requested: dict[str, str] = {}
    for subject in SUBJECTS:
        if re.search(rf"\b{subject}\b", words):
            requested["subject"] = subject
    for name, phrases in PHRASES.items():
        for value, phrase in phrases.items():
            if phrase in words:
                requested[name] = value
    return requested


def open_prompts() -> list[str]:
    """List every prompt that names a subject and at most one of viewpoint, angle and placement.

    Lighting and palette are never named: the simulated users differ in these, as the people of the paper's study did.
    """
    prompts = [f"a {subject}" for subject in SUBJECTS]
    for subject, name in itertools.product(SUBJECTS, ("viewpoint", "angle", "placement")):
        for value in ATTRIBUTES[name]:
            scene = Scene(subject, "noon", "vivid", "wide", "low", "left")
            prompts.append(caption(Scene(**{**vars(scene), name: value}), {name}))
    return prompts


def train_and_held_out_prompts() -> tuple[list[str], list[str]]:
    """Split ``open_prompts`` in two: every fourth one is held out, so both halves show every subject."""
    prompts = open_prompts()
    held_out = prompts[3::4]
    return [prompt for prompt in prompts if prompt not in held_out], held_out


def validation_prompts() -> list[str]:
    """List prompts that are in neither half of ``open_prompts``: two of each subject, with its placement and one thing more."""
    places, prompts = tuple(ATTRIBUTES["placement"]), []
    for row, (subject, name) in enumerate(itertools.product(SUBJECTS, ("viewpoint", "angle"))):
        values = ATTRIBUTES[name]
        scene = Scene(subject, "noon", "vivid", "wide", "low", places[row % len(places)])
        prompts.append(caption(Scene(**{**vars(scene), name: values[row // 2 % len(values)]}), {name, "placement"}))
    return prompts


def world_prompts(user_id: str = "") -> PromptSource:
    """Return the world's prompts for a user: a half of ``open_prompts`` to train on, and ``validation_prompts``."""
    return PromptSource(train_and_held_out_prompts()[0], user_id, validation_prompts())
