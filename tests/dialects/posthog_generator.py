"""Random PostHog definitions and ways of asking, the same for the same seed.

What PostHog's Python SDK is known to answer in its own way is left out; test_posthog_peers.py shows it case by case.
"""

from __future__ import annotations

import json
import random
from typing import Any

Json = dict[str, Any]
GROUPS = {"0": "company", "1": "project"}
VERSIONS = ("1", "1.2", "v1.2.3", "2.0.0", "1.2.3-beta.1", "2.0.0+build", "nonsense", "1.2.3.4", "", "01.2", "1..2")
DATES = ("2022-05-01", "2022-05-01T12:00:00Z", "2022-04-30T23:00:00-02:00", "2022-05-01 12:00:00", "2030-01-01", "when")
TEXTS = ("", "SE", "se", "NO", "Straße", "ÅÄÖ", "true", "False", "null", "5", "1.50", "a.b+c", "user@example.com")
PATTERNS = (r"^user@", r"\.com$", r"[a-z]+\d*", "", r"(SE|NO)", r"^\d+$", "[", r"^.{2}$", r"^[^@]+@[^@]+$")
NUMBERS = (0, 1, -3, 5, 1.5, 1e21, 1e-7, "5", "1.50", " 5", "-", "1e3", True, "0x10")
TEXT_OPERATORS = ("icontains", "not_icontains", "starts_with", "not_starts_with", "ends_with", "not_ends_with")
VERSION_OPERATORS = (
    *("semver_eq", "semver_neq", "semver_gt", "semver_gte", "semver_lt", "semver_lte"),
    *("semver_tilde", "semver_caret"),
)


class Generator:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def pick(self, choices: Any) -> Any:
        return self.random.choice(choices)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    # -- asking ------------------------------------------------------------------------------------------------------

    def asking(self) -> Json:
        """The arguments of a question, as PostHog's SDKs take them."""
        asked: Json = {"distinct_id": f"user-{self.random.randrange(10_000)}", "person_properties": self.properties()}
        if self.chance(0.7):
            names = self.random.sample(list(GROUPS.values()), self.random.randrange(3))
            asked["groups"] = {name: f"{name}-{self.random.randrange(1000)}" for name in names}
            asked["group_properties"] = {name: self.properties() for name in names if self.chance(0.7)}
        asked["device_id"] = f"device-{self.random.randrange(10_000)}"
        return asked

    def properties(self) -> Json:
        properties: Json = {
            "text": self.pick((*TEXTS, None, 5, 1.5, True, ["SE", "NO"], {"b": 1, "a": [1.0, None]})),
            "number": self.pick((*NUMBERS, None)),
            "version": self.pick((*VERSIONS, 1, 1.2, None)),
            "date": self.pick((*DATES, None)),
            "beta": self.pick((True, False, "true", "FALSE", "yes", None, 1)),
            "set": 1,
        }
        return {name: value for name, value in properties.items() if name == "set" or self.chance(0.85)}

    # -- definitions -------------------------------------------------------------------------------------------------

    def definitions(self, flags: int) -> Json:
        names = [f"flag-{index}" for index in range(flags)]
        self.cohorts = ("1", "2", "3")
        cohorts = {str(index): self.cohort(2, [str(each) for each in range(index + 1, 4)]) for index in (1, 2, 3)}
        return {
            "flags": [self.flag(index, names, asked=index >= flags // 2) for index in range(flags)],
            "group_type_mapping": GROUPS,
            "cohorts": cohorts,
            **({"property_matching_version": 2} if self.chance(0.2) else {}),
        }

    def flag(self, index: int, names: list[str], *, asked: bool) -> Json:
        """asked: others may ask for it; so it is for persons."""
        group = None if asked else self.pick((None, None, None, None, 0, 1, 7))
        later = names[max(index + 1, len(names) // 2) :]
        filters: Json = {
            "groups": [self.condition(group, later, mixed=not asked) for _ in range(self.pick((0, 1, 1, 2, 3)))],
            "aggregation_group_type_index": group,
        }
        if self.chance(0.4):
            shares = self.pick(([50, 50], [33.33, 33.33, 33.34], [10, 0, 20], [0, 100], [0.5, 99.5], [100, 50], [0]))
            filters["multivariate"] = {
                "variants": [
                    {"key": key, "rollout_percentage": share} for key, share in zip("abc", shares, strict=False)
                ]
            }
        if self.chance(0.5):
            filters["payloads"] = {key: json.dumps({"is": key}) for key in self.random.sample(("true", "a", "b"), 2)}
        if self.chance(0.1):
            filters["early_exit"] = True
        if self.chance(0.1):
            filters["holdout"] = {"id": 5, "exclusion_percentage": self.pick((0, 30, 100, 150))}
        flag: Json = {"id": index + 1, "key": names[index], "active": self.chance(0.95), "filters": filters}
        if group is None and not asked and self.chance(0.1):
            flag["bucketing_identifier"] = "device_id"
        if self.chance(0.02):
            flag["ensure_experience_continuity"] = True
        return flag

    def condition(self, group: int | None, later: list[str], *, mixed: bool) -> Json:
        condition: Json = {"rollout_percentage": self.pick((None, 100, 0, 50, 12.5, 80))}
        if group is None and mixed and self.chance(0.15):
            group = condition["aggregation_group_type_index"] = self.pick((0, 1))
            later = []
        if self.chance(0.2):
            condition["variant"] = self.pick(("a", "b", "none", None))
        count = self.pick((0, 1, 1, 2, 3))
        condition["properties"] = [self.filter(group, later) for _ in range(count)]
        return condition

    def filter(self, group: int | None, later: list[str]) -> Json:
        if group is not None:
            asked = self.property()
            while asked["operator"] == "is_not_set":
                asked = self.property()
            return {**asked, "type": "group", "group_type_index": group}
        if later and self.chance(0.1):
            key = self.pick(later)
            wanted = self.pick((True, False, "a", "b"))
            return {
                "type": "flag",
                "key": key,
                "value": wanted,
                "operator": "flag_evaluates_to",
                "dependency_chain": [key],
            }
        if self.chance(0.15):
            return self.of_cohort((*self.cohorts, "99"))
        return {**self.property(), "type": "person"}

    def of_cohort(self, names: Any) -> Json:
        operator = self.pick((None, "exact", "in", "not_in"))
        name = self.pick(names)
        known = {"type": "cohort", "key": "id", "value": int(name) if self.chance(0.5) else name}
        return known if operator is None else {**known, "operator": operator}

    def cohort(self, room: int, later: list[str]) -> Json:
        values: list[Json] = []
        for _ in range(self.pick((0, 1, 2, 3))):
            if room and self.chance(0.4):
                values.append(self.cohort(room - 1, later))
            elif later and self.chance(0.2):
                values.append({**self.of_cohort(later), "negation": self.chance(0.3)})
            else:
                values.append({**self.property(), "type": "person", "negation": self.chance(0.3)})
        return {"type": self.pick(("AND", "OR")), "values": values} if values or self.chance(0.5) else {}

    def property(self) -> Json:
        kind = self.pick(("exact", "exact", "text", "number", "version", "date", "pattern", "set"))
        key, operator, value = getattr(self, f"_{kind}")()
        if self.chance(0.03):
            operator = "no_such_operator"
        return {"key": key, "operator": operator, "value": value}

    def _exact(self) -> tuple[str, str, Any]:
        value = self.pick(
            (*TEXTS, 5, 1.5, True, False, ["true"], ["SE", "no"], [5, "x"], [], [True, "false"], {"a": 1})
        )
        return self.pick(("text", "beta", "number", "distinct_id")), self.pick(("exact", "is_not")), value

    def _text(self) -> tuple[str, str, Any]:
        return self.pick(("text", "number", "beta")), self.pick(TEXT_OPERATORS), self.pick((*TEXTS, 5, True))

    def _number(self) -> tuple[str, str, Any]:
        return self.pick(("number", "text")), self.pick(("gt", "gte", "lt", "lte")), self.pick(NUMBERS)

    def _version(self) -> tuple[str, str, Any]:
        if self.chance(0.2):
            return "version", "semver_wildcard", self.pick(("1.*", "1.2.*", "v2.*", "1.2.3", "x.*"))
        return "version", self.pick(VERSION_OPERATORS), self.pick(VERSIONS)

    def _date(self) -> tuple[str, str, Any]:
        value = self.pick((*DATES, "-7d", "3m", "-2y", "-1h", "4w", "-10000d", "-3x"))
        return "date", self.pick(("is_date_before", "is_date_after")), value

    def _pattern(self) -> tuple[str, str, Any]:
        return self.pick(("text", "number")), self.pick(("regex", "not_regex")), self.pick(PATTERNS)

    def _set(self) -> tuple[str, str, Any]:
        if self.chance(0.5):
            return self.pick(("text", "set", "absent")), "is_set", "is_set"
        return "set", "is_not_set", "is_not_set"
