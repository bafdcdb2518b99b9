"""Users: real HTTP requests over connections that are kept open, from a few threads, and what came back.

It owns the load and the raw answers; what the answers mean is for ``findings``. A request that fails is counted with
its reason and never repeated.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any, Final, NamedTuple
from urllib.parse import quote

_THREADS: Final = 6
_DEADLINE_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.1
_PAID_A_SECOND: Final = 1000


class Unanswered(Exception):
    """No answer, or not a good one; the message says which."""


class Line:
    """One connection to one worker, opened at the first request and kept. Not thread-safe."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(url.removeprefix("http://"), timeout=_DEADLINE_S)

    def ask(self, method: str, path: str) -> Any:
        """The JSON of a 200 answer. Raises: Unanswered."""
        try:
            self._connection.request(method, path)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            self._connection.close()  # the next request opens another
            raise Unanswered(type(error).__name__) from None
        if response.status != 200:
            raise Unanswered(f"status {response.status}")
        return json.loads(body)

    def close(self) -> None:
        self._connection.close()


class Question(NamedTuple):
    """A user at a worker's door; ``worker`` counts from 0."""

    worker: int
    user: str


class Answer(NamedTuple):
    """What a user got. ``served``: flag -> (variant, version of the flag), None where there was no answer."""

    worker: int
    user: str
    served: Mapping[str, tuple[str | None, str | None]]
    bought: bool


class Traffic:
    """Asks the workers at ``urls``. ``failures`` says why requests had no answer, in order of appearance."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self.failures: list[str] = []

    def ask(self, questions: Iterable[Question], shown: Callable[[int], None]) -> list[Answer]:
        """The answers to all questions, as fast as they come; ``shown`` is told now and then how many there are."""
        answers: list[Answer] = []
        with self._threads(iter(questions), answers, _THREADS, 0.0) as threads:
            while alive := [thread for thread in threads if thread.is_alive()]:
                alive[0].join(_LOOK_EVERY_S)
                shown(len(answers))
        shown(len(answers))
        return answers

    def pay(self, questions: Iterable[Question]) -> Iterator[bool]:
        """Have users pay, one after the other; whether each was served by the candidate. Failures as for ``ask``.

        At most ``_PAID_A_SECOND`` of them: a fast machine is not to be done before anybody could have looked.
        """
        lines = [Line(url) for url in self._urls]
        begun_s = time.monotonic()
        for n, (worker, user) in enumerate(questions):
            time.sleep(max(0.0, begun_s + n / _PAID_A_SECOND - time.monotonic()))
            try:
                yield lines[worker].ask("GET", f"/pay?user={quote(user)}")["candidate"]
            except Unanswered as error:
                self.failures.append(str(error))
        for line in lines:
            line.close()

    @contextmanager
    def flowing(self, questions: Iterator[Question], pause_s: float) -> Iterator[list[Answer]]:
        """Ask one question after the other, ``pause_s`` apart, while the block lasts. Yields: the growing answers."""
        answers: list[Answer] = []
        with self._threads(questions, answers, 1, pause_s):
            yield answers

    @contextmanager
    def _threads(
        self, questions: Iterator[Question], answers: list[Answer], count: int, pause_s: float
    ) -> Iterator[list[threading.Thread]]:
        stop = threading.Event()
        # All threads draw from one iterator, which must therefore be a built-in one when there are several.
        threads = [
            threading.Thread(target=self._work, args=(questions, answers, stop, pause_s), daemon=True)
            for _ in range(count)
        ]
        try:
            for thread in threads:
                thread.start()
            yield threads
        finally:
            stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def _work(
        self, questions: Iterator[Question], answers: list[Answer], stop: threading.Event, pause_s: float
    ) -> None:
        lines = [Line(url) for url in self._urls]
        for worker, user in questions:
            if stop.wait(pause_s):
                break
            try:
                answer = lines[worker].ask("GET", f"/checkout?user={quote(user)}")
            except Unanswered as error:
                self.failures.append(str(error))
                continue
            served = {flag: (variant, version) for flag, (variant, version) in answer["served"].items()}
            answers.append(Answer(worker, user, served, answer["bought"]))
        for line in lines:
            line.close()
