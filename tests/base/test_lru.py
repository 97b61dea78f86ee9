"""What was used last is kept, within bounds."""

from vidkd.base.lru import LRUCache


def test_what_was_not_used_longest_gives_way() -> None:
    recent: LRUCache[str, int] = LRUCache(most_entries=3, most_bytes=1000)
    for number, key in enumerate("abc"):
        recent.put(key, number, 10)
    assert recent.get("a") == 0  # used again
    recent.put("d", 3, 10)
    assert [recent.get(key) for key in "abcd"] == [0, None, 2, 3]
    assert (len(recent), recent._bytes) == (3, 30)


def test_bytes_are_bounded_too() -> None:
    recent: LRUCache[str, str] = LRUCache(most_entries=100, most_bytes=100)
    for key in "abcd":
        recent.put(key, key, 40)
    assert [recent.get(key) for key in "abcd"] == [None, None, "c", "d"]
    recent.put("e", "e", 100)
    assert (len(recent), recent._bytes, recent.get("e")) == (1, 100, "e")


def test_a_new_value_takes_the_place_of_the_old_one() -> None:
    recent: LRUCache[str, int] = LRUCache(most_entries=2, most_bytes=100)
    recent.put("a", 1, 90)
    recent.put("a", 2, 60)
    recent.put("b", 3, 40)
    assert (recent.get("a"), recent.get("b"), recent._bytes) == (2, 3, 100)


def test_what_is_too_large_by_itself_drives_nothing_out() -> None:
    recent: LRUCache[str, int] = LRUCache(most_entries=2, most_bytes=100)
    recent.put("a", 1, 10)
    recent.put("b", 2, 10)
    recent.put("b", 3, 101)  # and what it was to replace is out of date
    assert (recent.get("a"), recent.get("b"), recent._bytes) == (1, None, 10)
