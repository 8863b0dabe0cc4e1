"""The eSIM catalogue sync."""
