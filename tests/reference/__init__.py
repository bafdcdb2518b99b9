"""The oracle: a second, naive implementation of the native format that the compiled engine is compared with.

Nothing here compiles, caches or is fast; each function is meant to be checked against the text of the format by eye.
``interpreter.decide`` is the entry, ``strategies`` makes the documents and contexts to compare on. Only ``compiled``
imports flagkit: it puts the engine in the same words.
"""
