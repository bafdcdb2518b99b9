"""flagkit's adapter for the side-by-side benchmark of flag SDKs; docs/benchmark.md says how to run it."""

from __future__ import annotations

from typing import Any, ClassVar

from adapters.base import Adapter, dumps  # the benchmark's own modules
from common import COUNTRIES, VARIANTS


class A(Adapter):
    name = "flagkit"
    dists: tuple[str, ...] = ("flagkit",)
    import_stmt = "import flagkit"
    call = "client.enabled(key, context)"
    notes: ClassVar[dict[str, str]] = {
        "+ctx": "the context is a plain dict with `unit`, as most applications have it; the other rows use a Context.",
        "W4": "decide() and both of what an application reads: the variant and a fresh copy of the payload.",
        "W7": "the whole delivery runs: exposures are batched, encoded and handed to a sink that counts them.",
    }

    def definitions(self, flags: Any, segment_ids: list[str]) -> str:
        lines = ",\n".join(f'"{flag.key}":{dumps(_definition(flag.kind))}' for flag in flags)
        segments = f'"members":{dumps({"units": segment_ids})}'
        return f'{{"schema":1,"segments":{{\n{segments}\n}},"flags":{{\n{lines}\n}}}}'

    def load(self, text: str, events: bool = False) -> dict[str, Any]:
        import flagkit

        if not events:
            client = flagkit.Client(source=flagkit.sources.Static(text), sink=None)
            return {"client": client, "Context": flagkit.Context}
        sink = _Counter()
        client = flagkit.Client(
            source=flagkit.sources.Static(text),
            sink=sink,
            config=flagkit.Config(max_pending=500_000),
        )
        client.start()
        return {"client": client, "Context": flagkit.Context, "_sink": sink}

    def ctx_stmt(self) -> str:
        return (
            'c = Context(uid, {"email": email, "country": country, "plan": plan, "app_version": version, "age": age})'
        )

    def ctx_eval_stmt(self, kind: str, key: str) -> str:
        mapping = (
            'c = {"unit": uid, "email": email, "country": country, "plan": plan, "app_version": version, "age": age}'
        )
        return f"{mapping}\n{self.eval_stmt(kind, key)}"

    def eval_stmt(self, kind: str, key: str, events: bool = False) -> str:
        if kind == "multivariate":
            return f'd = client.decide("{key}", c)\nr = (d.variant, d.value)'
        return f'r = client.enabled("{key}", c)'

    def all_stmt(self, flags: Any) -> str:
        return "r = client.decide_all(c)"

    def all_on(self, r: Any) -> tuple[int, int]:
        return len(r), sum(decision.enabled for decision in r.values())

    def drain(self, ns: dict[str, Any]) -> None:
        left = ns["client"].flush(30)
        lost = ns["client"].status.account.lost
        if left or lost:
            raise RuntimeError(f"{left} events left, lost: {lost}")

    def recorded(self, ns: dict[str, Any]) -> int:
        return ns["_sink"].count

    def close(self, ns: dict[str, Any]) -> None:
        ns["client"].close()


class _Counter:
    """A collector that takes everything: what it gets is encoded and sealed, and counted."""

    name = "counter"

    def __init__(self) -> None:
        from flagkit.events import Delivered

        self.count = 0
        self._delivered = Delivered()

    def send(self, batch: Any, *, deadline_s: float) -> Any:
        self.count += len(batch.events)
        return self._delivered

    def close(self) -> None: ...

    def after_fork(self) -> None: ...


def _definition(kind: str) -> dict[str, Any]:
    if kind == "rollout":
        return {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]}
    if kind == "targeting":
        conditions = [
            {"attribute": "country", "op": "in", "values": COUNTRIES},
            {"attribute": "plan", "op": "in", "values": ["pro"]},
            {"attribute": "email", "op": "ends_with", "values": ["@example.com"]},
            {"attribute": "app_version", "op": "semver_greater_or_equal", "values": ["2.3.0"]},
        ]
        return {"rules": [{"when": conditions, "rollout": {"percent": 25}, "serve": "on"}]}
    if kind == "multivariate":
        split = [{"variant": name, "weight": weight} for name, weight, _ in VARIANTS]
        variants = {name: payload for name, _, payload in VARIANTS}
        return {"variants": variants, "off": VARIANTS[0][0], "rules": [{"split": split}]}
    if kind == "segment":
        return {"rules": [{"when": [{"segment": "members"}], "serve": "on"}]}
    return {"default": "on"}
