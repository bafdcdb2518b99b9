"""A Celery worker whose tasks have the scope of who sent them, the signed override of one developer included.

Run: python examples/celery_app.py
It starts a worker with a forked child, with a folder as the broker, and sends it some tasks. An application of yours
sends them while it serves a request, whose scope its framework's middleware has opened.
Needs the extras `celery` and `overrides`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from celery import Celery

import flagkit
from flagkit.integrations import celery as flags_in_celery

FOLDER = Path(os.environ.get("CELERY_FOLDER", tempfile.gettempdir()))

client = flagkit.configure(
    source=flagkit.sources.Static(
        {"schema": 1, "environment": "production", "flags": {"new-checkout": {"overridable": True}}}
    )
)
if keys := os.environ.get("FLAGKIT_OVERRIDE_KEYS"):
    client.allow_overrides(keys)
flags_in_celery.install()

app = Celery("celery_app", broker="filesystem://")


def meet_in(folder: Path) -> None:
    """The broker and the results are in a folder, which does for one machine."""
    app.conf.update(
        broker_transport_options={
            "data_folder_in": str(folder),
            "data_folder_out": str(folder),
            "control_folder": str(folder),
            "polling_interval": 0.05,
        },
        result_backend=f"file://{folder}",
        worker_enable_remote_control=False,
    )


meet_in(FOLDER)


@app.task
def checkout() -> str:
    return "the new checkout" if flagkit.enabled("new-checkout") else "the old checkout"


def main() -> None:
    from visits import KEYS, override, running

    client.allow_overrides(KEYS)
    token = override("ann")
    # With its own name the task is found in the worker, where this file is no longer the main program.
    task = app.signature("celery_app.checkout")
    command = ("-m", "celery", "--app", "celery_app", "worker", "--pool", "prefork", "--concurrency", "1")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO")
    with tempfile.TemporaryDirectory() as folder:
        meet_in(Path(folder))
        with running(*command, *quiet, said=r"(celery@\S+) ready", CELERY_FOLDER=folder):
            for user, shown in (("ann", None), ("ann", token), ("ann", None), ("bo", token)):
                with client.scope(user, override=shown):
                    answer = task.delay().get(timeout=30, interval=0.05)
                said = "with ann's override" if shown else "without an override"
                print(f"{user} {said}: {answer}")


if __name__ == "__main__":
    main()
