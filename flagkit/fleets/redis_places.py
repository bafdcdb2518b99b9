"""What a fleet keeps of a trial in Redis, under which keys, for how long, and the commands of its two transactions.

Four keys a trial, all with the flag as hash tag, so that they are in one slot of a cluster. Pure: it builds commands
and reads their answers; ``fleets.redis`` sends them.

    counts   stream of what processes have counted and nobody has judged; its ids are the server's time
    turn     the process whose turn it is to judge, for a little less than a second
    state    what the judge remembers, after ``1``
    word     the latest word, after ``!`` if it is final, else after ``.``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from flagkit.fleets.fleet import EXPIRES_S, Counts, Judged, Trial

Command: TypeAlias = "tuple[Any, ...]"

#: How long a turn lasts, and so how long one who died holds up the others. Less than the second between two exchanges
#: of a process: or it would often still have its turn, and the next one have it right after.
TURN_MS: Final = 900
KEPT_MS: Final = 30 * 86_400_000
MAX_WORD: Final = 4096
_MAX_STATE: Final = 8 * 1024 * 1024
#: Counts that wait to be judged; the oldest give way.
MOST_WAITING: Final = 4096
_MOST_TAKEN: Final = 2048
_MAX_COUNTED: Final = 64 * 1024
_FINAL: Final = b"!"
_OPEN: Final = b"."
_FORMAT: Final = b"1"
#: Ranges of bytes, up to one more than there may be.
_WORD: Final = (0, 1 + MAX_WORD)
_STATE: Final = (0, 1 + _MAX_STATE)
_COUNTS_MS: Final = int(EXPIRES_S * 1000)
_EVERYTHING: Final = ("-", "+", "COUNT", _MOST_TAKEN)


class Heard(NamedTuple):
    """A word as it was read."""

    word: str
    final: bool


class Seen(NamedTuple):
    """How a trial stands. turn: whose it is. waiting: counts that nobody has judged."""

    heard: Heard | None
    turn: str | None
    waiting: int


class Matter(NamedTuple):
    """What there is to judge. taken: ids of the counts, of those too old or unreadable as well."""

    heard: Heard | None
    state: bytes | None
    counts: list[Counts]
    taken: list[bytes]
    now_s: float


class Places:
    """The keys of one trial."""

    __slots__ = ("counts", "state", "turn", "word")

    def __init__(self, prefix: str, trial: Trial) -> None:
        environment, flag, candidate = map(_quoted, (trial.environment, trial.flag, trial.candidate))
        at = f"{prefix}:{{{environment}:{flag}}}:{trial.revision}:{candidate}"
        self.counts, self.state = f"{at}:counts".encode(), f"{at}:state".encode()
        self.turn, self.word = f"{at}:turn".encode(), f"{at}:word".encode()

    def meet(self, process: str, sequence: int, counted: bytes) -> list[Command]:
        """Hand in counts (not more than 64 KiB of them), take the turn if nobody has it, and see how things stand."""
        commands: list[Command] = [("MULTI",)]
        if 0 < len(counted) <= _MAX_COUNTED:
            entry = ("*", "p", process, "s", sequence, "c", counted)
            commands += [
                ("XADD", self.counts, "MAXLEN", "~", MOST_WAITING, *entry),
                ("PEXPIRE", self.counts, _COUNTS_MS),
            ]
        return [
            *commands,
            ("SET", self.turn, process, "NX", "PX", TURN_MS),
            ("GET", self.turn),
            ("XLEN", self.counts),
            ("GETRANGE", self.word, *_WORD),
            ("EXEC",),
        ]

    def seen(self, answers: Sequence[Any]) -> Seen:
        """What ``meet`` was answered."""
        *_, turn, waiting, word = answers[-1]
        return Seen(_heard(word), None if turn is None else _text(turn), waiting)

    def insist(self, word: str) -> list[Command]:
        """Put a final word back if there is none, and see what there is."""
        return [
            ("MULTI",),
            ("SET", self.word, _FINAL + word.encode(), "NX", "PX", KEPT_MS),
            ("PEXPIRE", self.word, KEPT_MS),
            ("GETRANGE", self.word, *_WORD),
            ("EXEC",),
        ]

    def insisted(self, answers: Sequence[Any]) -> Heard | None:
        return _heard(answers[-1][-1])

    def overrule(self, word: str) -> list[Command]:
        """Put a final word in the place of another."""
        return [("SET", self.word, _FINAL + word.encode(), "PX", KEPT_MS)]

    def take(self) -> list[Command]:
        """Read what there is to judge; from here on ``give`` fails if somebody else gives first."""
        return [
            ("WATCH", self.state, self.word),
            ("GETRANGE", self.word, *_WORD),
            ("GETRANGE", self.state, *_STATE),
            ("XRANGE", self.counts, *_EVERYTHING),
            ("TIME",),
        ]

    def matter(self, answers: Sequence[Any]) -> Matter:
        """What ``take`` was answered."""
        _, word, state, entries, (seconds, microseconds) = answers
        now_s = int(seconds) + int(microseconds) / 1_000_000
        read = [_counts(*entry) for entry in entries]
        counts = [each for each in read if each is not None and now_s - each.received_s <= EXPIRES_S]
        known = state[:1] == _FORMAT and len(state) <= 1 + _MAX_STATE
        return Matter(_heard(word), state[1:] if known else None, counts, [entry[0] for entry in entries], now_s)

    def give(self, judged: Judged, taken: Sequence[bytes]) -> list[Command]:
        """Store what was judged, and remove what it was judged by. EXEC is answered None if somebody was quicker.

        Raises: ValueError when the judge says more than may be said.
        """
        word = (_FINAL if judged.final else _OPEN) + judged.word.encode()
        if len(word) > 1 + MAX_WORD or len(judged.state) > _MAX_STATE:
            raise ValueError(f"a judge's word is at most {MAX_WORD:,} bytes, its state {_MAX_STATE:,}")
        return [
            ("MULTI",),
            ("SET", self.state, _FORMAT + judged.state, "PX", KEPT_MS),
            ("SET", self.word, word, "PX", KEPT_MS),
            ("XDEL", self.counts, *taken),
            ("EXEC",),
        ]


def _quoted(name: str) -> str:
    """Without ``:``, ``{`` and ``}``, whatever a backend calls its flags."""
    from urllib.parse import quote  # loaded with the wire; on top it would cost every `import flagkit`

    return quote(name, safe="", errors="surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _heard(data: bytes) -> Heard | None:
    mark, word = data[:1], data[1:]
    return Heard(_text(word), mark == _FINAL) if mark in (_FINAL, _OPEN) and len(word) <= MAX_WORD else None


def _counts(entry_id: bytes, fields: Sequence[bytes]) -> Counts | None:
    """An entry of the stream; None when it is none of ours."""
    found = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        received_ms = int(entry_id.partition(b"-")[0])
        return Counts(_text(found[b"p"]), int(found[b"s"]), received_ms / 1000, found[b"c"])
    except (KeyError, ValueError):
        return None
