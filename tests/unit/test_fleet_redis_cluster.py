"""A fleet through a Redis Cluster of six processes on loopback: keys on all masters, moves, and a master that dies."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from redises import RedisServer, needs_redis, redis_cluster, until_caught_up
from test_fleet_redis import LIMIT, LONG_S, TRIAL, Process, keys
from test_redis import conversing

from flagkit.errors import FetchError
from flagkit.fleets import Trial

pytestmark = needs_redis
TRIALS = [TRIAL._replace(flag=f"flag-{number}") for number in range(12)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        until_settled(servers)
        yield servers


def until_settled(servers: list[RedisServer]) -> None:
    """Until every node says that all slots are served."""
    import redis

    ends_s = time.monotonic() + 30
    for server in servers:
        with redis.Redis(port=server.port) as client:
            while client.cluster("INFO")["cluster_state"] != "ok":
                assert time.monotonic() < ends_s
                time.sleep(0.05)


def total_of(process: Process, *trials: Trial, counted: int) -> set[int]:
    return set(process.exchange(*((trial, counted) for trial in trials)).values())


def patient(process: Process, counted: int) -> set[int]:
    """What it hears once the cluster has settled; the failures until then are few and short."""
    ends_s = time.monotonic() + 30
    while True:
        try:
            return total_of(process, *TRIALS, counted=counted)
        except FetchError as error:
            if error.lasting or time.monotonic() > ends_s:
                raise
            time.sleep(0.1)


@pytest.mark.full
def test_trials_live_on_all_masters_and_each_node_is_asked_directly(cluster: list[RedisServer]) -> None:
    with Process(cluster[0].url, 1) as one, Process(cluster[4].url, 2) as two:
        assert total_of(one, *TRIALS, counted=1) == {1}
        assert total_of(two, *TRIALS, counted=0) == {1}, "whichever node it was told of"
        assert len(one.fleet._nodes._idle) == 3
        moved = moves(cluster)
        assert total_of(one, *TRIALS, counted=1) == {2}
        assert moves(cluster) == moved, "it knows who has what"


def moves(cluster: list[RedisServer]) -> int:
    import redis

    count = 0
    for server in cluster:
        with redis.Redis(port=server.port) as client:
            count += sum(map(int, re.findall(r"\d+", str(client.info("errorstats").get("errorstat_MOVED")))))
    return count


@pytest.mark.full
def test_a_slot_on_its_way_is_a_failure_and_then_found_where_it_went(cluster: list[RedisServer]) -> None:
    import redis
    from redis.crc import key_slot

    trial = TRIAL._replace(flag="travels")
    slot = key_slot(b"{production:travels}")
    with ExitStack() as opened:
        process = opened.enter_context(Process(cluster[0].url, 3))
        clients = [opened.enter_context(redis.Redis(port=server.port)) for server in cluster]
        process.exchange((trial, 1))
        ids = [client.cluster("MYID").decode() for client in clients]
        home = next(index for index in range(3) if clients[index].cluster("COUNTKEYSINSLOT", slot))
        away = (home + 1) % 3
        clients[away].cluster("SETSLOT", slot, "IMPORTING", ids[home])
        clients[home].cluster("SETSLOT", slot, "MIGRATING", ids[away])
        keys = clients[home].cluster("GETKEYSINSLOT", slot, 10)
        clients[home].execute_command("MIGRATE", "127.0.0.1", cluster[away].port, "", 0, 5000, "KEYS", *keys)
        assert process.fails((trial, 2)).reason == "unsettled"
        for client in (clients[away], clients[home]):
            client.cluster("SETSLOT", slot, "NODE", ids[away])
        assert process.exchange((trial, 4)) == {"travels": 5}


@pytest.mark.full
def test_a_master_that_dies_is_succeeded_by_its_replica_even_if_the_url_names_it(cluster: list[RedisServer]) -> None:
    final = TRIAL._replace(flag="final", revision=9)
    with Process(cluster[0].url, 4) as one, Process(cluster[1].url, 5) as two:
        assert one.exchange((final, LIMIT)) == {"final": LIMIT}
        before = max(total_of(one, *TRIALS, counted=1))
        total_of(two, *TRIALS, counted=0)
        until_caught_up(replica_of(cluster[0], cluster), cluster[0])
        cluster[0].stop()
        for process in (one, two):
            assert min(patient(process, 0)) >= before
        assert two.exchange((final, 0)) == {"final": LIMIT}
    cluster[0].start()


def replica_of(master: RedisServer, cluster: list[RedisServer]) -> RedisServer:
    import redis

    for server in cluster:
        with redis.Redis(port=server.port) as client:
            if client.info("replication").get("master_port") == master.port:
                return server
    raise AssertionError("it has no replica")


# -- without a cluster


def answering(answer: bytes) -> Any:
    """A URL where a node gives one answer to everything; ``{me}`` in it is its port, ``{slot}`` that of the trial."""
    from redis.crc import key_slot

    def respond(sock: Any) -> None:
        said = answer.replace(b"{me}", b"%d" % sock.getsockname()[1]).replace(b"{slot}", b"%d" % key_slot(keys().word))
        while data := sock.recv(65536):
            sock.sendall(said * len(re.findall(rb"\*\d+\r\n", data)))

    return conversing(respond)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"-MOVED 5 10.1.2.3:7000\r\n", "insecure_node"),
        (b"-MOVED {slot} 127.0.0.1:1\r\n", "refused"),
        (b"-MOVED 5 10.1.2.3\r\n", "bad_response"),
        (b"-MOVED five\r\n", "bad_response"),
        (b"-MOVED 5 127.0.0.1:x\r\n", "bad_response"),
        (b"-MOVED {slot} 127.0.0.1:{me}\r\n", "unsettled"),
        (b"-MOVED 5 :{me}\r\n", "unsettled"),
        (b"-ASK 5 127.0.0.1:7000\r\n", "unsettled"),
        (b"-CLUSTERDOWN Hash slot not served\r\n", "unsettled"),
        (b"-TRYAGAIN later\r\n", "unsettled"),
        (b"*x\r\n", "bad_response"),
        (b"*1\r\n" * 2000, "bad_response"),
        (b"-ERR unknown command\r\n", "refused_command"),
        (b"-NOPERM no\r\n", "auth"),
    ],
)
def test_what_a_node_says_instead_of_an_answer_is_a_failure(answer: bytes, reason: str) -> None:
    with answering(answer) as url:
        assert Process(url).fails(1, deadline_s=LONG_S).reason == reason


def test_nodes_that_are_remembered_are_bounded() -> None:
    process = Process("redis://127.0.0.1:1", 1)
    nodes = process.fleet._nodes
    from redis.exceptions import ResponseError

    for port in range(1, 100):
        assert nodes._moved(nodes._wire.address, [ResponseError(f"MOVED {port} 127.0.0.1:{port}")])
    assert [address.port for address in nodes._known] == list(range(84, 100))
