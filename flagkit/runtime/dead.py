"""``Dead``: events that will never be sent and may still be looked at: refused by the collector, or damaged on disk.

They are counted elsewhere, and never read again by flagkit. All of them together are bounded; once that is reached
further ones are counted only.
"""

from __future__ import annotations

import json
from contextlib import closing, suppress
from typing import Final

from flagkit.disk import Folder

_NAME: Final = "dead"
_MOST_BYTES: Final = 1024 * 1024


class Dead:
    """See the module. ``root``: the folder theirs is in. Nothing here raises."""

    def __init__(self, root: Folder) -> None:
        self._root = root

    def refused(self, owner: str, reason: str, events: list[str]) -> None:
        """Keep events the collector will not take, a line each. ``owner``: the folder they waited in."""
        with suppress(OSError):
            folder, room = self._open()
            lines = []
            for text in events:
                line = f'{{"reason":{json.dumps(reason)},"event":{text}}}\n'.encode()
                room -= len(line)
                if room < 0:
                    break
                lines.append(line)
            self._append(folder, f"{owner}.jsonl", b"".join(lines))

    def damaged(self, name: str, data: bytes) -> None:
        """Keep what is left of a segment that cannot be read."""
        with suppress(OSError):
            folder, room = self._open()
            self._append(folder, f"{name}.bad", data[: max(0, room)])

    def _open(self) -> tuple[Folder, int]:
        folder = self._root.folder(_NAME)
        return folder, _MOST_BYTES - sum(folder.size(name) for name in folder.names())

    def _append(self, folder: Folder, name: str, data: bytes) -> None:
        if data:
            with closing(folder.append(name)) as file:
                file.write(data)
