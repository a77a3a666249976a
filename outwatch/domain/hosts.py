"""What a host's name or address tells by itself.

Belongs here: what can be said without asking a network. Not here: connections (the adapters).
"""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Tell whether an address or name can only be this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
