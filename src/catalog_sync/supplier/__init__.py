"""Suppliers of bundles: the port, and eSIM Go behind it."""
