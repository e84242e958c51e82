"""Which of a phrasebook's phrases pictures show: told by their prompts, and by an encoder that reads text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pamela_rl.data.phrases import Phrasebook
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.preference import Encoder

ENOUGH_NAMED = 20  # pictures whose prompts name a phrase of an attribute, to measure how well an encoder sees it
TOLD_APART = 0.1  # share of an attribute's variation that an encoder must see
MOST_REQUESTS = 64  # texts are encoded for so many requests; pictures of others take the mean of these
_SHARPNESS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # of the encoder's own temperature


@dataclass(frozen=True)
class ShownPhrases:
    """How probably each picture shows each phrase of one attribute.

    Attributes:
        attribute: Its name.
        phrases: Of the attribute.
        shares: Rows add up to 1, ``(n, phrases)``, float64. Where nothing is known of a picture, those of the others.
    """

    attribute: str
    phrases: tuple[str, ...]
    shares: Tensor


def shown_phrases(
    encoder: Encoder, features: Tensor, prompts: Sequence[str], phrasebook: Phrasebook
) -> list[ShownPhrases]:
    """Tell what pictures show, attribute by attribute.

    A picture shows the phrase that its prompt names. For the others an encoder that reads text compares the picture
    with its own request and each phrase added; how sure it may be of itself is measured on the pictures whose prompts
    do name one, where there are enough. An attribute that it hardly sees is left to the prompts, and one that no prompt
    names either is left out.

    Args:
        encoder: Whose features these are.
        features: Of pictures and prompts, ``(n, d)``, as the encoder gives them.
        prompts: What was asked for, one a picture.
        phrasebook: Attributes and their phrases.
    """
    requests = [without_phrases(prompt, phrasebook) for prompt in prompts]
    named = [phrasebook.chosen_in(prompt, request) for prompt, request in zip(prompts, requests, strict=True)]
    found = []
    for attribute, phrases in phrasebook.phrases.items():
        asked = torch.tensor([phrases.index(row[attribute]) if attribute in row else -1 for row in named])
        seen = None
        if isinstance(encoder, FeatureEncoder) and len(phrases) > 1:
            likeness = _likeness(encoder, features, requests, attribute, phrasebook)
            seen = _calibrated(likeness, asked)
        shares = _with_prompts(seen, asked, len(phrases))
        if shares is not None:
            found.append(ShownPhrases(attribute, phrases, shares))
    return found


def without_phrases(prompt: str, phrasebook: Phrasebook) -> str:
    """Return what is left of a prompt when every phrase of the book is taken off it."""
    for phrase in sorted((p for values in phrasebook.phrases.values() for p in values), key=len, reverse=True):
        prompt = re.sub(rf",?\s*(?<!\w){re.escape(phrase)}(?!\w)", "", prompt, flags=re.IGNORECASE)
    return prompt.strip(" ,")


def _likeness(
    encoder: FeatureEncoder, features: Tensor, requests: Sequence[str], attribute: str, phrasebook: Phrasebook
) -> Tensor:
    """Compare pictures with their request and each phrase added, in units of the encoder's temperature, ``(n, p)``."""
    phrases = phrasebook.phrases[attribute]
    distinct = list(dict.fromkeys(requests))
    kept = distinct[:: -(-len(distinct) // MOST_REQUESTS)]
    texts = [phrasebook.apply(request, {attribute: phrase}) for request in kept for phrase in phrases]
    asked = encoder.encode_prompts(texts).cpu().view(len(kept), len(phrases), -1)
    asked = torch.cat([asked, normalize(asked.mean(dim=0, keepdim=True), dim=-1)])
    place = {request: row for row, request in enumerate(kept)}
    seen = normalize(features[:, : features.shape[1] // 3], dim=-1)  # the part that is the picture's own
    rows = torch.tensor([place.get(request, len(kept)) for request in requests])
    model: Any = encoder.model
    return model.logit_scale.detach().exp().cpu() * torch.einsum("nd,npd->np", seen, asked[rows])


def _calibrated(likeness: Tensor, asked: Tensor) -> Tensor | None:
    """Turn likeness into probabilities, ``(n, p)``, or None where they say too little to be of use."""
    known = asked >= 0
    sharpness = 1.0
    if int(known.sum()) >= ENOUGH_NAMED:
        scores = [(c * likeness[known]).log_softmax(dim=1) for c in _SHARPNESS]
        fits = [float(score.gather(1, asked[known, None]).mean()) for score in scores]
        sharpness = _SHARPNESS[fits.index(max(fits))]
    shares = (sharpness * likeness.double()).softmax(dim=1)
    usual = shares.mean(dim=0)
    seen = (shares - usual).square().sum(dim=1).mean() / (1 - usual.square().sum()).clamp(min=1e-9)
    return shares if float(seen) >= TOLD_APART else None


def _with_prompts(seen: Tensor | None, asked: Tensor, count: int) -> Tensor | None:
    """Put what prompts name in the place of what the encoder saw."""
    known = asked >= 0
    exact = torch.nn.functional.one_hot(asked.clamp(min=0), count).double()
    if seen is not None:
        return torch.where(known[:, None], exact, seen)
    if not bool(known.any()):
        return None
    return torch.where(known[:, None], exact, exact[known].mean(dim=0))
