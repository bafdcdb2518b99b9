"""Random GrowthBook documents and attributes: of everything a little, from small pools, so that much of it matches."""

from __future__ import annotations

import random
from typing import Any

Json = dict[str, Any]

FIELDS = (
    "id",
    "country",
    "age",
    "tags",
    "version",
    "beta",
    "account.plan",
    "account.seats",
    "orders",
    "tags.0",
    "gone",
)
SCALARS: tuple[Any, ...] = (
    *("SE", "se", "NO", "", "8", "10", " 7 ", "pro", "2.0.0", "user-1", "åäö", "a😀", "\ufffd"),
    *(0, 1, 8, 10, 10.5, -3, 1.0, True, False, None),
)
VERSIONS = ("1.0.0", "v1.2.3", "1.2.3-beta.2", "1.2.3-beta.10", "1.10.0+build", "2", "", "x.y.z", 3, 1.5, None, True)
PATTERNS = ("^S", "se|no", "[0-9]+$", r"\d\.\d", "o$", "", "(", "user-[0-9]", "å")
OBJECTS: tuple[Json, ...] = ({"plan": "pro", "seats": 8}, {"plan": "free"}, {"seats": 8, "plan": "pro"}, {})
VALUES: tuple[Any, ...] = (True, False, 0, 1, 2.5, "", "blue", "red", [], {"a": [1]}, {})


class Generator:
    """One document, and contexts for it. The same seed makes the same."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def document(self, features: int) -> Json:
        self.keys = [f"f{number}" for number in range(features)]
        groups: Json = {
            "list": self.some(SCALARS),
            "typed": {"type": "list", "attributeKey": "country", "values": self.some(SCALARS)},
            "condition": {"type": "condition", "condition": self.condition(2, groups=False)},
        }
        return {"features": {key: self.feature(key) for key in self.keys}, "savedGroups": groups}

    def attributes(self) -> Json:
        chance = self.chance
        made: Json = {
            "id": chance.choice(
                ("user-1", f"user-{chance.randrange(10**6)}", chance.randrange(1, 10**6), 2.5, "ö😀", 1e21)
            ),
            "country": chance.choice(SCALARS),
            "age": chance.choice((8, 10, 10.5, "8", "10", None, True, "old")),
            "tags": chance.choice((self.some(SCALARS), [], "SE", [["SE"], {"plan": "pro"}, "NO"])),
            "version": chance.choice(VERSIONS),
            "beta": chance.choice((True, False, None, 1, "true")),
            "account": chance.choice((*OBJECTS, None, "pro")),
            "orders": [{"sum": chance.choice((8, 10, "10")), "country": chance.choice(("SE", "NO"))} for _ in range(2)],
            "device": chance.choice(("d-1", "d-2", "", None)),
        }
        for name in chance.sample(sorted(made), chance.choice((0, 0, 1, 3))):
            del made[name]
        return made

    def forced(self) -> Json:
        chance = self.chance
        return {
            chance.choice((*self.keys, "e1", "e2")): chance.choice((0, 1, 7))
            for _ in range(chance.choice((0, 0, 0, 2)))
        }

    def feature(self, key: str) -> Json:
        chance = self.chance
        made: Json = {"defaultValue": chance.choice(VALUES)} if chance.random() < 0.9 else {}
        if chance.random() < 0.9:
            made["rules"] = [self.rule(key) for _ in range(chance.choice((1, 1, 2, 3, 4)))]
        return made

    def rule(self, key: str) -> Json:
        chance = self.chance
        made: Json = {}
        if chance.random() < 0.5:
            made["condition"] = self.condition(3)
        if chance.random() < 0.15:
            made["parentConditions"] = [self.parent() for _ in range(chance.choice((1, 1, 2)))]
        if chance.random() < 0.15:
            made["filters"] = [self.filter() for _ in range(chance.choice((1, 2)))]
        made.update(self.bucketing())
        if chance.random() < 0.5:
            made["force"] = chance.choice(VALUES)
            if chance.random() < 0.3:
                made["range"] = self.range()
            if chance.random() < 0.3:
                made["id"] = f"fr_{chance.randrange(9)}"
        elif chance.random() < 0.95:
            made.update(self.experiment())
        return made

    def bucketing(self) -> Json:
        chance = self.chance
        made: Json = {}
        if chance.random() < 0.5:
            made["hashVersion"] = chance.choice((1, 2, 2, 3, None))
        if chance.random() < 0.4:
            made["coverage"] = chance.choice((0, 0.1, 0.5, 0.459, 0.999, 1, 1.5, -1, None))
        if chance.random() < 0.3:
            made["seed"] = chance.choice(("s", "seed-ö", "😀", ""))
        if chance.random() < 0.2:
            made["hashAttribute"] = chance.choice(("device", "country", "age", "beta", "gone", None))
        if chance.random() < 0.1:
            made.update(fallbackAttribute="id", bucketVersion=1, minBucketVersion=0, disableStickyBucketing=True)
        return made

    def experiment(self) -> Json:
        chance = self.chance
        count = chance.choice((2, 2, 3, 4, 1))
        made: Json = {"variations": [chance.choice(VALUES) for _ in range(count)]}
        if chance.random() < 0.5:
            made["key"] = chance.choice(("e1", "e2"))
        if chance.random() < 0.3:
            made["weights"] = chance.choice(([0.1, 0.9], [0.5, 0.25, 0.25], [1.2, -0.2], [0.2, 0.2], [1, "x"]))
        if chance.random() < 0.3:
            made["ranges"] = [self.range() for _ in range(count)]
        if chance.random() < 0.3:
            made["meta"] = [{"key": f"v{index}", "name": "V"} for index in range(count)]
            if chance.random() < 0.5:
                made["meta"][-1]["passthrough"] = True
        if chance.random() < 0.3:
            made["namespace"] = ["pricing", *self.range()]
        made.update(phase="1", name="An experiment")
        return made

    def range(self) -> list[float]:
        return sorted(self.chance.choice((0, 0.1, 0.25, 0.5, 0.7512, 0.99, 1, 1.0)) for _ in range(2))

    def filter(self) -> Json:
        made: Json = {
            "seed": self.chance.choice("ab"),
            "ranges": [self.range() for _ in range(self.chance.choice((1, 2, 9)))],
        }
        if self.chance.random() < 0.3:
            made["attribute"] = self.chance.choice(("device", "gone"))
        if self.chance.random() < 0.3:
            made["hashVersion"] = self.chance.choice((1, 2, 4))
        return made

    def parent(self) -> Json:
        value = self.chance.choice(({"value": self.value(2)}, {"value": True}, {"value": {"$exists": True}}, {}))
        return {
            "id": self.chance.choice((*self.keys, "nobody")),
            "condition": value,
            "gate": self.chance.random() < 0.5,
        }

    def some(self, values: tuple[Any, ...]) -> list[Any]:
        return [self.chance.choice(values) for _ in range(self.chance.randrange(5))]

    # -- conditions

    def condition(self, room: int, *, groups: bool = True) -> Json:
        made: Json = {}
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            what = self.chance.random()
            if room and what < 0.2:
                made[self.chance.choice(("$or", "$nor", "$and"))] = [
                    self.condition(room - 1, groups=groups) for _ in range(self.chance.choice((0, 1, 2, 2)))
                ]
            elif room and what < 0.27:
                made["$not"] = self.condition(room - 1, groups=groups)
            elif groups and what < 0.32:
                made["$savedGroup"] = self.chance.choice(
                    ({"id": "typed"}, {"id": "condition"}, {"id": "typed", "attributeKey": "tags"})
                )
            else:
                made[self.chance.choice(FIELDS)] = self.value(room)
        return made

    def value(self, room: int) -> Any:
        if self.chance.random() < 0.3:
            return self.chance.choice((*SCALARS, *OBJECTS[:3], ["SE", "NO"]))
        return dict(self.operator(room) for _ in range(self.chance.choice((1, 1, 1, 2))))

    def operator(self, room: int) -> tuple[str, Any]:
        chance = self.chance
        name = chance.choice(
            (
                *(
                    "$eq",
                    "$ne",
                    "$lt",
                    "$lte",
                    "$gt",
                    "$gte",
                    "$exists",
                    "$in",
                    "$nin",
                    "$ini",
                    "$nini",
                    "$all",
                    "$alli",
                ),
                *("$regex", "$regexi", "$notRegex", "$notRegexi", "$type", "$size", "$elemMatch", "$not"),
                *("$veq", "$vne", "$vlt", "$vlte", "$vgt", "$vgte", "$inGroup", "$notInGroup", "$unknown"),
            )
        )
        if name.startswith("$v"):
            return name, chance.choice(VERSIONS)
        if "egex" in name:
            return name, chance.choice(PATTERNS)
        if "Group" in name:
            return name, chance.choice(("list", "typed", "condition", "missing"))
        if name in ("$in", "$nin", "$ini", "$nini", "$all", "$alli"):
            return name, chance.choice((self.some(SCALARS), self.some(SCALARS), "SE"))
        if name == "$elemMatch":
            nested = self.condition(0) if room else {"sum": 8}
            return name, chance.choice((dict([self.operator(0)]), {"sum": {"$gt": 8}}, nested)) if room else {
                "$eq": "SE"
            }
        if name in ("$size", "$not"):
            return name, self.value(room - 1) if room else {"$gt": 1}
        if name == "$type":
            return name, chance.choice(("string", "number", "boolean", "null", "array", "object", "undefined"))
        return name, chance.choice((*SCALARS, ["SE"])) if name != "$exists" else chance.choice((True, False))
