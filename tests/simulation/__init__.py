"""Whole clients on a simulated machine: virtual time, and everything that happens follows from one seed.

    schedule    virtual time, and whose turn it is
    machine     what an operating system gives a process: threads, locks, chance, a number
    network     a flag service and a collector, and the weather between them and a client
    contents    what the service publishes, and what a client should make of it
    disk        a disk that fails, loses its power, and can be read behind everybody's back
    ledger      every event that was recorded, and what became of it
    invariants  what must hold after every step
    world       one schedule: processes that live and die, faults, the healing, the reckoning

``pytest tests/simulation --seed 4711`` runs one schedule again, ``--seed 0-9999`` many.
"""
