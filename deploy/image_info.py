"""What the image has installed: ``python deploy/image_info.py [--output FOLDER]``, or ``make image-info``.

Writes ``sbom.cdx.json`` (CycloneDX 1.6) and ``licences.txt``: catalog-sync with the extras of the image and all that
they need, at the versions that are installed if this runs, which are those of constraints.txt. Packages of the base
image's system are not a part of it: a scanner of images lists those.
"""

from __future__ import annotations

import argparse
import json
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = "catalog-sync"
EXTRAS = ("api", "demo", "worker")


def installed() -> dict[str, Distribution]:
    """By normalised name; raises ``PackageNotFoundError`` if one that is needed is missing."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    wanted = [(ROOT, extra) for extra in ("", *EXTRAS)]
    while wanted:
        name, extra = wanted.pop()
        name = re.sub(r"[-_.]+", "-", name).lower()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found[name] = distribution(name)
        for text in found[name].requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                wanted += [(needed.name, one) for one in ("", *needed.extras)]
    return dict(sorted(found.items()))


def licence(package: Distribution) -> str:
    """The SPDX expression, else the classifiers, else what the field says in one line."""
    fields = package.metadata
    if "License-Expression" in fields:
        return fields["License-Expression"]
    named = [each.rpartition(" :: ")[2] for each in fields.get_all("Classifier") or () if each.startswith("License ::")]
    stated = fields["License"].strip() if "License" in fields else ""
    return "; ".join(named) or (stated or "not stated").splitlines()[0]


def component(name: str, package: Distribution) -> dict[str, Any]:
    return {
        "type": "application" if name == ROOT else "library",
        "bom-ref": name,
        "name": name,
        "version": package.version,
        "purl": f"pkg:pypi/{name}@{package.version}",
        "licenses": [{"license": {"name": licence(package)}}],
    }


def bill_of_materials(packages: dict[str, Distribution]) -> dict[str, Any]:
    components = {name: component(name, package) for name, package in packages.items()}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": components.pop(ROOT)},
        "components": list(components.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Lists what the image has installed, with licences.")
    parser.add_argument("--output", type=Path, default=Path(".cache/image"))
    folder = parser.parse_args().output
    try:
        packages = installed()
    except PackageNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed; run: make install") from error
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{name} {package.version}: {licence(package)}" for name, package in packages.items()]
    (folder / "licences.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = json.dumps(bill_of_materials(packages), indent=2) + "\n"
    (folder / "sbom.cdx.json").write_text(text, encoding="utf-8")
    print(f"{len(packages)} packages: {folder / 'sbom.cdx.json'}, {folder / 'licences.txt'}")


if __name__ == "__main__":
    main()
