"""Support for syncs that several processes carry out together."""
