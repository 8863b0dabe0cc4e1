# syntax=docker/dockerfile:1
# One image for every process of ours: catalog-sync, the API, workers, the simulator, the receiver of alerts.
FROM python:3.13.9-slim-bookworm AS build
WORKDIR /build
RUN python -m venv /opt/catalog-sync
ENV PATH=/opt/catalog-sync/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN pip install --constraint constraints.txt ./src/otel_resilience '.[api,demo,worker]'

FROM python:3.13.9-slim-bookworm
ENV PATH=/opt/catalog-sync/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    CATALOG_STATE_DIR=/var/lib/catalog-sync
RUN useradd --system --uid 10002 --home-dir /var/lib/catalog-sync --create-home --shell /usr/sbin/nologin catalog
COPY --from=build /opt/catalog-sync /opt/catalog-sync
COPY grafana/alert_sink.py /opt/alert-sink/alert_sink.py
COPY docs/alerts.md /opt/alert-sink/alerts.md
USER catalog
WORKDIR /var/lib/catalog-sync
VOLUME /var/lib/catalog-sync
ENTRYPOINT ["catalog-sync"]
CMD ["--help"]
