"""Retries: configuration, the formula of the wait, and the budget that bounds them."""
