"""The small endpoints besides the catalogue: the supplier's groups and networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esim_go_simulator.places import countries


def described_group(name: str) -> dict[str, str]:
    """An entry of ``GET /organisation/groups``."""
    slug = "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())
    return {
        "name": name,
        "desc": f"{name} bundles",
        "priceListUrl": f"https://files.example.test/{slug}.csv",
        "icon": f"https://img.example.test/{slug}.svg",
    }


def country_networks(query: Mapping[str, str]) -> list[dict[str, Any]] | None:
    """Two networks for each requested country of ``GET /networks``; ``None`` if no country is requested."""
    codes = {code.strip().upper() for code in query.get("isos", "").split(",")} - {""}
    names = {name.strip().lower() for name in query.get("countries", "").split(",")} - {""}
    everything = query.get("returnAll", "").lower() == "true"
    if not codes and not names and not everything:
        return None
    return [
        {"name": code, "networks": [_network(code, name, 1, ("4G", "5G")), _network(code, name, 2, ("3G", "4G"))]}
        for code, (name, _) in countries().items()
        if everything or code in codes or name.lower() in names
    ]


def _network(code: str, country: str, number: int, speed: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": f"{country} {number}",
        "brandName": f"Network {number}",
        "mcc": "001",
        "mnc": f"{number:02}",
        "tagid": f"{code}{number:02}",
        "speed": list(speed),
    }
