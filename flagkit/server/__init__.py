"""The embedded flag service and collector (extra ``server``): a file of definitions in, a SQLite file of events out.

It serves one host and tests. It shares the definitions model and the events' wire form with the client and knows
nothing of the client's runtime. The command line calls ``serve``; an ASGI host mounts ``build_app``.
"""

from flagkit.server.app import build_app
from flagkit.server.config import ServerConfig
from flagkit.server.run import serve

__all__ = ["ServerConfig", "build_app", "serve"]
