"""HTTP, tamed: one exchange that ends by its deadline, fits its bounds, and fails with a word instead of a surprise.

Owns everything between a URL and the bytes of an answer: checked addresses, keys that cannot be printed, deadlines,
sizes, compression, redirects, reuse of connections. It knows neither definitions nor events; ``sources``, ``sinks``
and the command line call it. ``leash`` is the only module of flagkit that imports ``requests``, and nothing imports
``leash`` before the first ``Wire`` is made, because that import costs more than the rest of flagkit together.
"""

from flagkit.http.headers import secret_headers
from flagkit.http.reply import NoReply, Reply
from flagkit.http.secret import Secret
from flagkit.http.server_sent import ServerSent
from flagkit.http.wire import Wire

__all__ = ["NoReply", "Reply", "Secret", "ServerSent", "Wire", "secret_headers"]
