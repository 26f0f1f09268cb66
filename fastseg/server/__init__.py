"""Server of one model over HTTP, with a page; needs the extra ``server``."""

from fastseg.server.app import create_app
from fastseg.server.running import Server
from fastseg.server.settings import Limits, Settings

__all__ = ["Limits", "Server", "Settings", "create_app"]
