"""Redis, for whoever needs it: where it is, connections that end by a deadline, and why one failed, in a word.

The only importer of redis-py (extra ``redis``). ``sources`` and ``fleets`` build on it; it knows no key of theirs.
"""

from flagkit.redis_wire.nodes import Nodes, Question
from flagkit.redis_wire.wire import Deadline, RedisWire, asked, checked_name, hang_up

__all__ = ["Deadline", "Nodes", "Question", "RedisWire", "asked", "checked_name", "hang_up"]
