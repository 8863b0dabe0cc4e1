"""Retries: configuration, the formula for the wait, and the budget that limits them."""
