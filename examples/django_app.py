"""A Django project in one file, with a scope per request, in which one developer tries the new checkout.

Run: python examples/django_app.py                       it serves under gunicorn and under uvicorn, and gets visits
     gunicorn --chdir examples django_app:wsgi           it serves until it is stopped
Needs the extras `django` and `overrides`, gunicorn and uvicorn.
"""

from __future__ import annotations

import os
import secrets

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

import flagkit

client = flagkit.configure(
    source=flagkit.sources.Static(
        {"schema": 1, "environment": "production", "flags": {"new-checkout": {"overridable": True}}}
    )
)
if keys := os.environ.get("FLAGKIT_OVERRIDE_KEYS"):
    client.allow_overrides(keys)


def context_of(request: HttpRequest) -> flagkit.Context:
    user = request.headers.get("X-User")  # a project of yours asks request.user
    attributes = {"country": request.headers.get("X-Country", "SE")}
    return flagkit.Context(attributes=attributes) if user is None else flagkit.Context(user, attributes)


def checkout(_: HttpRequest) -> HttpResponse:
    return HttpResponse("the new checkout" if flagkit.enabled("new-checkout") else "the old checkout")


settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1"],
    SECRET_KEY=secrets.token_urlsafe(32),
    MIDDLEWARE=["flagkit.integrations.django.FlagsMiddleware"],  # behind what finds the user
    FLAGKIT={"context": context_of},
)
django.setup()
urlpatterns = [path("", checkout)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()


def main() -> None:
    from visits import running, visit

    command = ("-m", "gunicorn", "--threads", "4", "--bind", "127.0.0.1:0", "django_app:wsgi")
    with running(*command, said=r"Listening at: (http://\S+)") as url:
        print("under gunicorn:")
        visit(url)
    command = ("-m", "uvicorn", "--port", "0", "--lifespan", "off", "django_app:asgi")
    with running(*command, said=r"running on (http://\S+)") as url:
        print("under uvicorn:")
        visit(url)


if __name__ == "__main__":
    main()
