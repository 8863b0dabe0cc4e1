# syntax=docker/dockerfile:1
# One image for every process: catalog-sync, the API, workers, the simulator, the receiver of alerts.
ARG BASE=python:3.13.9-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
RUN python -m venv /opt/catalog-sync
ENV PATH=/opt/catalog-sync/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
COPY deploy/image_info.py deploy/image_info.py
# pip is useless in an image with a read-only file system.
RUN pip install --constraint constraints.txt ./src/otel_resilience '.[api,demo,worker]' \
    && python deploy/image_info.py --output /opt/catalog-sync/share/catalog-sync \
    && pip uninstall --yes pip

FROM ${BASE}
LABEL org.opencontainers.image.title=catalog-sync org.opencontainers.image.licenses=Apache-2.0
ENV PATH=/opt/catalog-sync/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    CATALOG_STATE_DIR=/var/lib/catalog-sync
# The chart in deploy/helm has the same numbers.
RUN groupadd --system --gid 10002 catalog && useradd --system --uid 10002 --gid catalog \
    --home-dir /var/lib/catalog-sync --create-home --shell /usr/sbin/nologin catalog
COPY --from=build /opt/catalog-sync /opt/catalog-sync
COPY grafana/alert_sink.py /opt/alert-sink/alert_sink.py
COPY docs/alerts.md /opt/alert-sink/alerts.md
USER 10002:10002
WORKDIR /var/lib/catalog-sync
VOLUME /var/lib/catalog-sync
ENTRYPOINT ["catalog-sync"]
CMD ["--help"]
