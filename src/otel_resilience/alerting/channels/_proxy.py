"""Which proxy from the environment is used for a receiver, or why it cannot be used.

Decided here instead of by the HTTP client, which takes an address block in ``NO_PROXY`` for a host name, and rejects
the whole environment because of an IPv6 block.
"""

from __future__ import annotations

import importlib.util
import ipaddress
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from otel_resilience.redaction import redact_url, register_secret

_SCHEMES: Final = ("http", "https", "socks5", "socks5h")


def proxy_for(url: str) -> str | None:
    """The proxy for a URL: by its scheme, else ``ALL_PROXY``, unless ``NO_PROXY`` names its host.

    Raises ``ValueError`` with one line that names the variable if that proxy cannot be used; its password is not in it,
    and is redacted from now on.
    """
    parts = urlsplit(url)
    settings = getproxies()
    name = next((each for each in (parts.scheme, "all") if settings.get(each)), None)
    if name is None or _excepted(settings.get("no", ""), parts.hostname or "", parts.port):
        return None
    text = settings[name].strip()
    return _checked(f"{name.upper()}_PROXY", text if "://" in text else f"http://{text}")


def _checked(name: str, proxy: str) -> str:
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0 and parts.path in ("", "/")
    except ValueError:
        raise ValueError(f"{name} cannot be used: it is not a URL") from None  # the cause quotes it
    if parts.password:
        register_secret(unquote(parts.password))
    what = f"{name}={redact_url(proxy)!r} cannot be used"
    if not usable or any(char.isspace() for char in proxy):
        raise ValueError(f"{what}: a proxy is {', '.join(f'{scheme}://' for scheme in _SCHEMES)} with host and port")
    if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ValueError(f"{what}: a SOCKS proxy needs the package socksio (pip install httpx[socks])")
    return proxy


def _excepted(text: str, host: str, port: int | None) -> bool:
    """Whether ``NO_PROXY`` names the host: by its name, a parent domain, its address, or a block of addresses, each
    optionally with a port; ``*`` means every host."""
    host = host.rstrip(".").lower()
    address = _address(host)
    for entry in text.replace(",", " ").lower().split():
        name = entry.partition("://")[2] or entry
        if name == "*":
            return True
        block = _block(name)
        if block is None:
            name, only = _split_port(name)
            if only is not None and only != port:
                continue
            block = _block(name)
        if block is not None and address is not None:
            if address.version == block.version and address in block:
                return True
        elif (name := name.lstrip("*").strip(".")) and (host == name or host.endswith(f".{name}")):
            return True
    return False


def _split_port(name: str) -> tuple[str, int | None]:
    head, colon, port = name.rpartition(":")
    return (head, int(port)) if colon and port.isdecimal() else (name, None)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _block(name: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if "]:" in name:  # an address with a port
        return None
    try:
        return ipaddress.ip_network(name.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return None
