"""Proxies from the environment that would receive the requests to a server on this machine."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from tutelage.errors import InputError
from tutelage.services.requests import Endpoint


class CaughtByProxyError(InputError):
    """A proxy of the environment would receive the requests to a server on this machine."""


def check_no_proxy(endpoint: Endpoint) -> None:
    """Raise ``CaughtByProxyError`` if a proxy would receive the requests to a server on this machine.

    The proxy cannot reach that server, and would see the key and the prompts. The message names the variable.
    """
    if not endpoint.on_this_machine:
        return
    parts = urlsplit(endpoint.base_url)
    proxies = getproxies()
    scheme = next((name for name in (parts.scheme, "all") if proxies.get(name)), None)
    host = parts.hostname or ""
    if scheme is None or _is_exempt(host, parts.port, proxies.get("no", "")):
        return
    variable = next((name for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper()) if os.environ.get(name)), None)
    origin = f"the environment variable {variable}" if variable else "the system's settings"
    raise CaughtByProxyError(
        f"plugin {endpoint.provider!r}: {origin} sends requests to {endpoint.base_url}, a server on this machine, "
        f"through the proxy {_address(proxies[scheme])}: set NO_PROXY={host} in the environment"
    )


def _is_exempt(host: str, port: int | None, exempt: str) -> bool:
    """Whether NO_PROXY names the host: by name, with its port, or in a network such as 127.0.0.0/8."""
    if proxy_bypass(host) or proxy_bypass(f"{host}:{port}"):
        return True
    for network in exempt.replace(" ", "").split(","):
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False):
                return True
        except ValueError:
            continue
    return False


def _address(proxy: str) -> str:
    """The proxy without user name and password."""
    return (urlsplit(proxy if "//" in proxy else f"//{proxy}").netloc or proxy).rpartition("@")[2]
