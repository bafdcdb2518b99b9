"""Two Celery processes, forked by a worker that has imported the application, that answer what the standard input asks.

Run as a program. Each line in is ``[path, count]``, a task; each line out is an answer. The broker is in memory.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time

from celery import Celery

from tests.faults import app

#: Where answers go: everything else that is printed goes where the log goes.
ANSWERS = os.dup(1)

celery = Celery("faults", broker="memory://")
celery.conf.update(
    broker_transport_options={"polling_interval": 0.02}, task_ignore_result=True, worker_prefetch_multiplier=1
)


@celery.task(name="answer")
def answer(path: str, count: int) -> None:
    time.sleep(0.01)  # long enough for the other process to take the next one
    os.write(ANSWERS, json.dumps(app.answer(path, count)).encode() + b"\n")


def relay() -> None:
    # Not sys.stdin, which every child closes: that would wait for ever for the lock this thread holds while it reads.
    with open(os.dup(0)) as lines:
        for line in lines:
            answer.delay(*json.loads(line))
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    os.dup2(2, 1)
    threading.Thread(target=relay, daemon=True).start()
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    celery.worker_main(["worker", "-P", "prefork", "-c", "2", "-O", "fair", *quiet])
