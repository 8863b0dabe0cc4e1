"""The client of the eSIM Go API."""
