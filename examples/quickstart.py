"""Flags from a file, without a server: ask, ask why, raise a rollout, force an answer.

Run: python examples/quickstart.py
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import flagkit

DEFINITIONS = Path(__file__).with_name("quickstart.json")
USERS = [f"user-{number}" for number in range(10_000)]
RANKING = flagkit.Flag("ranking", default={"model": "v1", "results": 10}, owner="search")


def at_percent(percent: float) -> flagkit.Client:
    """A client of the same definitions with another percentage, as if someone had edited the file."""
    definitions: dict[str, Any] = json.loads(DEFINITIONS.read_text(encoding="utf-8"))
    definitions["flags"]["new-search"]["rules"][1]["rollout"]["percent"] = percent
    return flagkit.Client(source=flagkit.sources.Static(definitions))


def main() -> None:
    client = flagkit.Client.from_file(DEFINITIONS)

    print("Ask")
    ann = flagkit.Context("ann", {"email": "ann@example.com"})
    print(f"  new search for a colleague: {client.enabled('new-search', ann)}")
    print(f"  new search for user-3:      {client.enabled('new-search', 'user-3')}")
    print(f"  ranking for user-3:         {client.variant(RANKING, 'user-3')}, {client.value(RANKING, 'user-3')}")
    nobody = client.enabled("no-such-flag", "user-3", default=True)  # flagkit: ignore
    print(f"  a flag nobody defined:      {nobody} (the default)")

    print("\nAsk why")
    print("  " + client.explain("new-search", "user-3").text().replace("\n", "\n  "))

    print("\nThe experiment")
    counts = Counter(client.variant(RANKING, user) for user in USERS)
    for variant, count in sorted(counts.items()):
        print(f"  {variant:8} {count / len(USERS):6.1%}")

    print("\nRaise the rollout")
    first = {user for user in USERS if client.enabled("new-search", user)}
    raised = at_percent(25)
    second = {user for user in USERS if raised.enabled("new-search", user)}
    print(f"  at  5 %: {len(first):,} of {len(USERS):,} users")
    print(f"  at 25 %: {len(second):,}, and {len(first - second)} of the first {len(first):,} fell out")

    print("\nForce an answer, here and nowhere else")
    with client.override({"new-search": True, "ranking": "neural"}), flagkit.scope("user-3"):
        print(f"  inside:  {client.decide('new-search')}, {client.decide('ranking')}")
    print(f"  outside: {client.decide('new-search', 'user-3')}")

    client.close()


if __name__ == "__main__":
    main()
