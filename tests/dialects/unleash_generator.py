"""Random Unleash features and contexts, for what should give the same answers in any client.

Left out is what clients answer by chance, and where they are known to differ (docs/backends/unleash.md).
"""

from __future__ import annotations

from random import Random
from typing import Any

Json = dict[str, Any]
USERS = [*(str(number) for number in range(40)), "användare", "a b", "用户", ""]
#: Field -> its values.
FIELDS: dict[str, list[Any]] = {
    "country": ["SE", "se", "NO", "DK", "Åland", "ÅLAND", "", " SE"],
    "age": ["7", "18", "18.0", "-3", "1e3", ".5", "18.5", "abc", "", "1_000", " 7", 7, 18, 18.5],
    "version": ["1.2.3", "1.2.4", "2.0.0-alpha.1", "2.0.0-alpha.2", "2.0.0-beta", "2.0.0", "1.2", "v1.2.3", "x"],
    "email": ["anna@example.com", "Bo@Example.com", "c@test.org", "no-at", "x\ny@example.com"],
    "address": ["10.0.0.1", "10.1.2.3", "192.168.1.7", "2001:db8::1", "::ffff:10.0.0.1", "nowhere", "1.2.3"],
    "since": ["2026-01-01T00:00:00Z", "2026-06-01T12:00:00.500+02:00", "2025-12-31T23:59:59Z", "yesterday"],
    "sessionId": ["s1", "s2", "s3"],
    "remoteAddress": ["10.0.0.1", "192.168.1.7", "2001:db8::1"],
    "environment": ["dev", "production"],
    "appName": ["shop", "admin"],
    "currentTime": ["2026-01-01T00:00:00Z", "2026-06-01T12:00:00+02:00"],
}
#: What UnleashClient fills in where a context does not say.
_ALWAYS = ("environment", "appName", "currentTime")
_TOP = ("sessionId", "remoteAddress", "environment", "appName", "currentTime")
_DATES = ["2026-01-01T00:00:00Z", "2026-06-01T10:00:00.500Z", "2026-01-01T02:00:00+02:00"]
_PATTERNS = ["@example\\.com$", "^[a-z]+@", "(?i)ANNA", "^x.y", "(?s)^x.y", "[", "(?=a)", "\\d+", "^$"]
_NETWORKS = ["10.0.0.0/8", "10.0.0.1", "192.168.0.0/16", "2001:db8::/32", "bad", "::/0", "0.0.0.0/0", "10.0.0.9/24"]


def context(random: Random) -> Json:
    made: Json = {"properties": {"tenant": random.choice(["t1", "t2", "t3", "t4"])}}
    if random.random() < 0.85:
        made["userId"] = random.choice(USERS)
    for field, values in FIELDS.items():
        if random.random() < 0.75 or field in _ALWAYS or (field == "sessionId" and "userId" not in made):
            (made if field in _TOP else made["properties"])[field] = random.choice(values)
    return made


def constraint(random: Random) -> Json:
    field = random.choice(["country", "age", "version", "email", "address", "since", "userId", *_TOP, "absent"])
    values = [str(value) for value in FIELDS.get(field, USERS)]
    operator, made = _asked(random, field, values)
    made |= {"contextName": field, "operator": operator}
    for option, share in (("inverted", 0.3), ("caseInsensitive", 0.3)):
        if random.random() < share:
            made[option] = True
    return made


def _asked(random: Random, field: str, values: list[str]) -> tuple[str, Json]:
    kind = random.choice({"age": "nnnns", "version": "vvvvs", "address": "cccs", "since": "ddds"}.get(field, "sssri"))
    if field == "currentTime":
        kind = "d"
    if field == "remoteAddress":
        kind = random.choice("cs")
    if kind == "n":
        bound = random.choice(["7", "18", "18.0", "-3", "18.5"])
        return random.choice(["NUM_EQ", "NUM_GT", "NUM_GTE", "NUM_LT", "NUM_LTE"]), {"value": bound}
    if kind == "v":
        bound = random.choice(["1.2.3", "2.0.0-alpha.1", "2.0.0"])
        return f"SEMVER_{random.choice(['EQ', 'GT', 'GTE', 'LT', 'LTE'])}", {"value": bound}
    if kind == "d":
        return random.choice(["DATE_AFTER", "DATE_BEFORE"]), {"value": random.choice(_DATES)}
    if kind == "c":
        return "IN_CIDR", {"values": random.sample(_NETWORKS, random.randint(1, 3))}
    if kind == "r":
        return "REGEX", {"value": random.choice(_PATTERNS)}
    if kind == "i":
        return random.choice(["IN", "NOT_IN"]), {
            "values": random.sample(values, min(len(values), random.randint(0, 4)))
        }
    parts = [value[: random.randint(1, 4)] for value in random.sample(values, min(len(values), 3)) if value]
    operators = ["IN", "NOT_IN", "STR_STARTS_WITH", "STR_ENDS_WITH", "STR_CONTAINS"]
    return random.choice(operators), {"values": parts or ["s"]}


def strategy(random: Random, group: str, *, alone: bool) -> Json:
    name = random.choice(
        ["default"] * 2
        + ["flexibleRollout"] * 5
        + ["userWithId", "gradualRolloutUserId", "gradualRolloutSessionId", "remoteAddress", "unheardOf"]
    )
    percent = str(random.choice([0, 1, 10, 33, 50, 66, 90, 99, 100]))
    parameters: Json = {"groupId": group}
    if name == "flexibleRollout":
        parameters |= {"rollout": percent, "stickiness": random.choice(["default", "userId", "sessionId", "tenant"])}
        if random.random() < 0.1:
            parameters["stickiness"] = "country"
        if random.random() < 0.2:
            del parameters["groupId"]
    elif name.startswith("gradual"):
        parameters["percentage"] = percent
    elif name == "userWithId":
        parameters = {"userIds": random.choice([",", ", "]).join(random.sample(USERS[:-1], 15))}
    elif name == "remoteAddress":
        parameters = {"IPs": ", ".join(random.sample(_NETWORKS, 2))}
    made: Json = {"name": name, "parameters": parameters}
    if random.random() < 0.6:
        made["constraints"] = [constraint(random) for _ in range(random.randint(0, 3))]
    if random.random() < 0.2:
        made["segments"] = random.sample([1, 2, 3, *([404] if alone else [])], random.randint(0, 2))
    # Chance decides about variants where what they are sticky on is missing.
    if random.random() < 0.4 and parameters.get("stickiness", "default") in ("default", "tenant"):
        made["variants"] = variants(random, own=False)
    return made


def variants(random: Random, *, own: bool) -> list[Json]:
    count = random.choice([0, 1, 2, 3, 20])
    stickiness = random.choice(["default", "tenant", None])
    made = []
    for index in range(count):
        variant: Json = {"name": f"v{index}", "weight": random.choice([0, 1, 10, 333, 1000]) + (index == 0)}
        if random.random() < 0.7:
            kind, value = random.choice([("string", "text"), ("number", "1.5"), ("json", '{"a": [1]}'), ("csv", "a,b")])
            variant["payload"] = {"type": kind, "value": value}
        if own and stickiness is not None:
            variant["stickiness"] = stickiness
        if own and random.random() < 0.2:
            field = random.choice(["userId", "country", "tenant"])
            variant["overrides"] = [{"contextName": field, "values": random.sample(FIELDS.get(field, USERS[:-1]), 3)}]
        made.append(variant)
    return made


def document(random: Random, features_wanted: int) -> Json:
    features: list[Json] = []
    for index in range(features_wanted):
        name = f"feature-{index}" if random.random() < 0.9 else f"fünktion.{index} 機能"
        count = random.choice([0, 1, 1, 1, 2, 3])
        strategies = [strategy(random, random.choice([name, "g"]), alone=count == 1) for _ in range(count)]
        feature: Json = {"name": name, "enabled": random.random() < 0.93, "strategies": strategies}
        if random.random() < 0.6:
            feature["variants"] = variants(random, own=True)
        parents = [each for each in features if all(map(_is_grouped, each["strategies"]))]
        if parents and random.random() < 0.3:
            feature["dependencies"] = [dependency(random, parents) for _ in range(random.randint(1, 2))]
        features.append(feature)
    segments = [{"id": number, "name": "s", "constraints": [constraint(random)]} for number in (1, 2, 3)]
    return {"version": 2, "features": features, "segments": segments}


def _is_grouped(strategy: Json) -> bool:
    """Whether it says what is hashed: where not, UnleashClient hashes a parent by the name of its child."""
    return strategy["name"] != "flexibleRollout" or "groupId" in strategy["parameters"]


def dependency(random: Random, features: list[Json]) -> Json:
    parent = random.choice(features)
    made: Json = {"feature": parent["name"] if random.random() < 0.95 else "nowhere"}
    named = [variant["name"] for variant in parent.get("variants", ())]
    if random.random() < 0.3:
        made["enabled"] = False
    elif named and random.random() < 0.4:
        made["variants"] = random.sample(named, 1)
    return made
