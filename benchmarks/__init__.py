"""Measurements against peers and of the whole sync. Never imported by the product."""
