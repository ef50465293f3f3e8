"""Places for those who come from outside."""

from leaderjob.places import Places


def test_there_are_so_many_places_and_so_many_for_one() -> None:
    places = Places(3, per_peer=2)
    taken = [places.take("a") for _ in range(3)]
    assert [place is not None for place in taken] == [True, True, False]
    assert places.take("b") is not None
    assert places.take("c") is None


def test_a_place_that_was_left_is_free_again() -> None:
    places = Places(2, per_peer=1)
    first = places.take("a")
    assert first is not None
    assert places.take("a") is None
    first.leave()
    assert places.take("a") is not None


def test_leaving_twice_gives_away_nobody_elses_place() -> None:
    places = Places(2, per_peer=2)
    first, second = places.take("a"), places.take("a")
    assert first is not None
    assert second is not None
    first.leave()
    first.leave()
    assert places.take("a") is not None
    assert places.take("a") is None
