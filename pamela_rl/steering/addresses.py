"""Which addresses are on this machine or in its own network."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_LOCAL_ENDINGS = (".local", ".lan", ".internal", ".home.arpa", ".localhost")  # never of a host on the internet


def is_local(host: str) -> bool:
    """Tell whether a host is this machine or in its own network: a private IP address, a name such as nas.local.

    A name without a dot counts, as routers and containers give them; a number without dots does not, since it may stand
    for any IP address.
    """
    name = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.endswith(_LOCAL_ENDINGS) or re.fullmatch(r"[a-z][a-z0-9_-]*", name) is not None
    return address.is_private or address.is_loopback or address.is_link_local


def is_local_url(url: str) -> bool:
    """Tell whether the host of an address is local; False where it has none."""
    try:
        return is_local(urlsplit(url).hostname or "")
    except ValueError:  # e.g. an open bracket; the address is refused where it is used
        return False
