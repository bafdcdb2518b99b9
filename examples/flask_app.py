"""A Flask application with a scope per request, in which one developer tries the new checkout by a signed override.

Run: python examples/flask_app.py                        it serves under gunicorn, and gets a few visits
     gunicorn --chdir examples flask_app:app             it serves until it is stopped
Needs the extras `flask` and `overrides`, and gunicorn.
"""

from __future__ import annotations

import os

from flask import Flask, Request

import flagkit
from flagkit.integrations.flask import Flags

client = flagkit.configure(
    source=flagkit.sources.Static(
        {"schema": 1, "environment": "production", "flags": {"new-checkout": {"overridable": True}}}
    )
)
if keys := os.environ.get("FLAGKIT_OVERRIDE_KEYS"):
    client.allow_overrides(keys)


def context_of(request: Request) -> flagkit.Context:
    user = request.headers.get("X-User")  # an application of yours asks its session
    attributes = {"country": request.headers.get("X-Country", "SE")}
    return flagkit.Context(attributes=attributes) if user is None else flagkit.Context(user, attributes)


app = Flask(__name__)
Flags(app, context=context_of)


@app.get("/")
def checkout() -> str:
    return "the new checkout" if flagkit.enabled("new-checkout") else "the old checkout"


def main() -> None:
    from visits import running, visit

    command = ("-m", "gunicorn", "--threads", "4", "--bind", "127.0.0.1:0", "flask_app:app")
    with running(*command, said=r"Listening at: (http://\S+)") as url:
        print("under gunicorn:")
        visit(url)


if __name__ == "__main__":
    main()
