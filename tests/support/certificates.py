"""A certificate for servers on the loopback."""

from __future__ import annotations

import subprocess
from pathlib import Path

import certifi

from support.programs import require_program


def loopback_certificate(folder: Path) -> tuple[Path, Path]:
    """The files of a self-signed certificate for ``localhost`` and its key. Skips without openssl, or fails if
    ``CI=true``."""
    openssl = require_program("openssl")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "7",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return certificate, key


def one_authority(folder: Path) -> Path:
    """A file with one public authority, for ``SSL_CERT_FILE``: reading all of them takes longer than most tests."""
    end = "-----END CERTIFICATE-----\n"
    file = folder / "authority.pem"
    file.write_text(Path(certifi.where()).read_text(encoding="utf-8").partition(end)[0] + end, encoding="utf-8")
    return file
