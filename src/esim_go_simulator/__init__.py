"""A simulator of the eSIM Go API with scripted faults."""
