"""What is on a disk after an accident: what is before the damage is sent, the damage is counted, and it goes on."""

from __future__ import annotations

import pytest
from fakes import metric
from spools import World, numbers

from flagkit.runtime.records import HEAD, created_ms, framed, head, note, parse, read_notes, survey

EVENTS = [metric(number) for number in range(20)]
BODY = framed(EVENTS)
SIZE = len(BODY) // 20
WHOLE = head(1_795_443_200_000) + BODY


def left_by_the_dead(*segments: bytes) -> World:
    """A disk with the segments of a process that is no more."""
    world = World()
    first = world.process()
    first.track(1)
    first.write()
    (home,) = world.homes()
    home.remove("000001.seg")
    for number, data in enumerate(segments, 1):
        home.put(f"{number:06d}.seg", data)
    first.kill()
    return world


def adopted(world: World) -> tuple[list[int], int, dict[str, int]]:
    """What arrives of it, how many events it was said to be, and what was lost."""
    heir = world.process()
    heir.run(10)
    account = heir.account
    assert account.balanced
    assert account.pending == 0
    assert heir.spool.left(0) == 0
    assert world.homes() == []
    return numbers(world), account.adopted, dict(account.lost)


def test_every_beginning_of_a_segment_is_recovered_and_a_torn_end_is_no_loss() -> None:
    for size in range(HEAD + 3 * SIZE + 1):
        whole = max(0, size - HEAD) // SIZE
        assert adopted(left_by_the_dead(WHOLE[:size])) == (list(range(whole)), whole, {})


@pytest.mark.parametrize("at", [*range(HEAD, HEAD + 12), *range(HEAD + 12, len(WHOLE), 61), len(WHOLE) - 1])
@pytest.mark.parametrize("bit", [0, 3, 7])
def test_a_flipped_bit_costs_the_rest_of_its_segment_which_is_kept_and_counted(at: int, bit: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[at] ^= 1 << bit
    whole = (at - HEAD) // SIZE
    world = left_by_the_dead(bytes(damaged), head(1_795_443_200_000) + framed([metric(77)]))
    got, said, lost = adopted(world)
    assert got == [*range(whole), 77], "the next segment is read"
    assert said == 20 + 1
    assert lost == {"damaged": 20 - whole}, "as many as there were"
    ((name, kept),) = world.dead().items()
    assert name.endswith("-000001.seg.bad")
    assert kept == damaged[HEAD + whole * SIZE :]


@pytest.mark.parametrize("zeros", [1, 7, 8, 50, 4096])
def test_zeros_at_the_end_are_damage_unless_there_is_not_even_a_length(zeros: int) -> None:
    lost = {"damaged": 1} if zeros >= 8 else {}
    assert adopted(left_by_the_dead(WHOLE + bytes(zeros))) == (list(range(20)), 20 + len(lost), lost)


def test_a_zeroed_end_is_damage() -> None:
    got, _, lost = adopted(left_by_the_dead(WHOLE[: -3 * SIZE] + bytes(3 * SIZE)))
    assert (got, lost) == (list(range(17)), {"damaged": 1})


@pytest.mark.parametrize(
    "start", [bytes(HEAD), b"x" * HEAD, b"flagkit\0" + (2).to_bytes(4) + bytes(HEAD - 12), WHOLE[1 : HEAD + 1]]
)
def test_a_segment_of_an_unknown_kind_is_kept_and_counted(start: bytes) -> None:
    world = left_by_the_dead(start + BODY, WHOLE)
    got, said, lost = adopted(world)
    assert got == list(range(20))
    assert said - 20 == lost["damaged"] >= 1
    assert list(world.dead().values()) == [start + BODY]


@pytest.mark.parametrize("junk", [b"", b"\n", b"a 0 99", b"a 24 999999 00000000\n", b"\xff" * 300])
def test_notes_that_make_no_sense_are_ignored(junk: bytes) -> None:
    world = left_by_the_dead(WHOLE)
    world.homes()[0].put("000001.ack", note("a", HEAD, HEAD + 4 * SIZE) + junk)
    assert adopted(world) == (list(range(4, 20)), 16, {})


def test_notes_of_more_than_there_is_leave_nothing_to_send() -> None:
    world = left_by_the_dead(WHOLE)
    world.homes()[0].put("000001.ack", note("a", HEAD, len(WHOLE) + 500))
    assert adopted(world) == ([], 0, {})


def test_files_of_others_among_ours_disturb_nobody() -> None:
    world = left_by_the_dead(WHOLE)
    world.homes()[0].put("README", b"?")
    world.root().put("000-file", b"?")
    world.root().folder("somebody's").put("000001.seg", b"?")
    heir = world.process()
    heir.run(10)
    assert heir.account == (0, 20, 20, {}, 0)
    assert "somebody's" in world.root().names()


def test_a_file_that_is_no_segment_of_ours_is_left_alone() -> None:
    world = left_by_the_dead(bytes(17 * 1024 * 1024), WHOLE)
    heir = world.process()
    heir.run(300)
    assert heir.account == (0, 20, 20, {}, 0)
    assert heir.spool.left(0) == 0
    assert list(world.files()) == ["000001.seg"]
    assert heir.spooler.found == 2, "it is not looked into again and again"


def test_what_is_kept_of_damaged_segments_is_bounded() -> None:
    damaged = head(1_795_443_200_000) + bytes(700_000)
    world = left_by_the_dead(damaged, damaged, damaged, WHOLE)
    got, _, lost = adopted(world)
    assert (got, lost) == (list(range(20)), {"damaged": 3})
    assert sum(map(len, world.dead().values())) == 1024 * 1024


def test_damage_to_a_segment_of_a_process_that_lives_costs_what_is_not_sent_yet() -> None:
    world = World()
    process = world.process()
    process.track(20)
    process.write()
    (home,) = world.homes()
    damaged = bytearray(home.read("000001.seg"))
    damaged[HEAD + 15 * SIZE + 20] ^= 4
    home.put("000001.seg", bytes(damaged))
    process.run(10)
    process.track(5)
    process.run(10)
    assert process.account == (25, 0, 20, {"damaged": 5}, 0)
    assert numbers(world) == [*range(15), *range(20, 25)]


def test_a_segment_that_is_removed_by_somebody_costs_what_is_not_sent_yet() -> None:
    world = World()
    process = world.process()
    process.track(5)
    process.write()
    world.homes()[0].remove("000001.seg")
    process.run(10)
    process.track(5)
    process.run(70)
    account = process.account
    assert account.balanced
    assert (account.pending, account.lost["damaged"] >= 5) == (0, True)


# -- the form of the files


def test_what_is_written_can_be_read() -> None:
    assert [text for text, _ in parse(BODY)[0]] == EVENTS
    assert sum(size for _, size in parse(BODY)[0]) == len(BODY)
    assert created_ms(WHOLE) == 1_795_443_200_000
    assert survey(WHOLE, HEAD) == (20, len(WHOLE))
    assert survey(WHOLE, HEAD + 3 * SIZE) == (17, len(WHOLE))


def test_notes_tell_what_is_settled_and_what_was_on_its_way() -> None:
    notes = note("s", 24, 90) + note("s", 24, 50) + note("a", 24, 50) + note("s", 50, 90)
    assert read_notes(notes) == (50, (50, 90))
    assert read_notes(notes[:-3]) == (50, None), "the last line was being written"
    assert read_notes(b"") == (0, None)


def test_an_event_that_is_larger_than_a_chunk_is_read_whole() -> None:
    world = World()
    process = world.process(max_event_bytes=1_000_000, batch_size=100)
    for size in (10, 64 * 1024 - 40, 64 * 1024, 300_000, 999_000, 20):
        process.buffer.append(f'{{"id": "{size:032x}", "x": "{"x" * size}"}}')
    process.write()
    process.run(10)
    assert process.account == (6, 0, 6, {}, 0)
    assert [len(event["x"]) for event in world.sink.stored.values()] == [10, 65496, 65536, 300_000, 999_000, 20]
