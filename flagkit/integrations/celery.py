"""The scope of who sends a Celery task, in the worker that runs it (extra ``celery``).

    flagkit.integrations.celery.install()        # in the module of the application that both sides import

The context and the signed override travel in a header of the message; the override is verified again by the worker, and
may have expired by then. Pinned answers stay behind: a worker goes by the definitions it has. Celery's signals are one
set a process, so this serves all its applications.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import Any, Final

from celery.signals import before_task_publish, task_postrun, task_prerun

from flagkit.boundary import contained
from flagkit.client import Client
from flagkit.context import Context, current_scope
from flagkit.errors import ConfigError
from flagkit.integrations.visit import ContextOf, Door

__all__ = ["install"]

#: The name of the header.
NAME: Final = "flagkit"
#: Characters of the header's value; of a context beyond it the unit travels alone.
MAX_HEADER: Final = 16_384
_OPEN: Final = "_flagkit_open"
_UID: Final = "flagkit"


def install(
    client: Client | None = None,
    *,
    context: ContextOf[Any] | None = None,
    attributes: Collection[str] | None = None,
) -> None:
    """From now on carry scopes to workers, and open them there. Again: these arguments replace the ones before.

    Args:
        client: None for the default client of the moment.
        context: Celery's ``task.request`` -> a ``Context``, a unit, a mapping with ``unit`` or None for nobody: who
            asks in tasks whose sender had no scope, such as periodic ones. If it raises, answers are defaults.
        attributes: the names of the attributes that travel; None: all. Messages are seen by whoever runs the broker.

    Raises: ConfigError naming the argument. Later nothing of its own.
    """
    if attributes is not None and (
        isinstance(attributes, str) or not all(isinstance(name, str) for name in attributes)
    ):
        raise ConfigError("attributes", attributes, "None, or the names of attributes")
    _Carrier(
        Door(_nobody if context is None else context, client), None if attributes is None else frozenset(attributes)
    ).connect()


def _nobody(_: Any) -> None:
    return None


class _Carrier:
    """Between a task's sender and its worker. Celery keeps it, by its bound methods."""

    def __init__(self, door: Door, attributes: frozenset[str] | None) -> None:
        self._door = door
        self._attributes = attributes

    def connect(self) -> None:
        for signal, receiver in (
            (before_task_publish, self.publish),
            (task_prerun, self.open),
            (task_postrun, self.close),
        ):
            signal.disconnect(dispatch_uid=_UID)
            signal.connect(receiver, weak=False, dispatch_uid=_UID)

    def publish(self, headers: Any = None, **_: Any) -> None:
        """A message is about to be sent."""
        scope = current_scope()
        if scope is not None and scope.context is not None and isinstance(headers, dict):
            told = contained(_written, scope.context, scope.token, self._attributes, otherwise=None)
            if told is not None:
                headers[NAME] = told

    def open(self, task: Any = None, **_: Any) -> None:
        """A task is about to run."""
        if task is None or task.request.is_eager:  # it runs where it was called, in the scope of there
            return
        told = task.request.get(NAME)
        stack = ExitStack()
        if isinstance(told, str) and len(told) <= MAX_HEADER:
            nobody: tuple[Context, str | None] = (Context(None), None)
            context, token = contained(_read, told, otherwise=nobody)
            stack.enter_context(self._door.client.scope(context, override=token))
        else:
            stack.enter_context(self._door.scope(task.request, None))
        setattr(task.request, _OPEN, stack)

    def close(self, task: Any = None, **_: Any) -> None:
        """It has ended, however."""
        stack = getattr(getattr(task, "request", None), _OPEN, None)
        if stack is not None:
            contained(stack.close, otherwise=None)


def _written(context: Context, token: str | None, names: frozenset[str] | None) -> str:
    """The header for a scope. Raises: whatever a hostile context does."""
    text = json.dumps({"context": _fields(context, names), "override": token})
    if len(text) > MAX_HEADER:
        text = json.dumps({"context": _fields(context, frozenset()), "override": token})
    return text


def _fields(context: Context, names: frozenset[str] | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"synthetic": context.synthetic}
    if context._key is not None:
        fields["unit"] = context.unit_text
    fields["attributes"] = {
        name: value
        for name, value in context.attributes.items()
        if (names is None or name in names) and contained(json.dumps, value, otherwise=None) is not None
    }
    fields["enrolments"] = context.enrolments and dict(context.enrolments)
    return fields


def _read(text: str) -> tuple[Context, str | None]:
    """The context and the token of a header. Raises: whatever is wrong with it."""
    said: Mapping[str, Any] = json.loads(text)
    fields, token = said["context"], said["override"]
    unit = {"unit": fields["unit"]} if "unit" in fields else {}  # left out is not None: a context without a unit
    attributes, enrolments, synthetic = dict(fields["attributes"]), fields["enrolments"], fields["synthetic"] is True
    return Context(**unit, attributes=attributes, enrolments=enrolments, synthetic=synthetic), token
