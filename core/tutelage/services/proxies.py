"""Proxies from the environment: named in errors, and refused if they would receive requests to this machine."""

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
    if endpoint.on_this_machine and (proxy := proxy_of(endpoint.base_url)):
        raise CaughtByProxyError(
            f"plugin {endpoint.provider!r}: requests to {endpoint.base_url}, a server on this machine, go through "
            f"{proxy}: set NO_PROXY={urlsplit(endpoint.base_url).hostname} in the environment"
        )


def proxy_of(url: str) -> str:
    """Return the proxy for an address and the variable that names it, as words; "" if there is none."""
    parts = urlsplit(url)
    proxies = getproxies()
    scheme = next((name for name in (parts.scheme, "all") if proxies.get(name)), None)
    if scheme is None or _is_exempt(parts.hostname or "", parts.port, proxies.get("no", "")):
        return ""
    variable = next((name for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper()) if os.environ.get(name)), None)
    origin = f"the environment variable {variable}" if variable else "the system's settings"
    return f"the proxy {_address(proxies[scheme])} of {origin}"


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
