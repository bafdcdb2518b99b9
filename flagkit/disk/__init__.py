"""What flagkit keeps on a disk: in a private folder, written so that a crash at any moment leaves the old or the new.

Owns descriptors, permissions and the order of write, sync and rename. Knows nothing of what is in the files; the last
good definitions and the spool of events do. POSIX only: elsewhere no folder opens.
"""

from flagkit.disk.folder import Folder, FolderError
from flagkit.disk.held import Appender, Lock
from flagkit.disk.mapped import Mapped

__all__ = ["Appender", "Folder", "FolderError", "Lock", "Mapped"]
