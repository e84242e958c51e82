"""The text of settings, before their types say what it means: in YAML 007 and NO are names where a setting wants a name."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import yaml
from jsonargparse import set_loader

MODE = "settings_text"  # of jsonargparse: the loader below, for config files and for flags alike
_STRING = "tag:yaml.org,2002:str"


class _TextLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads every scalar but null as it is typed; jsonargparse then turns it into what the setting's type asks for."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        letter: [pair for pair in pairs if pair[0] in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")]
        for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_scalar(self, node: Any) -> Any:
        """Return the text."""
        return expand_home(super().construct_scalar(node))

    def construct_sequence(self, node: Any, deep: bool = False) -> Any:
        """Return the list; a null in it is a name too."""
        for item in node.value:
            if isinstance(item, yaml.ScalarNode) and item.value:
                item.tag = _STRING
        return super().construct_sequence(node, deep)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Return the mapping; in braces ``{a:b}`` is ``{a: b}``, for which YAML wants a blank."""
        node.value = [_split(node.flow_style, key, value) for key, value in node.value]
        return super().construct_mapping(node, deep)


def _split(in_braces: bool, key: Any, value: Any) -> tuple[Any, Any]:
    plain = isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode) and not (key.style or value.style)
    if not (in_braces and plain and not value.value and ":" in key.value):
        return key, value
    name, _, text = key.value.partition(":")
    return (
        yaml.ScalarNode(_STRING, name, key.start_mark, key.end_mark),
        yaml.ScalarNode(_STRING, text, key.start_mark, key.end_mark),
    )


def load_text(stream: str) -> Any:
    """Read YAML; its scalars stay text."""
    return yaml.load(stream, Loader=_TextLoader)


def expand_home(text: str) -> str:
    """Write out the ``~`` that a path begins with; other text stays as it is."""
    return os.path.expanduser(text) if text.startswith("~") and "/" in text else text


def expand_flag(argument: str) -> str:
    """Write out the ``~`` of a command-line argument, ``~/x`` or ``--name=~/x``, of which shells leave the second alone."""
    name, equals, value = argument.partition("=")
    return f"{name}={expand_home(value)}" if equals and name.startswith("--") else expand_home(argument)


set_loader(MODE, load_text, (yaml.YAMLError,))
