"""The sync itself."""
