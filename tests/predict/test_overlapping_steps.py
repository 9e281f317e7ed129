import threading

import pytest

from autoseg.predict.overlap import ahead


def test_items_come_in_order_and_at_most_one_is_made_ahead():
    made: list[int] = []
    taken = threading.Event()

    def items():
        for number in range(5):
            made.append(number)
            if len(made) == 2:
                taken.set()
            yield number

    found = []
    for number in ahead(items()):
        taken.wait(10)  # the one ahead
        assert len(made) <= number + 2
        found.append(number)
    assert found == [0, 1, 2, 3, 4]


def test_what_goes_wrong_is_raised_where_the_item_is_taken():
    def items():
        yield 1
        raise ValueError("no second one")

    numbers = ahead(items())
    assert next(numbers) == 1
    with pytest.raises(ValueError, match="no second one"):
        next(numbers)


def test_nothing_more_is_made_for_one_who_left():
    closed = threading.Event()
    made: list[int] = []

    def items():
        try:
            for number in range(100):
                made.append(number)
                yield number
        finally:
            closed.set()

    numbers = ahead(items())
    assert next(numbers) == 0
    numbers.close()
    assert closed.wait(10)
    assert len(made) <= 2


def test_steps_are_chained_and_stop_together():
    closed = threading.Event()

    def items():
        try:
            yield from range(100)
        finally:
            closed.set()

    def doubled(numbers):
        for number in numbers:
            yield 2 * number

    chain = ahead(doubled(ahead(items())))
    assert [next(chain), next(chain)] == [0, 2]
    chain.close()
    assert closed.wait(10)
