"""``Nodes``: kept connections to a Redis or, when it answers as one of a Redis Cluster does, to the nodes needed of it.

Owns which node has which keys, as far as ``MOVED`` answers have said, and connections between two uses. redis-py's own
client for clusters keeps no deadline and its transactions are newer than redis-py 5. One thread asks at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

from flagkit.http.address import is_loopback
from flagkit.redis_wire.address import RedisAddress
from flagkit.redis_wire.wire import Deadline, RedisWire, first_refusal, readable, talk

T = TypeVar("T")

_MOST_KNOWN: Final = 16
_SLOTS: Final = 16_384
_MOST_MOVES: Final = 5


class Question(NamedTuple):
    """Commands that concern one slot, to be sent together. key: one of the keys."""

    key: bytes
    commands: Sequence[Sequence[Any]]


class Answered(NamedTuple):
    """The answers to a question's commands, none of them a refusal, and the connection that they came from."""

    connection: Any
    answers: list[Any]


class Nodes:
    """See the module.

    A cluster is looked for at the wire's address; after a failure there, at nodes that it has named, and there again by
    turns. A slot that is on its way from one node to another is a failure, which passes.
    """

    __slots__ = ("_busy", "_failures", "_idle", "_known", "_masters", "_wire")

    def __init__(self, wire: RedisWire) -> None:
        self._wire = wire
        #: Nodes that the cluster has named, the latest last.
        self._known: dict[RedisAddress, None] = {}
        self._failures = 0
        self._idle: dict[RedisAddress, Any] = {}
        self._busy: dict[RedisAddress, Any] = {}
        #: Slot -> the node that has it, of a cluster.
        self._masters: dict[int, RedisAddress] = {}

    def within(self, deadline_s: float, work: Callable[[Deadline], T]) -> T:
        """As ``RedisWire.within``; connections stay open for the next time if all goes well."""
        done = False
        try:
            answer = self._wire.within(deadline_s, work)
            done = True
            return answer
        finally:
            # Idle from here on, and not before: ``close`` ends what is idle, and hangs up on what is not.
            busy = self._busy
            self._busy = {}
            if done:
                self._idle.update(busy)
            else:
                self._masters.clear()  # whoever has the keys now, the next to be asked will say
                self._failures += 1

    def ask(self, deadline: Deadline, questions: Sequence[Question]) -> list[Answered]:
        """All answers, in the order of the questions; those for one node are sent together.

        Raises: FetchError when a command is refused; what redis-py and the network do.
        """
        answered: dict[int, Answered] = {}
        for _ in range(_MOST_MOVES):
            at: dict[RedisAddress, list[int]] = {}
            for index, question in enumerate(questions):
                if index not in answered:
                    at.setdefault(self._address_of(question.key), []).append(index)
            if not at:
                return [answered[index] for index in range(len(questions))]
            for address, indices in at.items():
                connection = self._connection(deadline, address)
                answers = talk(connection, [command for index in indices for command in questions[index].commands])
                for index in indices:
                    size = len(questions[index].commands)
                    mine, answers = answers[:size], answers[size:]
                    if not self._moved(address, mine):
                        answered[index] = Answered(connection, mine)
        raise self._wire.failure("unsettled")

    def close(self) -> None:
        """Let go of the connections; of those in use, whichever thread notices."""
        with suppress(KeyError):  # none is left, or another thread has just taken the last
            while True:
                self._wire.close_one(self._idle.popitem()[1])
        self._wire.close()

    def after_fork(self) -> None:
        self._wire.after_fork()
        self._idle, self._busy, self._masters = {}, {}, {}

    def _address_of(self, key: bytes) -> RedisAddress:
        if self._masters:
            from redis.crc import key_slot

            master = self._masters.get(key_slot(key))
            if master is not None:
                return master
        known = list(self._known)
        turn, to_known = divmod(self._failures, 2)
        return known[turn % len(known)] if known and to_known else self._wire.address

    def _connection(self, deadline: Deadline, address: RedisAddress) -> Any:
        connection = self._busy.get(address)
        if connection is None:
            idle = self._idle.pop(address, None)
            connection = None if idle is None else deadline.use(idle)
            if connection is None:
                connection = deadline.connect(address)
            self._busy[address] = deadline.keep(connection)
        return connection

    def _moved(self, address: RedisAddress, answers: list[Any]) -> bool:
        """Whether all this is elsewhere, which is noted. Raises: FetchError; what redis-py does."""
        from flagkit.redis_wire.reasons import moved_to

        refusal = first_refusal(answers)
        if refusal is None:
            return False
        with readable():
            found = moved_to(refusal)
        if found is None:
            raise self._wire.failure_of(refusal)
        slot, host, port = found
        host = host or address.host
        if not (address.tls or self._wire.insecure or is_loopback(host)):
            raise self._wire.failure("insecure_node")
        there = self._masters[slot % _SLOTS] = address._replace(host=host, port=port)
        self._known.pop(there, None)
        self._known[there] = None
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return True
