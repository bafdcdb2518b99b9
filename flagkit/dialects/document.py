"""A JSON document read strictly and entry by entry, so that a large one is never in one C call or in memory twice.

Objects named as sections are walked member by member, and lists element by element; one whose text was read before is
handed back as what it became then, without decoding (of members, one a line makes that a dictionary lookup). Strict:
no duplicate keys, no NaN or infinity. Knows JSON only; dialects give it meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from typing import Any, Final, NamedTuple

from flagkit.errors import DefinitionsError, Problem

_WHITE: Final = frozenset(" \t\n\r")
_OPENINGS: Final = frozenset("{[")
_BLANK: Final = re.compile(r"[ \t\n\r]*").match
#: A key without escapes, with its colon; a comma that a key follows. What else JSON allows takes the longer way.
_PLAIN_KEY: Final = re.compile(r'"([A-Za-z0-9._-]+)":[ ]?(?![ \t\n\r])').match
_FOLLOWING: Final = re.compile(r',[ \t\n\r]*(?=")').match
_BOM: Final = b"\xef\xbb\xbf"
#: A list or an object of more characters is read piece by piece.
_PIECE: Final = 4096


class Entry(NamedTuple):
    """A member of the document (``section`` None) or of one of its sections; an element of a list has no key.

    known: what this very text became last time; then ``key`` and ``value`` are not read. flaws: what is wrong with the
    JSON inside, such as a duplicate key. text: the member as written, key included.
    """

    section: str | None
    key: str
    value: Any
    text: str
    known: Any = None
    flaws: tuple[str, ...] = ()


class Document:
    """``entries()`` reads once, from front to back. Raises DefinitionsError where the text is not JSON."""

    __slots__ = ("_decode", "_flaws", "_known", "_lists", "_text")

    def __init__(
        self, data: bytes, known: Mapping[str, Mapping[str, Any]], *, lists: frozenset[str] = frozenset()
    ) -> None:
        """known: section name -> text -> what it became; its keys are the sections to walk.

        lists: those of them that are lists; what is known of one are objects, in the order they stood in.
        """
        self._lists = lists
        try:
            self._text = (data[3:] if data[:3] == _BOM else data).decode()
        except UnicodeDecodeError as error:
            raise _unreadable(f"not UTF-8 at byte {error.start}") from None
        self._known = known
        self._flaws: list[str] = []
        decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_float=self._float, parse_constant=self._constant
        )
        self._decode: Callable[[str, int], tuple[Any, int]] = decoder.scan_once  # type: ignore[attr-defined]

    def entries(self) -> Iterator[Entry]:
        try:
            yield from self._document()
        except JSONDecodeError as error:
            what = error.msg.removesuffix(" at")
            raise _unreadable(f"not JSON: {what} at line {error.lineno}, column {error.colno}") from None
        except RecursionError:
            raise _unreadable("nested too deeply") from None
        except ValueError:  # an integer of thousands of digits
            raise _unreadable("not JSON that can be read: a number is too long") from None

    def _document(self) -> Iterator[Entry]:
        at = self._expect("{", 0, "a JSON object")
        while True:
            start = at
            key, at, last = self._key(at)
            if last:
                break
            if key in self._lists and self._text[at : at + 1] == "[":
                at = yield from self._elements(key, at + 1)
                yield Entry(None, key, [], "", flaws=self._take_flaws())
            elif key in self._known and key not in self._lists and self._text[at : at + 1] == "{":
                at = yield from self._section(key, at + 1)
                yield Entry(None, key, {}, "", flaws=self._take_flaws())
            else:
                value, at = self._value(at)
                yield Entry(None, key, value, self._text[start:at], flaws=self._take_flaws())
            at = self._next(at)
        if _end(self._text, at) != len(self._text):
            raise JSONDecodeError("more text after the document", self._text, at)

    def _section(self, section: str, at: int) -> Generator[Entry, None, int]:
        """Walk the members of the object that opens just before ``at``; return the position behind it."""
        text, known = self._text, self._known[section]
        at = _end(text, at)
        line_end = at - 1
        while True:
            if known and at > line_end:  # the start of a line, which is looked up once
                line_end = text.find("\n", at)
                if line_end < 0:
                    line_end = len(text)
                found = known.get(text[at : line_end - 1]) if text[line_end - 1] == "," else None
                if found is not None:
                    yield Entry(section, "", None, "", found)
                    at = line_end + 1
                    if text[at : at + 1] != '"':
                        at = _end(text, at)
                    if text[at : at + 1] != '"':
                        raise JSONDecodeError("a comma with nothing after it", text, at)
                    continue
            start = at
            plain = _PLAIN_KEY(text, at)
            if plain:  # nearly always, and a third faster
                key, at = plain[1], plain.end()
            else:
                key, at, last = self._key(at)
                if last:
                    return at
            value, at = self._value(at)
            entry = text[start:at]
            yield Entry(section, key, value, entry, known.get(entry), self._take_flaws() if self._flaws else ())
            following = _FOLLOWING(text, at)
            at = following.end() if following else self._next(at)

    def _elements(self, section: str, at: int) -> Generator[Entry, None, int]:
        """Walk the elements of the list that opens just before ``at``; return the position behind it."""
        text, known = self._text, self._known[section]
        order, places = list(known), {element: place for place, element in enumerate(known)}
        place = 0
        at = _end(text, at)
        if text[at : at + 1] == "]":
            return at + 1
        while True:
            # Nearly always what followed last time. An object that begins the same ends at the same brace.
            guess = order[place] if place < len(order) else ""
            place += 1
            if guess and text.startswith(guess, at):
                at += len(guess)
                yield Entry(section, "", None, "", known[guess])
            else:
                start = at
                value, at = self._value(at)
                element = text[start:at]
                place = places.get(element, place - 1) + 1
                yield Entry(section, "", value, element, known.get(element), self._take_flaws())
            at = _end(text, at)
            if text[at : at + 1] == "]":
                return at + 1
            at = self._expect(",", at, "a comma or a closing bracket")

    def _key(self, at: int) -> tuple[str, int, bool]:
        """The key at ``at`` and where its value starts; or, at the object's end, True and where it ends."""
        text = self._text
        if text[at : at + 1] == "}":
            return "", at + 1, True
        if text[at : at + 1] != '"':
            raise JSONDecodeError("a key in double quotes expected", text, at)
        key, at = scanstring(text, at + 1, True)
        at = self._expect(":", _end(text, at), "a colon")
        return key, at, False

    def _value(self, at: int) -> tuple[Any, int]:
        text = self._text
        opening = text[at : at + 1]
        if opening in _OPENINGS and len(text) - at > _PIECE:
            flaws = len(self._flaws)
            try:
                value, size = self._decode(text[at : at + _PIECE], 0)
            except (ValueError, StopIteration):  # it goes on behind this piece, or is not JSON
                del self._flaws[flaws:]
                return self._members(at + 1) if opening == "{" else self._items(at + 1)
            return value, at + size
        try:
            return self._decode(text, at)
        except StopIteration as error:
            raise JSONDecodeError("a value expected", text, error.value) from None

    def _members(self, at: int) -> tuple[dict[str, Any], int]:
        """A large object, whose first member stands at ``at``: others have their turns in between."""
        members: dict[str, Any] = {}
        at = _end(self._text, at)
        while True:
            key, at, last = self._key(at)
            if last:
                return members, at
            if key in members:
                self._flaws.append(_twice(key))
            members[key], at = self._value(at)
            at = self._next(at)

    def _items(self, at: int) -> tuple[list[Any], int]:
        """A large list, likewise."""
        text = self._text
        items: list[Any] = []
        at = _end(text, at)
        if text[at : at + 1] == "]":
            return items, at + 1
        while True:
            item, at = self._value(at)
            items.append(item)
            at = _end(text, at)
            if text[at : at + 1] == "]":
                return items, at + 1
            at = self._expect(",", at, "a comma or a closing bracket")

    def _next(self, at: int) -> int:
        """Behind the comma that follows, or at the closing brace."""
        text = self._text
        at = _end(text, at)
        if text[at : at + 1] == "}":
            return at
        at = self._expect(",", at, "a comma or a closing brace")
        if text[at : at + 1] != '"':
            raise JSONDecodeError("a key in double quotes expected", text, at)
        return at

    def _expect(self, char: str, at: int, name: str) -> int:
        at = _end(self._text, at)
        if self._text[at : at + 1] != char:
            raise JSONDecodeError(f"{name} expected", self._text, at)
        return _end(self._text, at + 1)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            keys = [key for key, _ in pairs]
            self._flaws += [_twice(key) for key in members if keys.count(key) > 1]
        return members

    def _float(self, digits: str) -> float:
        number = float(digits)
        if number in (float("inf"), float("-inf")):
            self._flaws.append(f"the number {digits[:32]} is too large")
        return number

    def _constant(self, name: str) -> None:
        self._flaws.append(f"{name} is not JSON")

    def _take_flaws(self) -> tuple[str, ...]:
        if not self._flaws:
            return ()
        flaws = tuple(self._flaws)
        self._flaws.clear()
        return flaws


def _end(text: str, at: int) -> int:
    """The position of the first character from ``at`` that is no white space."""
    if text[at : at + 1] not in _WHITE:  # nearly always, and five times faster than asking the pattern
        return at
    return _BLANK(text, at).end()  # type: ignore[union-attr]


def _twice(key: str) -> str:
    return f"the key {json.dumps(key)} stands twice"


def _unreadable(message: str) -> DefinitionsError:
    return DefinitionsError((Problem("$", message),))
