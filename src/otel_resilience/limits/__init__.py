"""Limits on calls: how often, how many at a time, how long an attempt may take."""
