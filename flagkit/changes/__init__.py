"""Changes of a definitions file by an operator: what may be ordered, the file under a lock, the history beside it.

The same whoever is at the counter: the command line on a file, or the service for the file that it serves. It judges
no edit (``dialects.edits`` does), speaks to nobody and prints nothing.
"""

from flagkit.changes.history import Author, Change, History, undoing
from flagkit.changes.logbook import Busy, Logbook, LogbookError, opened, read_history
from flagkit.changes.orders import Kill, Order, OrderError, Ramp, Reset, Revert, Serve, order_document, order_from

__all__ = [
    "Author",
    "Busy",
    "Change",
    "History",
    "Kill",
    "Logbook",
    "LogbookError",
    "Order",
    "OrderError",
    "Ramp",
    "Reset",
    "Revert",
    "Serve",
    "opened",
    "order_document",
    "order_from",
    "read_history",
    "undoing",
]
