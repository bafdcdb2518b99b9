"""Signed overrides: who is let in, who is refused under which word, and that nothing of it shows to anybody else."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from conftest import Make
from documents import ON, Json, StillClock
from fakes import WALL_MS

import flagkit
from flagkit import Client, Config, Context, sinks
from flagkit.core.model import Definitions
from flagkit.errors import ConfigError
from flagkit.production.overrides import MAX_TOKEN, Claim, Keys, SignedOverrides, new_claim

SECRET, OTHER = "s" * 32, "t" * 32
KEYS = f"k1:{SECRET}"
HOUR_MS = 3_600_000
FLAGS: Json = {
    "new-checkout": {"overridable": True},
    "plain": {},
    "sizes": {"overridable": True, "variants": {"s": 1, "m": 2}, "off": "s"},
    "child": {"default": "on", "prerequisites": [{"flag": "new-checkout", "variants": ["on"]}]},
}


def claim(**fields: Any) -> Claim:
    usual = Claim("id-1", "production", {"new-checkout": "on"}, None, WALL_MS, WALL_MS + HOUR_MS)
    return usual._replace(**fields)


def token(keys: str = KEYS, **fields: Any) -> str:
    return Keys(keys).sign(claim(**fields))


@pytest.fixture
def client(make: Make) -> Client:
    return taking(make)


def taking(make: Make, flags: Json = FLAGS, keys: str = KEYS, **settings: Any) -> Client:
    """A client that takes overrides."""
    client = make(flags, **{"environment": "production", **settings})
    client.allow_overrides(keys)
    return client


def refused(client: Client, shown: Any, unit: object = "ann") -> str:
    """The word under which the refusal is counted; the answer is as if nothing had been shown."""
    with client.scope(unit, override=shown) as granted:
        assert granted == {}
        assert client.variant("new-checkout") == "off"
    (word,) = client.status.overrides
    return word


def test_a_signed_override_forces_its_flags_in_its_scope_and_nowhere_else(client: Client) -> None:
    with client.scope("ann", override=token(flags={"new-checkout": "on", "sizes": "m"})) as granted:
        assert granted == {"new-checkout": "on", "sizes": "m"}
        assert client.decide("new-checkout").reason == "OVERRIDE"
        assert (client.value("sizes", default=0), client.enabled("child"), client.enabled("plain")) == (2, True, False)
        assert client.explain("new-checkout").decision.reason == "OVERRIDE"
        assert client.decide_all()["new-checkout"].variant == "on"
    assert client.variant("new-checkout", "ann") == "off"
    with client.scope("ann"):
        assert client.variant("new-checkout") == "off"
    assert client.status.overrides == {"accepted": 1}


def test_overridden_calls_are_not_exposed(make: Make, sink: sinks.Memory) -> None:
    client = taking(make)
    with client.scope("ann", override=token()):
        assert client.enabled("new-checkout")
    client.flush()
    assert sink.events == []


def test_one_that_is_bound_to_a_unit_is_good_for_no_other(client: Client) -> None:
    with client.scope(Context("ann"), override=token(unit="ann")):
        assert client.enabled("new-checkout")
    with client.scope(7, override=token(unit="7")) as granted:
        assert granted
    assert client.status.overrides == {"accepted": 2}
    for unit in ("bo", None, Context(), b"ann"):
        with client.scope(unit, override=token(unit="ann")) as granted:
            assert not granted
            assert not client.enabled("new-checkout")
    assert client.status.overrides == {"accepted": 2, "other_unit": 4}


def test_any_change_of_a_token_is_found_out(client: Client) -> None:
    good = token()
    body = good.index(".") + 1
    for index in range(body, len(good), 7):
        swapped = "A" if good[index] != "A" else "B"
        with client.scope("ann", override=good[:index] + swapped + good[index + 1 :]) as granted:
            assert granted == {}
    # The last character of a digest has bits to spare: what is different there may be the same token.
    assert set(client.status.overrides) == {"tampered"}


def test_one_for_another_flag_does_nothing_for_this_one(client: Client) -> None:
    with client.scope("ann", override=token(flags={"sizes": "m"})):
        assert not client.enabled("new-checkout")
    spliced = token().rpartition(".")[0] + "." + token(flags={"sizes": "m"}).rpartition(".")[2]
    assert not _granted(client, spliced)
    assert client.status.overrides == {"accepted": 1, "tampered": 1}


def _granted(client: Client, shown: Any) -> Any:
    with client.scope("ann", override=shown) as granted:
        return granted


@pytest.mark.parametrize(
    ("shown", "word"),
    [
        (lambda: "", None),
        (lambda: "x", "malformed"),
        (lambda: "k1.\ud800", "malformed"),
        (lambda: "k1." + "x" * MAX_TOKEN, "malformed"),
        (lambda: 5, "malformed"),
        (lambda: "k9.e30.abc", "unknown_key"),
        (lambda: "k1.", "tampered"),
        (lambda: "k1.e30.abc", "tampered"),
        (lambda: token(f"k1:{OTHER}"), "tampered"),
        (lambda: token(expires_ms=WALL_MS), "expired"),
        (lambda: token(issued_ms=WALL_MS + 60_001, expires_ms=WALL_MS + HOUR_MS), "not_yet"),
        (lambda: token(expires_ms=WALL_MS + 24 * HOUR_MS + 1), "too_long"),
        (lambda: token(environment="staging"), "other_environment"),
        (lambda: token(unit="bo"), "other_unit"),
        (lambda: token(flags={"no-such": "on"}), "unknown_flag"),
        (lambda: token(flags={"plain": "on"}), "not_overridable"),
        (lambda: token(flags={"new-checkout": "on", "plain": "on"}), "not_overridable"),
        (lambda: token(flags={"new-checkout": "blue"}), "unknown_variant"),
        (lambda: token(flags={"new-checkout": 5}), "malformed"),
        (lambda: token(flags=[1]), "malformed"),
        (lambda: token(expires_ms="soon"), "malformed"),
    ],
)
def test_a_refusal_is_silent_and_counted_under_its_word(client: Client, shown: Any, word: str | None) -> None:
    if word is None:
        assert not _granted(client, shown())
        assert client.status.overrides == {}
    else:
        assert refused(client, shown()) == word


def test_it_ends_when_it_expires(client: Client, clock: StillClock) -> None:
    shown = token()
    assert _granted(client, shown)
    clock.advance(3600)
    assert not _granted(client, shown)
    assert client.status.overrides == {"accepted": 1, "expired": 1}


def test_every_key_is_accepted_the_first_signs_and_one_that_is_gone_revokes_its_tokens(make: Make) -> None:
    old, new = token(f"k1:{SECRET}"), token(f"k2:{OTHER}, k1:{SECRET}")
    assert new.startswith("k2.")
    both = taking(make, keys=f"k2:{OTHER},k1:{SECRET}")
    assert _granted(both, old)
    assert _granted(both, new)
    later = taking(make, keys=f"k2:{OTHER}")
    assert refused(later, old) == "unknown_key"


def test_a_key_under_another_s_id_is_not_that_key(make: Make) -> None:
    """The same secret under two ids: the id is part of what is signed."""
    client = taking(make, keys=f"k1:{SECRET},k2:{SECRET}")
    assert refused(client, "k2." + token().partition(".")[2]) == "tampered"


@pytest.mark.parametrize(
    "terms",
    [
        {"revoked": ["id-0", "id-1"]},
        {"issued_after": "2026-11-23T14:13:20Z"},
        {"issued_after": "2026-11-24", "revoked": []},
    ],
)
def test_the_definitions_revoke_tokens_by_id_and_by_when_they_were_issued(make: Make, terms: Json) -> None:
    client = taking(make, {"new-checkout": {"overridable": terms}})
    assert refused(client, token()) == "revoked"


def test_the_definitions_revoke_no_other_token(make: Make) -> None:
    terms = {"issued_after": "2026-11-23T14:13:19Z", "revoked": ["id-2"]}
    assert _granted(taking(make, {"new-checkout": {"overridable": terms}}), token())


def test_an_override_is_good_for_the_client_that_took_it_alone(client: Client, make: Make) -> None:
    other = make({"new-checkout": {}}, environment="staging")
    with client.scope("ann", override=token()):
        assert client.enabled("new-checkout")
        assert not other.enabled("new-checkout")
        assert not other.decide_all()["new-checkout"].enabled
        with other.override({"new-checkout": True}), flagkit.scope("bo"):
            assert client.enabled("new-checkout")
            assert other.enabled("new-checkout")
        with client.override({"new-checkout": False}):
            assert not client.enabled("new-checkout")


def test_a_client_without_an_environment_takes_none(make: Make) -> None:
    client = make(FLAGS)
    client.allow_overrides(KEYS)
    assert refused(client, token()) == "other_environment"
    assert _granted(taking(make, environment="production", config=Config(environment="production")), token())


def test_a_client_that_was_not_told_to_takes_none_and_counts_nothing(make: Make) -> None:
    client = make(FLAGS, environment="production")
    assert not _granted(client, token())
    assert client.status.overrides == {}


def test_before_there_are_definitions_nothing_is_forced() -> None:
    signed = SignedOverrides(KEYS, lambda: WALL_MS)
    assert signed.granted(token(), None, "production", Definitions({})) == {}
    assert signed.counts == {"unknown_flag": 1}


def test_the_context_of_a_scope_may_be_made_by_a_function_which_may_fail(client: Client) -> None:
    with client.scope(lambda: {"unit": "ann", "plan": "pro"}), client.override({"plain": True}):
        assert client.enabled("plain")
    with client.scope(lambda: 1 / 0):
        assert client.decide("plain").error_code == "INVALID_CONTEXT"
    assert client.status.errors["CONTEXT_FAILED"] == 1
    with client.scope(None):
        assert client.decide("plain").reason == "STATIC"


def test_no_secret_is_shown() -> None:
    assert SECRET not in repr(Keys(KEYS))
    for bad in (f"k 1:{SECRET}", f"k1:{SECRET},k1:{OTHER}", "k1:short-secret", SECRET, "", 5, {"k1": 5}, {}):
        with pytest.raises(ConfigError, match="keys: got a value not shown here") as raised:
            Keys(bad)  # type: ignore[arg-type]
        assert "secret-" not in str(raised.value)
        assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"flags": {}}, "flags"),
        ({"flags": {str(n): "on" for n in range(21)}}, "flags"),
        ({"flags": {"a": True}}, "flags"),
        ({"environment": ""}, "environment"),
        ({"unit": ""}, "unit"),
        ({"hours": 0}, "hours"),
        ({"hours": 24.1}, "hours"),
        ({"hours": float("nan")}, "hours"),
        ({"hours": True}, "hours"),
    ],
)
def test_what_cannot_be_signed_is_named(arguments: dict[str, Any], field: str) -> None:
    usual: dict[str, Any] = {"flags": {"a": "on"}, "environment": "production", "unit": None, "hours": 1}
    with pytest.raises(ConfigError, match=f"^{field}: got"):
        new_claim(**{**usual, **arguments}, now_ms=0, token_id="id")


def test_a_token_that_would_be_too_long_is_not_made() -> None:
    with pytest.raises(ConfigError, match=r"flags: got .* a token has at most 3,072 characters"):
        token(flags={secrets.token_urlsafe(96): "on" for _ in range(20)}, unit=secrets.token_urlsafe(700))


def test_whether_a_flag_is_overridable_is_no_part_of_its_version(make: Make) -> None:
    versions = {make({"f": {**ON, **more}}).decide("f").version for more in ({}, {"overridable": True})}
    assert len(versions) == 1
