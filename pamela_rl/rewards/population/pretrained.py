"""Loading of transformers models and tokenizers, with errors where transformers would only warn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pamela_rl.errors import ConfigError


def load_model(kind: Any, place: str) -> Any:
    """Load a transformers model from a folder or the hub, from safetensors, with all weights.

    Args:
        kind: The model's class.
        place: A folder or a repository.

    Raises:
        ConfigError: It cannot be loaded, or weights are missing, which transformers initialises at random.
    """
    try:
        model, report = kind.from_pretrained(place, use_safetensors=True, output_loading_info=True)
    except Exception as error:  # whatever the hub, the connection, the file system or safetensors raised
        raise ConfigError(
            f"the {kind.__name__} {place!r} cannot be loaded ({str(error)[:200]}); give as source a folder that holds "
            "its config.json, its model.safetensors and the files of its tokenizer, or connect once to download it."
        ) from error
    if report["missing_keys"]:
        absent = sorted(report["missing_keys"])
        raise ConfigError(
            f"{place!r} lacks {len(absent)} weights of a {kind.__name__}, among them {absent[0]}; "
            "give the folder that the reward's authors publish."
        )
    return model


def load_tokenizer(kind: Any, place: str, vocabulary: int, added: Sequence[str] = ()) -> Any:
    """Load a transformers tokenizer from a folder or the hub.

    If its files are missing, transformers returns a tokenizer with an empty vocabulary, for which all prompts are the
    same. The vocabulary size is therefore checked.

    Args:
        kind: The tokenizer's class.
        place: A folder or a repository.
        vocabulary: Vocabulary size of the model.
        added: Tokens of the model, appended to those of the tokenizer.

    Raises:
        ConfigError: It cannot be loaded, or does not fit the model.
    """
    try:
        tokenizer = kind.from_pretrained(place)
    except Exception as error:
        raise ConfigError(
            f"the {kind.__name__} {place!r} cannot be loaded ({str(error)[:200]}); "
            "give a folder that holds its files, or connect once to download it."
        ) from error
    tokenizer.add_tokens(list(added), special_tokens=True)
    if len(tokenizer) != vocabulary:
        raise ConfigError(
            f"the {kind.__name__} of {place!r} knows {len(tokenizer)} tokens but the model {vocabulary}; its files "
            "(tokenizer.json, or vocab.json and merges.txt, or vocab.txt) are not there or belong to another model: "
            "put the published ones into the folder, or connect once to download them."
        )
    return tokenizer
