"""Suppliers of bundles: the port, and its implementation for eSIM Go."""
