"""Pages for people at the addresses of syncs, traces and incidents: server-rendered, complete without a script."""

from catalog_sync.api.pages.negotiation import PageRoute, negotiate
from catalog_sync.api.pages.site import Site

__all__ = ["PageRoute", "Site", "negotiate"]
