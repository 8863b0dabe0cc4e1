"""Rules for requests. Nothing here imports it.

The urllib3 exception behind it is more exact: a ``ConnectionError`` may be a refused port as well as an unknown host or
a body that does not arrive.
"""

from __future__ import annotations

import functools
from typing import Final

from otel_resilience.classification.causes import by_class_name, judged_behind
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.carried_status import answered
from otel_resilience.classification.rules.urllib3 import classify_urllib3

_behind: Final = functools.partial(judged_behind, classify_urllib3, argument=0)

classify_requests: Final = by_class_name(
    {
        "requests.exceptions": {
            "ConnectTimeout": verdicts.CONNECT_TIMEOUT,
            "ReadTimeout": os_errors.read_timeout,
            "Timeout": verdicts.READ_TIMEOUT,
            "ProxyError": _behind(verdicts.PROXY),
            "SSLError": _behind(os_errors.TLS_REFUSED),
            "ConnectionError": _behind(os_errors.BROKEN),
            "ChunkedEncodingError": _behind(verdicts.ENDED),
            "ContentDecodingError": answered,
            "InvalidJSONError": answered,
            "RetryError": _behind(verdicts.SERVER_ERROR),
            "TooManyRedirects": verdicts.TOO_MANY_REDIRECTS,
            "HTTPError": answered,
            "RequestException": verdicts.MISUSE,
        }
    }
)
"""The verdict on an exception of requests; ``None`` on any other."""
