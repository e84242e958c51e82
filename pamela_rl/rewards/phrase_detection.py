"""Detection of the phrases of a phrasebook in pictures, from their prompts and by zero-shot classification."""

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

MIN_CALIBRATION_IMAGES = 20  # pictures with a phrase in the prompt that are needed to fit the temperature
MIN_EXPLAINED_SHARE = 0.1  # share of the variance of an attribute that an encoder must explain
MAX_REQUESTS = 64  # requests whose texts are encoded; pictures of other requests use the mean of these
_INVERSE_TEMPERATURES = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # relative to the encoder's own


@dataclass(frozen=True)
class PhraseProbabilities:
    """Probability that each picture shows each phrase of an attribute.

    Attributes:
        attribute: Name of the attribute.
        phrases: Phrases of the attribute.
        probabilities: ``(n, phrases)``, float64; rows sum to 1. For pictures without information, the mean of others.
    """

    attribute: str
    phrases: tuple[str, ...]
    probabilities: Tensor


def detect_phrases(
    encoder: Encoder, features: Tensor, prompts: Sequence[str], phrasebook: Phrasebook
) -> list[PhraseProbabilities]:
    """Detect what pictures show, attribute by attribute.

    If the prompt has a phrase of the attribute, the picture shows it. Other pictures are classified by an encoder with
    a text tower: the picture is compared with its request plus each phrase. The temperature is fitted on the pictures
    with a phrase in the prompt, if there are enough. If the encoder explains too little of an attribute, only prompts
    are used, and an attribute without any is left out.

    Args:
        encoder: The encoder of the features.
        features: Features of pictures and prompts from the encoder, ``(n, d)``.
        prompts: Prompt of each picture.
        phrasebook: Attributes and their phrases.
    """
    requests = [without_phrases(prompt, phrasebook) for prompt in prompts]
    named = [phrasebook.added_phrases(prompt, request) for prompt, request in zip(prompts, requests, strict=True)]
    found = []
    for attribute, phrases in phrasebook.phrases.items():
        named_rows = torch.tensor([phrases.index(row[attribute]) if attribute in row else -1 for row in named])
        predicted = None
        if isinstance(encoder, FeatureEncoder) and len(phrases) > 1:
            similarities = _similarities(encoder, features, requests, attribute, phrasebook)
            predicted = _calibrated(similarities, named_rows)
        probabilities = _with_prompts(predicted, named_rows, len(phrases))
        if probabilities is not None:
            found.append(PhraseProbabilities(attribute, phrases, probabilities))
    return found


def without_phrases(prompt: str, phrasebook: Phrasebook) -> str:
    """Remove all phrases of the book from a prompt."""
    for phrase in sorted((p for values in phrasebook.phrases.values() for p in values), key=len, reverse=True):
        prompt = re.sub(rf",?\s*(?<!\w){re.escape(phrase)}(?!\w)", "", prompt, flags=re.IGNORECASE)
    return prompt.strip(" ,")


def _similarities(
    encoder: FeatureEncoder, features: Tensor, requests: Sequence[str], attribute: str, phrasebook: Phrasebook
) -> Tensor:
    """Return logits of each picture against its request plus each phrase, ``(n, p)``."""
    phrases = phrasebook.phrases[attribute]
    distinct = list(dict.fromkeys(requests))
    sampled = distinct[:: -(-len(distinct) // MAX_REQUESTS)]
    texts = [phrasebook.apply(request, {attribute: phrase}) for request in sampled for phrase in phrases]
    text_features = encoder.encode_prompts(texts).cpu().view(len(sampled), len(phrases), -1)
    text_features = torch.cat([text_features, normalize(text_features.mean(dim=0, keepdim=True), dim=-1)])
    row_of = {request: row for row, request in enumerate(sampled)}
    image_features = normalize(features[:, : features.shape[1] // 3], dim=-1)  # the image part of the features
    rows = torch.tensor([row_of.get(request, len(sampled)) for request in requests])
    model: Any = encoder.model
    return model.logit_scale.detach().exp().cpu() * torch.einsum("nd,npd->np", image_features, text_features[rows])


def _calibrated(similarities: Tensor, named_rows: Tensor) -> Tensor | None:
    """Turn logits into probabilities, ``(n, p)``, or None if they explain too little of the attribute."""
    mask = named_rows >= 0
    inverse_temperature = 1.0
    if int(mask.sum()) >= MIN_CALIBRATION_IMAGES:
        scores = [(c * similarities[mask]).log_softmax(dim=1) for c in _INVERSE_TEMPERATURES]
        fits = [float(score.gather(1, named_rows[mask, None]).mean()) for score in scores]
        inverse_temperature = _INVERSE_TEMPERATURES[fits.index(max(fits))]
    probabilities = (inverse_temperature * similarities.double()).softmax(dim=1)
    mean = probabilities.mean(dim=0)
    explained_share = (probabilities - mean).square().sum(dim=1).mean() / (1 - mean.square().sum()).clamp(min=1e-9)
    return probabilities if float(explained_share) >= MIN_EXPLAINED_SHARE else None


def _with_prompts(predicted: Tensor | None, named_rows: Tensor, count: int) -> Tensor | None:
    """Replace the predictions by the phrases of the prompts where there are any."""
    mask = named_rows >= 0
    exact = torch.nn.functional.one_hot(named_rows.clamp(min=0), count).double()
    if predicted is not None:
        return torch.where(mask[:, None], exact, predicted)
    if not bool(mask.any()):
        return None
    return torch.where(mask[:, None], exact, exact[mask].mean(dim=0))
