"""The supplier port and its eSIM Go adapter."""
