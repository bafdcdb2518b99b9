"""A real Unleash server with a PostgreSQL of its own, and Unleash's own client for Node, on loopback.

Node packages come from the folder that FLAGKIT_UNLEASH_MODULES names, or are installed by npm. Whatever is missing
skips the test, which says what.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

PACKAGES = ("unleash-server@7.5.1", "unleash-client@6")
ADMIN, CLIENT = "*:*.flagkit-admin", "default:development.flagkit-client"
PROJECT = "/api/admin/projects/default/features"
#: Strategies that a new server does not know any more, but old features still have.
OLD = ("userWithId", "gradualRolloutUserId", "gradualRolloutSessionId", "gradualRolloutRandom")
_START_S, _INSTALL_S = 60.0, 300.0
_ASK = """
const { initialize } = require('unleash-client');
let text = '';
process.stdin.on('data', (piece) => { text += piece; });
process.stdin.on('end', () => {
  const { url, token, flags, contexts } = JSON.parse(text);
  const client = initialize({ url, appName: 'node', customHeaders: { Authorization: token }, disableMetrics: true });
  client.on('error', (error) => { console.error(error); process.exit(1); });
  client.on('synchronized', () => {
    const answers = {};
    for (const flag of flags) {
      answers[flag] = contexts.map((each) => [client.isEnabled(flag, each), client.getVariant(flag, each).name]);
    }
    process.stdout.write(JSON.stringify(answers), () => process.exit(0));
  });
});
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def until(fulfilled: Callable[[], Any], timeout_s: float, every_s: float = 0.05) -> Any:
    """What ``fulfilled`` answers once that is true. Fails after ``timeout_s``."""
    stop_s = time.monotonic() + timeout_s
    while True:
        found = fulfilled()
        if found:
            return found
        assert time.monotonic() < stop_s, "waited in vain"
        time.sleep(every_s)


def node_modules(directory: Path) -> Path:
    """A folder whose ``node_modules`` has the packages. Skips the test when there can be none."""
    if shutil.which("node") is None:
        pytest.skip("needs node")
    given = os.environ.get("FLAGKIT_UNLEASH_MODULES")
    if given:
        return Path(given)
    if shutil.which("npm") is None:
        pytest.skip("needs npm, or FLAGKIT_UNLEASH_MODULES")
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(directory), *PACKAGES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not install the server in time")
    if done.returncode:
        pytest.skip(f"npm could not install the server: {done.stderr[-200:]}")
    return directory


@contextmanager
def postgres() -> Iterator[int]:
    """The port of a PostgreSQL with a database ``unleash``. Skips the test without its programs."""
    found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if found is None:
        pytest.skip("needs postgresql (initdb)")
    programs = Path(os.path.realpath(found)).parent
    directory = tempfile.mkdtemp(prefix="flagkit-postgres-")
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:  # which PostgreSQL refuses
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            shutil.rmtree(directory)
            pytest.skip("needs a user called postgres, when run as root")
        os.chown(directory, user.pw_uid, user.pw_gid)
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    port, data = free_port(), f"{directory}/data"
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": directory, **identity}
    server = None
    try:
        made = [str(programs / "initdb"), "-D", data, "-U", "unleash", "-A", "trust", "-N"]
        subprocess.run(made, check=True, timeout=_START_S, **quiet)
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", f"port={port}")
        options = [word for setting in settings for word in ("-c", setting)]
        server = subprocess.Popen([str(programs / "postgres"), "-D", data, *options], **quiet)
        create = [str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "unleash", "unleash"]
        until(lambda: subprocess.run(create, timeout=_START_S, **quiet).returncode == 0, _START_S, 0.2)
        yield port
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)
            server.wait(30)
        shutil.rmtree(directory, ignore_errors=True)


class Unleash:
    """The server as a process, and its admin API."""

    def __init__(self, modules: Path, database: int) -> None:
        self.modules = modules
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {
            "PATH": os.environ["PATH"],
            "NODE_ENV": "production",
            "DATABASE_HOST": "127.0.0.1",
            "DATABASE_PORT": str(database),
            "DATABASE_NAME": "unleash",
            "DATABASE_USERNAME": "unleash",
            "DATABASE_PASSWORD": "unleash",
            "DATABASE_SSL": "false",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(self.port),
            "CHECK_VERSION": "false",
            "SEND_TELEMETRY": "false",
            "SCARF_ANALYTICS": "false",
            "LOG_LEVEL": "fatal",
            "INIT_ADMIN_API_TOKENS": ADMIN,
            "INIT_CLIENT_API_TOKENS": CLIENT,
            "INIT_BACKEND_API_TOKENS": CLIENT,
            "UNLEASH_EXPERIMENTAL_ENABLE_LEGACY_VARIANTS": "true",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = self.modules / "node_modules/unleash-server/dist/server.js"
        self._process = subprocess.Popen(
            ["node", str(program)], env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._healthy, _START_S, 0.1)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _healthy(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=2).ok
        except requests.RequestException:
            return False

    def ask(self, method: str, path: str, body: Any = None, *, refused: tuple[int, ...] = ()) -> Any:
        headers = {"Authorization": ADMIN}
        reply = requests.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=20)
        assert reply.ok or reply.status_code in refused, (path, reply.status_code, reply.text[:500])
        return reply.json() if reply.content and "json" in reply.headers.get("content-type", "") else None

    def add_old_strategies(self) -> None:
        for name in OLD:
            body = {"name": name, "description": "", "parameters": []}
            self.ask("POST", "/api/admin/strategies", body, refused=(409,))

    def add(self, name: str, *strategies: dict[str, Any], variants: Any = None, parent: Any = None) -> None:
        """A feature that is on in the environment ``development``."""
        self.ask("POST", PROJECT, {"name": name, "type": "release"})
        at = f"{PROJECT}/{name}"
        for strategy in strategies:
            self.ask("POST", f"{at}/environments/development/strategies", strategy)
        if variants is not None:
            self.ask("PUT", f"{at}/environments/development/variants", variants)
        if parent is not None:
            self.ask("POST", f"{at}/dependencies", parent)
        self.turn(name, "on")

    def turn(self, name: str, state: str) -> None:
        self.ask("POST", f"{PROJECT}/{name}/environments/development/{state}")

    def features(self) -> dict[str, Any]:
        headers = {"Authorization": CLIENT, "Unleash-Client-Spec": "6.1.0"}
        reply = requests.get(f"{self.url}/api/client/features", headers=headers, timeout=20)
        return {each["name"]: each for each in reply.json()["features"]}

    def counted(self, name: str, app: str) -> dict[str, Any]:
        """What the server has stored of calls to a feature."""
        found = self.ask("GET", f"/api/admin/client-metrics/features/{name}/raw")
        total: dict[str, Any] = {"yes": 0, "no": 0, "variants": {}}
        for each in found["data"]:
            if each["appName"] == app:
                total["yes"] += each["yes"]
                total["no"] += each["no"]
                for variant, number in (each.get("variants") or {}).items():
                    total["variants"][variant] = total["variants"].get(variant, 0) + number
        return total

    def node(self, flags: list[str], contexts: list[dict[str, Any]]) -> dict[str, list[list[Any]]]:
        """What Unleash's client for Node answers: for each feature and context, isEnabled and getVariant's name."""
        asked = {"url": f"{self.url}/api/", "token": CLIENT, "flags": flags, "contexts": contexts}
        environment = {"PATH": os.environ["PATH"], "NODE_PATH": str(self.modules / "node_modules")}
        done = subprocess.run(
            ["node", "-e", _ASK], input=json.dumps(asked), env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
        answers: dict[str, list[list[Any]]] = json.loads(done.stdout)
        return answers


@contextmanager
def unleash(directory: Path) -> Iterator[Unleash]:
    modules = node_modules(directory)
    with postgres() as database:
        server = Unleash(modules, database)
        try:
            server.start()
            yield server
        finally:
            server.stop()
