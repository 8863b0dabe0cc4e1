"""Writes what Grafana, Prometheus and Alertmanager load: ``python -m grafana.generate``, or ``make dashboards``."""
