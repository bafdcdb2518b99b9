"""Protections, each with the change that switches it off and a test that must fail then.

``docs/reliability.md`` lists them; ``test_mutations`` applies them, one at a time, to a copy of the package.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Mutation(NamedTuple):
    """In ``file`` of the package ``old``, which stands there once, becomes ``new``; then ``test`` must fail.

    also: a second change in that file, where one thing is seen to in two places.
    """

    file: str
    old: str
    new: str
    test: str
    also: tuple[str, str] | None = None

    def applied(self, source: str) -> str:
        for old, new in ((self.old, self.new), *([self.also] if self.also else ())):
            assert source.count(old) == 1, "the source has changed: so must the mutation"
            source = source.replace(old, new)
        return source


_B: Final = "test_definitions.py::"
_DOC: Final = "test_documents.py::"
_NET: Final = "test_transport.py::"
_D: Final = "test_events.py::"
_E: Final = "test_processes.py::"
_UNIT: Final = "../unit/"
_DISK: Final = _UNIT + "test_disk.py::"

MUTATIONS: Final = {
    "deadline of a read": Mutation(
        "http/leash.py",
        "        if self._ends_s is not None:\n            self._sock.settimeout(_left_s(self._ends_s))",
        "        self._sock.settimeout(5)",
        _B + "test_b03_a_slow_drip_is_cut_at_the_deadline[drip_body]",
    ),
    "size bound": Mutation(
        "http/reply.py",
        "if received > most_received or size > max_bytes:",
        "if False:",
        _NET + "test_b11_a_body_without_measure_is_cut_off_and_costs_little_memory",
    ),
    "bound of inflation": Mutation(
        "http/reply.py",
        "inflater.decompress(piece, max_bytes - size + 1)",
        "inflater.decompress(piece)",
        _NET + "test_b11_a_body_without_measure_is_cut_off_and_costs_little_memory",
    ),
    "whole gzip": Mutation(
        "http/reply.py",
        "if inflater and not inflater.eof:",
        "if False:",
        _B + "test_b07_a_body_that_is_not_what_its_encoding_says_is_refused",
    ),
    "validator after the document": Mutation(
        "runtime/current.py",
        "            known = before.definitions if before.ready else None\n",
        "            known = before.definitions if before.ready else None\n            self.validator = validator\n",
        _B + "test_b06_a_truncated_document_is_refused_and_its_etag_forgotten[half a document]",
    ),
    "a fetch without validator once an hour": Mutation(
        "runtime/poller.py",
        "asked = now_s < self._refetch_s and (",
        "asked = (",
        _NET + "test_b16_once_an_hour_nobody_is_asked_to_confirm",
    ),
    "media type": Mutation(
        "sources/http.py",
        'if reply.media_type != "application/json" and not reply.media_type.endswith("+json"):',
        "if False:",
        _B + "test_b08_a_captive_portal_is_not_definitions",
    ),
    "redirects stay at home": Mutation(
        "http/address.py",
        'return target if same and location and "@" not in there.netloc else None',
        "return target",
        _NET + "test_b15_a_redirect_to_another_origin_is_not_followed",
    ),
    "no plain http": Mutation(
        "http/address.py",
        'return scheme == "http" and not (',
        "return False and not (",
        _NET + "test_b19_http_is_for_loopback_only",
    ),
    "jitter of retries": Mutation(
        "runtime/backoff.py",
        "chance = self._random.random()",
        "chance = 0.5",
        _NET + "test_b21_eight_processes_that_start_together_do_not_come_back_together",
    ),
    "jitter after a fork": Mutation(
        "runtime/poller.py",
        "return self._random.random() * (min(",
        "return 0.5 * (min(",
        _NET + "test_b21_processes_forked_together_first_poll_at_a_random_time",
    ),
    "Retry-After": Mutation(
        "runtime/backoff.py",
        "asked_s = min(retry_after_s, self._ceiling_s) if retry_after_s > 0 else 0.0",
        "asked_s = 0.0",
        _D + "test_d02_a_collector_that_asks_for_time_gets_it_from_all_batches[seconds-503]",
    ),
    "lasting failures slow down": Mutation(
        "sources/http.py",
        "lasting=400 <= status < 500 and status not in _PASSING",
        "lasting=False",
        _B + "test_b05_a_lasting_refusal_slows_the_polling_down_and_is_logged_once",
    ),
    "vanished flags": Mutation(
        "dialects/native.py",
        "gone > len(known) / 2",
        "False",
        _DOC + "test_b09_a_document_from_which_most_flags_vanished_is_refused_unless_it_says_so",
    ),
    "switch-offs of a refused document": Mutation(
        "runtime/current.py",
        "            self._switch_off(error.off)\n",
        "",
        _DOC + "test_b09_turning_a_flag_off_is_never_refused",
    ),
    "previous version of a bad flag": Mutation(
        "dialects/native.py",
        "        instead = self.previous.flags.get(key)\n",
        "        instead = None\n",
        _DOC + "test_b10_one_malformed_flag_among_a_hundred_costs_itself_an_update_and_no_other",
    ),
    "strict JSON": Mutation(
        "dialects/document.py",
        'self._flaws.append(f"{name} is not JSON")',
        "pass",
        _DOC + "test_b12_inside_a_flag_it_costs_that_flag_only",
    ),
    "depth of references": Mutation(
        "core/references.py",
        "MAX_CHAIN: Final = 32",
        "MAX_CHAIN: Final = 10_000",
        _DOC + "test_b13_flags_on_a_cycle_or_too_deep_a_chain_answer_the_default_and_the_rest_load",
    ),
    "acknowledgement of this batch": Mutation(
        "sinks/http.py",
        'or ack.get("batch_id") != batch.id',
        "or False",
        _D + "test_d05_what_is_no_acknowledgement_is_not_a_delivery[another batch]",
    ),
    "a retry is the same batch": Mutation(
        "runtime/delivery.py",
        "sealed = self._sealed or self._seal()",
        "sealed = self._seal()",
        _D + "test_d08_an_answer_that_is_lost_duplicates_nothing",
    ),
    "bisection": Mutation(
        "runtime/delivery.py",
        "divisible = isinstance(sent, TooLarge) or sent.divisible",
        "divisible = isinstance(sent, TooLarge)",
        _D + "test_d06_a_bad_event_is_lost_alone[400]",
    ),
    "halving": Mutation(
        "runtime/delivery.py",
        "divisible = isinstance(sent, TooLarge) or sent.divisible",
        "divisible = not isinstance(sent, TooLarge) and sent.divisible",
        _D + "test_d07_a_batch_that_is_too_large_is_halved_until_it_is_taken",
    ),
    "bound of the buffer": Mutation(
        "runtime/buffer.py",
        "if size >= self._room:",
        "if not self._room:",
        _D + "test_d14_an_overload_of_ten_times_is_dropped_and_counted_and_the_collector_is_told",
    ),
    "flush at the exit": Mutation(
        "runtime/process.py",
        "            atexit.register(self.leave)\n",
        "",
        _D + "test_d11_the_exit_takes_no_longer_than_it_may[works]",
    ),
    "fork hook": Mutation(
        "runtime/process.py",
        "            os.register_at_fork(after_in_child=self.forked)\n",
        "",
        _E + "test_e01_a_forked_child_that_only_asks_refreshes",
    ),
    "notice of forks without hooks": Mutation(
        "runtime/process.py",
        "        if self.pid != os.getpid():\n            # A",
        "        if False:\n            # A",
        _E + "test_e03_a_host_that_runs_no_fork_hooks_is_noticed",
    ),
    "a child's own connections": Mutation(
        "sources/http.py",
        "        self._wire.after_fork()\n",
        "        pass\n",
        _E + "test_e04_a_child_never_speaks_on_its_parents_tls_connection",
    ),
    "monotonic time": Mutation(
        "clock.py",
        "    monotonic_s = staticmethod(time.monotonic)\n",
        "    monotonic_s = staticmethod(time.time)\n",
        _E + "test_e05_a_step_of_the_wall_clock_changes_no_rhythm[-86400]",
    ),
    "connections that were idle": Mutation(
        "http/wire.py",
        "_IDLE_S: Final = 30.0",
        "_IDLE_S: Final = 1e9",
        _E + "test_e06_a_connection_that_was_idle_while_the_machine_slept_is_not_used_again",
    ),
    "supervision of threads": Mutation(
        "runtime/worker.py",
        "            worker._ended()\n",
        "            pass\n",
        _E + "test_e08_a_thread_that_dies_is_replaced[poller-SystemExit]",
    ),
    "waiting for a thread to start": Mutation(
        "client.py",
        "            if not all(lane is None or lane.running for lane in lanes):\n",
        "            if False:\n",
        _E + "test_e09_where_no_thread_can_be_started_questions_are_answered_and_events_kept",
    ),
    "logging handlers contained": Mutation(
        "runtime/episode.py",
        'contained(partial(self._log.log, level, "%s", text, exc_info=cause), otherwise=None)',
        'partial(self._log.log, level, "%s", text, exc_info=cause)(); contained(int, otherwise=0)',
        "test_callers.py::test_a05_a_logging_handler_that_raises_costs_a_line_and_nothing_else",
    ),
    "a key that does not print": Mutation(
        "http/secret.py",
        "        return self.shown\n",
        "        return str(self)\n",
        "test_secrets.py::test_an_exception_that_nobody_expected_shows_no_secret_to_a_crash_reporter",
    ),
    "a traceback without the key": Mutation(
        "http/leash.py",
        "                frame.tb_next = None\n                break\n",
        "                break\n",
        "test_secrets.py::test_an_exception_while_sending_shows_no_secret_to_a_crash_reporter",
    ),
    "a traceback of a stream without the key": Mutation(
        "http/leash.py",
        "            _conceal(error)\n            raise\n        raise NoReply(reason, url)\n\n    def _begin",
        "            raise\n        raise NoReply(reason, url)\n\n    def _begin",
        _UNIT + "test_http_stream.py::test_an_exception_nobody_expected_shows_no_key_in_its_local_variables",
    ),
    "verified certificates": Mutation(
        "http/leash.py",
        "    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n",
        "    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n    context.check_hostname = False\n",
        _UNIT
        + "test_http_connections.py::test_an_unknown_certificate_or_a_wrong_name_is_refused_before_anything_is_asked",
        # urllib3 tells the context what to verify, verifies names itself where it does not, and warns when nobody does.
        also=(
            "class _LeashedTls(_Leashed, HTTPSConnection):\n    pass\n",
            "class _LeashedTls(_Leashed, HTTPSConnection):\n"
            "    cert_reqs = property(lambda self: 'CERT_NONE', lambda self, value: None)\n"
            "    is_verified = property(lambda self: True, lambda self, value: None)\n",
        ),
    ),
    "bound of what is compressed": Mutation(
        "http/reply.py",
        "most_received = max_bytes // 2 if inflater else max_bytes",
        "most_received = max_bytes",
        _UNIT + "test_http_bounds.py::test_what_is_compressed_has_half_the_bound_on_the_wire[True]",
    ),
    "probes of a lasting outage": Mutation(
        "runtime/backoff.py",
        "self._probe_s is not None and self._normal >= _PATIENCE",
        "False",
        _UNIT
        + "test_delivery.py::test_an_outage_that_lasts_is_met_with_six_requests_a_minute_and_made_up_for_soon[0.0]",
    ),
    "older numbers set aside": Mutation(
        "runtime/current.py",
        "if not self._outlasted(parsed.definitions, older_by):",
        "if False:",
        _DOC + "test_b17_an_older_number_is_set_aside_for_five_minutes_and_then_taken_and_told",
    ),
    "late answers": Mutation(
        "runtime/current.py",
        "if late and (older_by is None or older_by >= 0):",
        "if False:",
        _UNIT + "test_current_numbers.py::test_a_late_document_replaces_what_came_meanwhile_only_if_it_is_newer",
    ),
    "handlers on a thread of their own": Mutation(
        "runtime/handlers.py",
        "        self._worker.wake()\n",
        "        self._step()\n",
        "test_callers.py::test_a06_a_handler_that_blocks_holds_up_nothing_but_handlers",
    ),
    "handlers contained": Mutation(
        "runtime/handlers.py",
        "contained(_call, handler, details, otherwise=None, failed=raised.append)",
        "_call(handler, details)",
        "test_callers.py::test_a06_handlers_that_raise_and_use_the_client_cost_nobody_anything",
    ),
    "changes of these very definitions": Mutation(
        "dialects/native_changes.py",
        '(epoch, head.get("base")) != (known.epoch, known.number) or ',
        "",
        _UNIT + "test_native_changes.py::test_a_change_that_was_made_from_something_else_means_a_fetch",
    ),
    "silence of a stream": Mutation(
        "sources/http.py",
        "_Stream(url, flow, _MOST_MISSED * (reply.heartbeat_s or _HEARTBEAT_S), max_bytes)",
        "_Stream(url, flow, 1e9, max_bytes)",
        _UNIT + "test_http_stream.py::test_silence_is_three_heartbeats_as_the_server_has_them",
    ),
    "sync of the spool": Mutation(
        "runtime/home.py",
        "            self._file.sync()\n",
        "            pass\n",
        _UNIT + "test_spool.py::test_a_power_loss_costs_no_more_than_the_last_second",
    ),
    "memory until a sync has worked again": Mutation(
        "runtime/spooler.py",
        "            self._home.sync()  # before memory lets go of them\n",
        "            pass\n",
        _UNIT + "test_spool_disk.py::test_after_a_failed_sync_events_stay_in_memory_until_one_has_worked",
    ),
    "note of what is settled": Mutation(
        "runtime/segment.py",
        '            self._note("a", start, self._at)\n',
        "            pass\n",
        _UNIT + "test_spool.py::test_what_the_collector_has_is_not_sent_again",
    ),
    "note of what is on its way": Mutation(
        "runtime/segment.py",
        '            self._note("s", self._at, end)\n',
        "            pass\n",
        _UNIT + "test_spool.py::test_a_batch_is_the_same_after_a_restart",
    ),
    "lock of a living process": Mutation(
        "disk/held.py",
        "            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "            pass\n",
        _DISK + "TestWhateverItIsMadeOf::test_a_lock_is_had_by_one_at_a_time",
    ),
    "a file on disk before its name": Mutation(
        "disk/folder.py",
        "                    os.fsync(file.fileno())\n",
        "",
        _DISK + "TestFailures::test_a_replaced_file_is_on_the_disk_before_its_name_and_its_name_before_anybody_goes_on",
    ),
}
