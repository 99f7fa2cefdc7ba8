"""Names of hosts: which are this machine itself."""

import ipaddress

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""Names of this machine itself."""


def is_loopback(host: str) -> bool:
    """Returns whether a name or an address, without a port, is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
