"""``SourceContract``: the tests that every source passes, flagkit's own included.

A project that has a source of its own derives a test class from it and says, in one fixture, how to set the source up.
Needs pytest to run and nothing of it but its fixtures; knows no source.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

from flagkit.errors import FetchError
from flagkit.sources import Fetched, NotModified, Source

_DEADLINE_S: Final = 5.0
_ROOM: Final = 1 << 20
#: Far more than the time that is given, because the machine may be busy, and far less than for ever.
_PATIENCE_S: Final = 5.0


class SourceStage(NamedTuple):
    """A source that has ``SourceContract.DOCUMENT`` to give.

    serve: makes it have another document, or with None none at all, as when its server is down; None for sources whose
    document cannot change. secrets: what must not be seen in its name, repr or errors, such as its key. hang: has its
    server take calls from now on and never answer; None for sources without one.
    """

    source: Source
    serve: Callable[[bytes | None], object] | None = None
    secrets: tuple[str, ...] = ()
    hang: Callable[[], object] | None = None


class SourceContract:
    """Tests of a source; see ``flagkit.sources.Source`` for what they hold it to.

    class TestMySource(SourceContract):
        @pytest.fixture
        def stage(self):
            with my_server(SourceContract.DOCUMENT) as server:
                yield SourceStage(MySource(server.url), serve=server.serve)
    """

    #: What the source serves when a test begins; bytes, which a source does not look into.
    DOCUMENT: bytes = b'{"schema": 1, "flags": {}}'

    @pytest.fixture
    def stage(self) -> SourceStage:
        """The source, set up; to be defined by the derived class."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `stage` that gives a SourceStage")

    def test_it_has_the_members_of_a_source(self, stage: SourceStage) -> None:
        assert isinstance(stage.source, Source)
        assert isinstance(stage.source.local, bool)
        assert isinstance(stage.source.dialect, str)
        assert stage.source.dialect

    def test_it_says_who_it_is_without_a_secret(self, stage: SourceStage) -> None:
        assert isinstance(stage.source.name, str)
        assert stage.source.name
        _shows_no_secret(stage, f"{stage.source.name} {stage.source!r}")

    def test_without_a_validator_it_gives_the_document_each_time(self, stage: SourceStage) -> None:
        assert _document(stage.source) == self.DOCUMENT
        assert _document(stage.source) == self.DOCUMENT

    def test_given_the_validator_of_its_document_it_says_not_modified(self, stage: SourceStage) -> None:
        validator = _fetched(stage.source).validator
        if validator is None:  # a source that has no name for its documents
            pytest.skip("the source gives no validator")
        assert isinstance(validator, str)
        assert isinstance(_fetch(stage.source, validator), NotModified)

    def test_a_document_that_changed_is_given_anew(self, stage: SourceStage) -> None:
        serve = _changing(stage)
        validator = _fetched(stage.source).validator
        serve(self.DOCUMENT + b" ")
        assert _document(stage.source, validator) == self.DOCUMENT + b" "

    def test_that_its_place_is_gone_it_says_in_a_fetch_error_and_it_works_when_it_is_back(
        self, stage: SourceStage
    ) -> None:
        serve = _changing(stage)
        serve(None)
        error = _failure(stage.source)
        assert re.fullmatch(r"[a-z0-9_]+", error.reason), "a reason is a word for counting"
        _shows_no_secret(stage, f"{error} {error!r}")
        serve(self.DOCUMENT)
        assert _document(stage.source) == self.DOCUMENT

    def test_that_nobody_answers_it_says_in_a_fetch_error_within_its_time(self, stage: SourceStage) -> None:
        if stage.hang is None:
            pytest.skip("the source asks nobody who could fail to answer")
        stage.hang()
        began_s = time.monotonic()
        with pytest.raises(FetchError):
            stage.source.fetch(None, deadline_s=0.2, max_bytes=_ROOM)
        assert time.monotonic() - began_s < _PATIENCE_S

    def test_it_takes_a_document_of_exactly_the_bound_and_none_larger(self, stage: SourceStage) -> None:
        assert _document(stage.source, max_bytes=len(self.DOCUMENT)) == self.DOCUMENT
        assert _failure(stage.source, max_bytes=len(self.DOCUMENT) - 1).reason == "too_large"

    def test_it_may_be_closed_twice_and_used_again(self, stage: SourceStage) -> None:
        _fetch(stage.source)
        stage.source.close()
        stage.source.close()
        assert _document(stage.source) == self.DOCUMENT

    def test_it_works_after_the_fork_hook(self, stage: SourceStage) -> None:
        _fetch(stage.source)
        stage.source.after_fork()
        assert _document(stage.source) == self.DOCUMENT


def _fetch(source: Source, validator: str | None = None, *, max_bytes: int = _ROOM) -> Fetched | NotModified:
    return source.fetch(validator, deadline_s=_DEADLINE_S, max_bytes=max_bytes)


def _fetched(source: Source, validator: str | None = None, *, max_bytes: int = _ROOM) -> Fetched:
    answer = _fetch(source, validator, max_bytes=max_bytes)
    assert isinstance(answer, Fetched), f"got {answer!r}; expected the document"
    return answer


def _document(source: Source, validator: str | None = None, *, max_bytes: int = _ROOM) -> bytes:
    return _fetched(source, validator, max_bytes=max_bytes).data


def _failure(source: Source, *, max_bytes: int = _ROOM) -> FetchError:
    with pytest.raises(FetchError) as raised:
        _fetch(source, max_bytes=max_bytes)
    return raised.value


def _changing(stage: SourceStage) -> Callable[[bytes | None], object]:
    if stage.serve is None:
        pytest.skip("the source's document cannot change")
    return stage.serve


def _shows_no_secret(stage: SourceStage, text: str) -> None:
    assert not any(secret in text for secret in stage.secrets), "a secret is shown"
