"""One application, and the same flag in the formats of several backends: moving from one to another changes no code.

    python examples/backends.py

The documents are held in the program here; an application has a source instead, such as ``sources.File``,
``sources.Http`` or ``sources.GrowthBook``. Each backend draws its own half of the users, as its own libraries do.
"""

from __future__ import annotations

from flagkit import Client, Context, sources

DOCUMENTS = {
    "native": {
        "schema": 1,
        "flags": {
            "new-search": {
                "rules": [
                    {
                        "name": "staff",
                        "when": [{"attribute": "email", "op": "ends_with", "values": ["@example.com"]}],
                        "serve": "on",
                    },
                    {"name": "half", "rollout": {"percent": 50}, "serve": "on"},
                ]
            }
        },
    },
    "unleash": {
        "version": 2,
        "features": [
            {
                "name": "new-search",
                "enabled": True,
                "strategies": [
                    {
                        "name": "default",
                        "constraints": [
                            {"contextName": "email", "operator": "STR_ENDS_WITH", "values": ["@example.com"]}
                        ],
                    },
                    {
                        "name": "flexibleRollout",
                        "parameters": {"rollout": "50", "stickiness": "default", "groupId": "new-search"},
                    },
                ],
            }
        ],
    },
    "posthog": {
        "flags": [
            {
                "id": 1,
                "key": "new-search",
                "active": True,
                "filters": {
                    "groups": [
                        {
                            "properties": [
                                {"key": "email", "value": "@example.com", "operator": "icontains", "type": "person"}
                            ],
                            "rollout_percentage": 100,
                        },
                        {"properties": [], "rollout_percentage": 50},
                    ]
                },
            }
        ]
    },
    "flagd": {
        "flags": {
            "new-search": {
                "state": "ENABLED",
                "variants": {"on": True, "off": False},
                "defaultVariant": "off",
                "targeting": {
                    "if": [
                        {"ends_with": [{"var": "email"}, "@example.com"]},
                        "on",
                        {"fractional": [["on", 50], ["off", 50]]},
                    ]
                },
            }
        }
    },
    "growthbook": {
        "features": {
            "new-search": {
                "defaultValue": False,
                "rules": [
                    {"id": "staff", "condition": {"email": {"$regex": "@example.com$"}}, "force": True},
                    {"id": "half", "coverage": 0.5, "hashVersion": 2, "force": True},
                ],
            }
        }
    },
}
EMAILS = {"user-1": "anna@example.com"} | {f"user-{number}": f"{number}@mail.example" for number in range(2, 1001)}


def search(client: Client, user: str) -> str:
    """What the application does, whatever its backend."""
    context = Context(user, {"email": EMAILS[user]})
    return "new" if client.enabled("new-search", context) else "old"


def main() -> None:
    for dialect, document in DOCUMENTS.items():
        client = Client(source=sources.Static(document, dialect=dialect))
        seen = [search(client, user) for user in EMAILS]
        decision = client.decide("new-search", Context("user-1", {"email": EMAILS["user-1"]}))
        print(
            f"{dialect:11} staff: {seen[0]} ({decision.reason}, {decision.rule}), of 999 others {seen[1:].count('new')}"
        )


if __name__ == "__main__":
    main()
