"""A script that runs and ends: the events it recorded are sent while the interpreter exits.

Run: python examples/cron_job.py
With FLAGKIT_URL and FLAGKIT_KEY (a write key) set, events go to that service, else to the log.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import flagkit

DEFINITIONS = Path(__file__).with_name("cron_job.json")
ACCOUNTS = ["acme", "globex", "initech", "umbrella", "hooli"]


def sink() -> flagkit.sinks.Sink:
    url = os.environ.get("FLAGKIT_URL")
    return flagkit.sinks.Http(url, key=os.environ.get("FLAGKIT_KEY")) if url else flagkit.sinks.Log()


def archive(account: str) -> None:
    with flagkit.scope(account, job="nightly"):
        if not flagkit.enabled("archive-at-all", default=True):
            print(f"{account:10} skipped")
            return
        compressed = flagkit.enabled("compress-archives")
        size = 40 if compressed else 100
        flagkit.track("archived-megabytes", value=size)
        print(f"{account:10} {size:4} MB{' compressed' if compressed else ''}")


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    client = flagkit.configure(source=flagkit.sources.File(DEFINITIONS), sink=sink())
    for account in ACCOUNTS:
        archive(account)
    print(f"done; {client.status.account.pending if client.status.account else 0} events are still to be sent")


if __name__ == "__main__":
    main()
