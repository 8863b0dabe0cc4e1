"""A code base that keeps tenacity: what it retries becomes spans, events and metrics. Two lines report its calls: they
end in "# +". Where `opentelemetry-instrument` starts the program, even those are not needed.

    RATES_URL=https://rates.example.com python docs/examples/tenacity_code.py EUR
"""

import os
import sys

import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from otel_resilience.instrumentation.tenacity import TenacityInstrumentor  # +


@retry(
    retry=retry_if_exception_type(requests.RequestException),
    stop=stop_after_attempt(4),
    wait=wait_exponential_jitter(multiplier=0.05, max=5),
    reraise=True,
)
def rate(currency: str) -> float:
    answer = requests.get(f"{os.environ['RATES_URL']}/{currency}", timeout=5)
    answer.raise_for_status()
    return float(answer.text)


def main(currency: str) -> None:
    print(currency, rate(currency))


if __name__ == "__main__":
    TenacityInstrumentor().instrument()  # +
    main(sys.argv[1])
