"""A script with requests that prints the prices of a shop. Six lines protect its calls: they end in "# +".

SHOP_URL=https://shop.example.com python docs/examples/script_with_requests.py
"""

import os
import sys

import requests

from otel_resilience import CircuitBreakerConfig, CircuitOpenError, Policy, RetryConfig  # +
from otel_resilience.integrations.requests import ResilientAdapter  # +

shop = Policy("shop", retry=RetryConfig(), breaker=CircuitBreakerConfig(), deadline=20, attempt_timeout=5)  # +


def main() -> int:
    url = os.environ["SHOP_URL"]
    with requests.Session() as session:
        session.mount(url, ResilientAdapter(shop))  # +
        try:
            for product in session.get(f"{url}/products").json():
                answer = session.get(f"{url}/prices/{product}")
                print(product, answer.text if answer.ok else f"none ({answer.status_code})")
        except CircuitOpenError as error:  # +
            print(f"the shop is down, try again in {error.retry_after:.0f} s", file=sys.stderr)  # +
            return 1
        except requests.RequestException as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
