"""Grafana's UI components from npm, in a cache folder outside the repository; the page bundled with them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
PAGE: Final = HERE / "page"
INSTALL_WITHIN: Final = 900.0
"""Seconds; it is 450 MB."""
BUNDLE_WITHIN: Final = 120.0

_COMMONJS: Final = {
    "@grafana/ui": "ui/dist/cjs/index.cjs",
    "@grafana/ui/unstable": "ui/dist/cjs/unstable.cjs",
    "@grafana/data": "data/dist/cjs/index.cjs",
    "@grafana/data/unstable": "data/dist/cjs/unstable.cjs",
    "@grafana/data/internal": "data/dist/cjs/internal.cjs",
    "@grafana/i18n": "i18n/dist/cjs/index.cjs",
    "@grafana/i18n/internal": "i18n/dist/cjs/internal.cjs",
}
"""esbuild takes default exports of CommonJS packages wrongly when the ES modules of these import them."""


class ToolMissing(RuntimeError):  # noqa: N818
    """A program or package of the preview cannot be had."""


def program(*names: str) -> str:
    """The path of the first of these programs that exists. Raises :class:`ToolMissing` if none does."""
    found = next((path for name in names if (path := shutil.which(name)) is not None), None)
    if found is None:
        raise ToolMissing(f"{' or '.join(names)} is not on PATH")
    return found


def cache() -> Path:
    """The folder of this package.json's packages, whether installed or not."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256((HERE / "package.json").read_bytes()).hexdigest()[:16]
    return base / "catalog-sync/dashboard-preview" / key


def installed() -> Path:
    """The packages, installed once for each content of package.json. Raises :class:`ToolMissing`."""
    target = cache()
    if target.is_dir():
        return target
    npm = program("npm")
    program("node")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent))
    shutil.copy(HERE / "package.json", staging)
    # Grafana's packages name older peers than they work with.
    options = ["--legacy-peer-deps", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            [npm, "install", *options], cwd=staging, capture_output=True, text=True, timeout=INSTALL_WITHIN, check=False
        )
        if done.returncode:
            raise ToolMissing(f"the packages of grafana/preview could not be installed: {done.stderr[-500:]}")
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def bundled(packages: Path, folder: Path) -> None:
    """Writes the page as ``index.html``, ``main.js`` and ``main.css``. Raises :class:`RuntimeError`."""
    modules = packages / "node_modules"
    options = [
        "--bundle",
        "--format=iife",
        "--jsx=automatic",
        "--log-level=error",
        "--define:global=window",
        '--define:process.env.NODE_ENV="production"',
        *(f"--loader:.{kind}=dataurl" for kind in ("svg", "png", "woff", "woff2", "ttf", "eot")),
        *(f"--alias:{name}={modules / '@grafana' / path}" for name, path in _COMMONJS.items()),
    ]
    command = [str(modules / ".bin/esbuild"), str(PAGE / "main.tsx"), *options, f"--outfile={folder / 'main.js'}"]
    environment = {**os.environ, "NODE_PATH": str(modules)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=BUNDLE_WITHIN, check=False)
    if done.returncode:
        raise RuntimeError(f"the page could not be bundled: {done.stderr}")
    shutil.copy(PAGE / "index.html", folder)


def public(packages: Path) -> dict[str, Path]:
    """What Grafana would serve to its components: icons and fonts, by their paths."""
    modules = packages / "node_modules"
    fonts = modules / "@fontsource/inter/files"
    return {
        "/public/build/": modules / "@grafana/ui/dist/public",
        "/public/fonts/inter/Inter-Regular.woff2": fonts / "inter-latin-400-normal.woff2",
        "/public/fonts/inter/Inter-Medium.woff2": fonts / "inter-latin-500-normal.woff2",
    }
