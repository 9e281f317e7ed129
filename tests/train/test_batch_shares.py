from dataclasses import replace

import numpy as np
import pytest
from training_runs import request

from autoseg.train.batches import make_batch, num_random, share_of
from autoseg.train.inputs import load_inputs


@pytest.mark.parametrize(
    ("batch_size", "size", "shares"),
    [
        (4, 2, [[0, 1], [2, 3]]),
        (3, 2, [[0, 1], [2]]),
        (5, 3, [[0, 1], [2, 3], [4]]),
        (2, 2, [[0], [1]]),
        (3, 1, [[0, 1, 2]]),
    ],
)
def test_a_batch_is_dealt_in_order_and_as_evenly_as_possible(batch_size, size, shares):
    assert [list(share_of(batch_size, rank, size)) for rank in range(size)] == shares


@pytest.mark.parametrize("part", ["train", "validation"])
def test_the_parts_of_a_batch_are_the_batch(toy, part):
    spec = replace(load_inputs(toy.task, request()).batches(part), batch_size=5)
    assert (
        num_random(5, spec.foreground_fraction) == 3
    )  # the others, at the end, are centred on a structure
    whole = make_batch(spec, 1, 2)
    parts = [make_batch(replace(spec, share=(rank, 3)), 1, 2) for rank in range(3)]
    assert [len(each.images) for each in parts] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([each.images for each in parts]), whole.images)
    np.testing.assert_array_equal(np.concatenate([each.labels for each in parts]), whole.labels)
    assert tuple(case for each in parts for case in each.cases) == whole.cases


def test_a_process_tells_the_samples_it_makes_by_their_numbers_in_the_epoch(toy):
    spec = replace(load_inputs(toy.task, request()).batches("train"), batch_size=5, share=(1, 2))
    noted = []
    make_batch(spec, 0, 2, noted.append)
    assert noted == [13, 14]
