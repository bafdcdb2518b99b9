"""Faults that need real processes: forks as servers do them, services that go away.

``app`` runs inside the servers under test, ``fleet`` starts and stops them; the tests only say what must hold.
"""
