"""Writes the orders of a day from PostgreSQL to S3. Six lines protect its calls: they end in "# +".

DATABASE_URL=postgresql://… BUCKET=reports python docs/examples/postgres_and_s3.py 2026-11-28
"""

import json
import os
import sys

import boto3
import psycopg
from botocore.config import Config

from otel_resilience import CircuitBreakerConfig, Policy, RetryConfig  # +

database = Policy("orders-db", retry=RetryConfig(), breaker=CircuitBreakerConfig(), deadline=30, idempotent=True)  # +
s3 = Policy("s3", retry=RetryConfig(), breaker=CircuitBreakerConfig(), deadline=60, idempotent=True)  # +


@database  # +
def orders(day: str) -> list[tuple[int, str]]:
    with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=5) as connection:
        return connection.execute("SELECT id, product FROM orders WHERE day = %s ORDER BY id", (day,)).fetchall()


@s3  # +
def upload(name: str, body: bytes) -> None:
    once = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1})  # +
    client = boto3.client("s3", endpoint_url=os.environ.get("S3_URL"), config=once)
    client.put_object(Bucket=os.environ["BUCKET"], Key=name, Body=body)


def main(day: str) -> None:
    rows = orders(day)
    upload(f"orders/{day}.json", json.dumps(rows).encode())
    print(f"{len(rows)} orders of {day}")


if __name__ == "__main__":
    main(sys.argv[1])
