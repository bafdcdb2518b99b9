"""A fleet through Redis: processes hand in their counts and take turns as judge. No script, so the mathematics stays
in one place, and it works where scripts are forbidden.

Owns the order of things: one atomic pipeline a trial and exchange; then whoever has the turn reads counts and state,
judges, and stores the outcome in one transaction, which changes nothing if another was quicker. ``redis_places`` has
the keys and commands, ``redis_wire`` the connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flagkit.errors import ConfigError
from flagkit.fleets.fleet import Judge, Report, Trial, Word
from flagkit.fleets.redis_places import Heard, Places
from flagkit.redis_wire import Deadline, Nodes, Question, RedisWire

_MAX_PREFIX: Final = 128
#: Trials whose final word is remembered; the oldest give way.
_MOST_FINAL: Final = 1000
#: What is left of the deadline when no further trial is judged: words that were heard are not to be lost over it.
_MARGIN: Final = 0.5


class Redis:
    """A fleet through Redis, or a Redis Cluster. Each process holds one connection, to each node that it needs.

    What was judged is kept for 30 days after the last counts. A Redis that evicts keys, or is flushed, loses evidence,
    and a verdict comes later; it does not lose a final word as long as a process lives that has heard it.

    Args:
        url: ``redis://HOST[:PORT][/DATABASE]``, or ``rediss://`` with TLS; a user name and password before an ``@`` if
            need be. No query and no fragment. Of a cluster, any node, or a name that leads to those which live.
        prefix: what all keys begin with, at most 128 characters; processes with another count by themselves.
        ca_file: PEM file of certificates trusted in addition to the public ones.
        allow_insecure_redis: allow ``redis://`` beyond loopback, in the clear.

    Raises: ConfigError naming the field; ModuleNotFoundError without the extra ``redis``.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "flagkit",
        ca_file: str | None = None,
        allow_insecure_redis: bool = False,
    ) -> None:
        self._prefix = _checked_prefix(prefix)
        self._wire = RedisWire(url, label=prefix, ca_file=ca_file, allow_insecure_redis=allow_insecure_redis)
        self._nodes = Nodes(self._wire)
        self._final: dict[Trial, str] = {}
        self.name = self._wire.name

    def __repr__(self) -> str:
        return f"fleets.Redis({self.name!r})"

    def exchange(
        self, process: str, sequence: int, reports: Sequence[Report], judge: Judge, *, deadline_s: float
    ) -> Sequence[Word]:
        """See ``Fleet``. Counts of a trial that has its final word are not handed in.

        Raises: FetchError; what ``judge`` raises against its contract.
        """

        def work(deadline: Deadline) -> list[Word]:
            attended = [(report, Places(self._prefix, report.trial)) for report in reports]
            answered = self._nodes.ask(deadline, [self._question(process, sequence, *each) for each in attended])
            words = []
            for (report, places), (connection, answers) in zip(attended, answered, strict=True):
                trial = report.trial
                heard: Heard | None
                if trial in self._final:
                    heard = self._insisted(connection, trial, places, answers)
                else:
                    seen = places.seen(answers)
                    heard = seen.heard
                    mine = seen.turn == process and seen.waiting and not (heard is not None and heard.final)
                    if mine and deadline.left_s() > deadline_s * _MARGIN:
                        heard = self._judged(connection, report, places, judge)
                if heard is not None:
                    self._remember(trial, heard)
                    words.append(Word(trial, heard.word))
            return words

        return self._nodes.within(deadline_s, work)

    def close(self) -> None:
        """See ``Fleet``. An exchange under way on another thread fails."""
        self._nodes.close()

    def after_fork(self) -> None:
        self._nodes.after_fork()

    def _question(self, process: str, sequence: int, report: Report, places: Places) -> Question:
        final = self._final.get(report.trial)
        met = places.meet(process, sequence, report.counted) if final is None else places.insist(final)
        return Question(places.word, met)

    def _insisted(self, connection: Any, trial: Trial, places: Places, answers: list[Any]) -> Heard:
        """The final word of a trial, which Redis has from here on if it had lost it, and judges had begun anew."""
        heard = places.insisted(answers)
        if heard is not None and heard.final:
            return heard
        mine = self._final[trial]
        self._wire.answers(connection, places.overrule(mine))
        return Heard(mine, final=True)

    def _judged(self, connection: Any, report: Report, places: Places, judge: Judge) -> Heard | None:
        """Judge what is there, if there still is something; the word then."""
        matter = places.matter(self._wire.answers(connection, places.take()))
        if not matter.taken or (matter.heard is not None and matter.heard.final):
            self._wire.answers(connection, [("UNWATCH",)])
            return matter.heard
        judged = judge(report.trial, report.policy, matter.state, matter.counts, matter.now_s)
        given = self._wire.answers(connection, places.give(judged, matter.taken))
        lost = given[-1] is None
        return matter.heard if lost else Heard(judged.word, judged.final)

    def _remember(self, trial: Trial, heard: Heard) -> None:
        if heard.final:
            self._final[trial] = heard.word
            if len(self._final) > _MOST_FINAL:
                del self._final[next(iter(self._final))]


def _checked_prefix(prefix: object) -> str:
    if not isinstance(prefix, str) or not 0 < len(prefix) <= _MAX_PREFIX or not prefix.isprintable() or "{" in prefix:
        raise ConfigError("prefix", prefix, f"a string of 1 to {_MAX_PREFIX} printable characters, none of them {{")
    return prefix
