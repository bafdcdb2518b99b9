"""What the examples of frameworks share: a server of an application, and a few visits to it. Nothing to run by itself.

The key that signs overrides is made here, and given to the server in its environment, as in production.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from flagkit.integrations.overrides import sign

HERE = Path(__file__).parent
KEYS = f"example:{secrets.token_urlsafe(32)}"


@contextmanager
def running(*command: str, said: str, **environment: str) -> Iterator[str]:
    """A program, from when it says ``said``, of which group 1 is the result, until the end of the block."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"FLAGKIT_OVERRIDE_KEYS": KEYS, "PYTHONPATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if found := re.search(said, line):
                break
        else:
            raise RuntimeError("".join(lines))
        # Whatever else it says is read, so that it never waits for us.
        rest = threading.Thread(target=process.stdout.read)
        rest.start()
        yield found[1]
    finally:
        process.terminate()
        process.wait(30)
    rest.join()
    process.stdout.close()


def override(unit: str) -> str:
    """What ``flagkit override sign`` prints for this unit."""
    return sign(KEYS, {"new-checkout": "on"}, environment="production", unit=unit).token


def visit(url: str) -> None:
    """Ann without an override, with one, and without again; and Bo, with Ann's."""
    token = override("ann")
    for user, header in (("ann", None), ("ann", token), ("ann", None), ("bo", token)):
        headers = {"X-User": user} | ({"Flagkit-Override": header} if header else {})
        response = requests.get(url, headers=headers, timeout=10)
        response.raise_for_status()
        shown = "with ann's override" if header else "without an override"
        print(f"{user} {shown}: {response.text} ({response.headers.get('Cache-Control', 'may be cached')})")
