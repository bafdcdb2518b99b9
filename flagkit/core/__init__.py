"""The engine: definitions in, decisions out. Pure: no I/O, thread, clock, logger or randomness of its own."""
