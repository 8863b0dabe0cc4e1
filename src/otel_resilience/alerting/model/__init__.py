"""Alerts, incidents, and the pure rules of the incident book."""
