"""The command line. ``main`` starts fast: each command imports what it needs when it runs."""
