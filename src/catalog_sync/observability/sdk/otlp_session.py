"""The HTTP session of the OTLP exporters where a variable of OpenTelemetry names a certificate."""

from __future__ import annotations

from typing import Any

import requests


class CertifiedSession(requests.Session):
    """Checks the collector against the certificate that it was given.

    ``REQUESTS_CA_BUNDLE`` and ``CURL_CA_BUNDLE``, which are meant for every program, would otherwise win.
    """

    def merge_environment_settings(self, *args: Any, **kwargs: Any) -> Any:
        """Proxies as the environment says, the certificate as this session says."""
        return {**super().merge_environment_settings(*args, **kwargs), "verify": self.verify}
