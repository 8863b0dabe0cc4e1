"""Thumbnails by many threads, and by Celery. Seven lines protect its calls: they end in "# +".

celery --app threads_and_celery --workdir docs/examples worker
IMAGES_URL=https://images.example.com python docs/examples/threads_and_celery.py one.png two.png
"""

import os
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery

from otel_resilience import CircuitBreakerConfig, CircuitOpenError, Policy, RetryConfig, remaining  # +

images = Policy("images", retry=RetryConfig(), breaker=CircuitBreakerConfig(), deadline=30)  # +
app = Celery("thumbnails", broker=os.environ.get("BROKER_URL", "redis://"), backend=os.environ.get("RESULT_URL"))


@images  # +
def thumbnail(name: str) -> int:
    url = f"{os.environ['IMAGES_URL']}/{name}"
    with urllib.request.urlopen(url, timeout=min(10, remaining() or 10)) as answer:  # +
        return len(answer.read())


@app.task(bind=True, max_retries=10)
def make_thumbnail(task: Any, name: str) -> int:
    try:  # +
        return thumbnail(name)
    except CircuitOpenError as error:  # +
        raise task.retry(exc=error, countdown=error.retry_after) from error  # +


def main(names: list[str]) -> None:
    with ThreadPoolExecutor(max_workers=8) as threads:
        for name, size in zip(names, threads.map(thumbnail, names), strict=True):
            print(name, size)


if __name__ == "__main__":
    main(sys.argv[1:])
