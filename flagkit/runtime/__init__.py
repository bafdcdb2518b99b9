"""The moving parts of a client: threads, the poll, the buffer, delivery, and the counts of them all.

Nothing here decides anything about a flag: definitions arrive as bytes and leave through a callable the client gives,
exposures arrive as tuples and leave through a sink. Private: applications see ``client.status`` and nothing else.
"""
