"""What scenes are called: captions that name the subject and some of the attributes, and what a prompt asks for."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence

import numpy as np

from pamela_rl.data.phrases import Phrasebook
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

    The full range gives captions that leave everything open beside captions that name everything, from which a model
    learns what each word means.
    """
    shares = generator.uniform(*named, (len(scenes), 1))
    coins = generator.random((len(scenes), len(ATTRIBUTES))) < shares
    names = list(ATTRIBUTES)
    return [caption(s, {n for n, heads in zip(names, row, strict=True) if heads}) for s, row in zip(scenes, coins)]


def asked_for(prompt: str) -> dict[str, str]:
    """Return what a prompt asks for: ``subject`` and every attribute it names; what it leaves open is absent."""
    words = prompt.lower()
    asked: dict[str, str] = {}
    for subject in SUBJECTS:
        if re.search(rf"\b{subject}\b", words):
            asked["subject"] = subject
    for name, phrases in PHRASES.items():
        for value, phrase in phrases.items():
            if phrase in words:
                asked[name] = value
    return asked


def open_prompts() -> list[str]:
    """List every prompt that names a subject and at most one of viewpoint, angle and placement.

    Lighting and palette stay open: there the people of the world differ, as those of the paper's study did.
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
