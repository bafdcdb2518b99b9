"""Who may reach the service: addresses and keys."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from flagkit.errors import ConfigError
from flagkit.server.config import ServerConfig
from flagkit.server.keys import Keys, keys_for

SECRET = "correct-horse-battery"
#: What browsers never send, and what would let everybody in.
NO_ORIGINS = (
    *("*", "null", "", "shop.example.com", "https://", "https://shop.example.com/", "https://Shop.example.com"),
    *("https://*.example.com", "https://shop.example.com:443", "http://shop.example.com:80", "https://a b", 7),
)


def config(tmp_path: Path, **settings: object) -> ServerConfig:
    return ServerConfig(tmp_path / "flags.json", tmp_path / "flagkit.db", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "flags.example.com"])
@pytest.mark.parametrize(("keys", "field"), [({}, "read_keys"), ({"read_keys": ("r",)}, "write_keys")])
def test_a_host_that_others_can_reach_needs_keys_given_by_hand(tmp_path, host, keys, field):
    with pytest.raises(ConfigError) as error:
        config(tmp_path, host=host, **keys)
    assert error.value.field == field
    assert host in str(error.value)


@pytest.mark.parametrize(
    "origin", ["https://shop.example.com", "http://localhost:3000", "http://[::1]:8080", "capacitor://localhost"]
)
def test_an_origin_is_what_a_browser_calls_a_page(tmp_path, origin):
    assert config(tmp_path, origins=[origin]).origins == (origin,)


def test_no_browser_key_is_generated(tmp_path):
    settings = config(tmp_path)
    keys = keys_for(settings)
    generated = json.loads(settings.keys_path.read_text())
    assert not any(keys.may_evaluate(f"Bearer {key}") for key in generated.values())
    assert keys_for(config(tmp_path, browser_keys=("page",))).may("Bearer page") == ("evaluate",)
    with pytest.raises(ConfigError, match="browser_keys"):
        keys_for(config(tmp_path, browser_keys=(generated["read"],)))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_keys(tmp_path, host):
    assert config(tmp_path, host=host).loopback


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"port": -1}, "port"),
        ({"port": 65_536}, "port"),
        ({"port": True}, "port"),
        ({"port": "8400"}, "port"),
        ({"host": ""}, "host"),
        ({"read_keys": ("",)}, "read_keys"),
        ({"write_keys": ("two words",)}, "write_keys"),
        ({"write_keys": ("line\nbreak",)}, "write_keys"),
        ({"write_keys": ("é" * 20,)}, "write_keys"),
        ({"read_keys": ("k" * 257,)}, "read_keys"),
        ({"read_keys": SECRET}, "read_keys"),
        ({"admin_keys": SECRET}, "admin_keys"),
        ({"admin_keys": ("two words",)}, "admin_keys"),
        ({"read_keys": (SECRET.encode(),)}, "read_keys"),
        ({"browser_keys": SECRET}, "browser_keys"),
        ({"browser_keys": (SECRET,), "read_keys": (SECRET,)}, "browser_keys"),
        ({"browser_keys": (SECRET,), "write_keys": (SECRET,)}, "browser_keys"),
        ({"browser_keys": (SECRET,), "admin_keys": ("a", SECRET)}, "browser_keys"),
        ({"origins": "https://shop.example.com"}, "origins"),
        *(({"origins": (origin,)}, "origins") for origin in NO_ORIGINS),
        ({"browser_requests_per_s": 0}, "browser_requests_per_s"),
        ({"browser_requests_per_s": True}, "browser_requests_per_s"),
    ],
)
def test_a_wrong_setting_is_named_and_a_key_is_not_shown(tmp_path, settings, field):
    with pytest.raises(ConfigError) as error:
        config(tmp_path, **settings)
    assert error.value.field == field
    assert SECRET not in str(error.value)


def test_no_key_is_in_the_text_of_a_config_or_of_keys(tmp_path):
    browser_key = f"{SECRET}-too"
    keys = {"read_keys": (SECRET,), "write_keys": (SECRET,), "admin_keys": (SECRET,), "browser_keys": (browser_key,)}
    settings = config(tmp_path, **keys)
    assert SECRET not in repr(settings)
    assert SECRET not in repr(keys_for(settings))


def test_each_key_opens_its_own_door():
    keys = Keys(["reader", "both"], ["writer", "both"], ["admin"], ["page"])
    asked = {key: f"Bearer {key}" for key in ("reader", "both", "writer", "admin", "page", "stranger")}
    assert [keys.may_read(header) for header in asked.values()] == [True, True, False, True, False, False]
    assert [keys.may_write(header) for header in asked.values()] == [False, True, True, False, False, False]
    assert [keys.may_change(header) for header in asked.values()] == [False, False, False, True, False, False]
    assert [keys.may_evaluate(header) for header in asked.values()] == [False, False, False, False, True, False]
    assert {key: keys.may(header) for key, header in asked.items()} == {
        "reader": ("read",),
        "both": ("read", "write"),
        "writer": ("write",),
        "admin": ("read", "change"),
        "page": ("evaluate",),
        "stranger": (),
    }


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "reader", "Basic reader", "Bearer reader2", "Bearer \udcff"]
)
def test_anything_but_the_right_key_opens_nothing(header):
    assert Keys(["reader"], ["reader"], ["reader"]).may(header) == ()


def test_generated_keys_are_kept_for_their_owner_only_and_used_again(tmp_path):
    settings = config(tmp_path)
    first = keys_for(settings)
    generated = json.loads(settings.keys_path.read_text())
    again = keys_for(settings)
    assert settings.keys_path.stat().st_mode & 0o777 == 0o600
    assert generated["read"] != generated["write"]
    for keys in (first, again):
        assert keys.may_read(f"bearer {generated['read']}")
        assert keys.may_write(f"Bearer {generated['write']}")
        assert not keys.may_write(f"Bearer {generated['read']}")
        assert keys.may_read(f"Bearer {generated['client']}")
        assert keys.may_write(f"Bearer {generated['client']}")
        assert keys.may_change(f"Bearer {generated['admin']}")
        assert not keys.may_change(f"Bearer {generated['client']}")


def test_a_keys_file_from_before_there_were_admin_keys_gets_one(tmp_path):
    settings = config(tmp_path)
    keys_for(settings)
    old = json.loads(settings.keys_path.read_text())
    del old["admin"]
    settings.keys_path.write_text(json.dumps(old))
    assert keys_for(settings).may_read(f"Bearer {old['read']}")
    new = json.loads(settings.keys_path.read_text())
    assert {role: new[role] for role in old} == old
    assert keys_for(settings).may_change(f"Bearer {new['admin']}")
    assert settings.keys_path.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flagkit.db.keys.json"]


def test_who_gives_both_other_keys_gives_the_admin_key_too_or_there_is_none(tmp_path):
    given = {"read_keys": ("r",), "write_keys": ("w",), "host": "0.0.0.0"}
    assert not keys_for(config(tmp_path, **given)).may_change("Bearer ")
    assert keys_for(config(tmp_path, **given, admin_keys=("a",))).may_change("Bearer a")
    assert list(tmp_path.iterdir()) == []


def test_a_given_key_is_used_and_only_the_missing_one_generated(tmp_path):
    settings = config(tmp_path, read_keys=("mine",))
    keys = keys_for(settings)
    generated = json.loads(settings.keys_path.read_text())
    assert keys.may_read("Bearer mine")
    assert not keys.may_read(f"Bearer {generated['read']}")
    assert keys.may_write(f"Bearer {generated['write']}")


def test_given_keys_leave_no_file(tmp_path):
    settings = config(tmp_path, read_keys=("r",), write_keys=("w",))
    keys_for(settings)
    assert not settings.keys_path.exists()


def test_a_keys_file_that_others_can_read_is_refused(tmp_path):
    settings = config(tmp_path)
    keys_for(settings)
    settings.keys_path.chmod(0o640)
    with pytest.raises(ConfigError, match="0600"):
        keys_for(settings)


@pytest.mark.parametrize(
    "text", ["", "[]", f'{{"read": "{SECRET}"}}', f'{{"read": "{SECRET}", "write": 7}}', f'"{SECRET}']
)
def test_a_damaged_keys_file_is_refused_without_quoting_it(tmp_path, text):
    settings = config(tmp_path)
    settings.keys_path.touch(0o600)
    settings.keys_path.write_text(text)
    with pytest.raises(ConfigError, match=r"flagkit\.db\.keys\.json") as error:
        keys_for(settings)
    assert SECRET not in str(error.value)
    assert error.value.__suppress_context__


def test_a_keys_file_that_is_a_link_is_refused(tmp_path):
    settings = config(tmp_path)
    os.symlink(tmp_path / "elsewhere", settings.keys_path)
    with pytest.raises(ConfigError):
        keys_for(settings)
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        keys_for(config(tmp_path / "missing"))
