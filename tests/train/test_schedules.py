import math
from itertools import pairwise

import pytest

from autoseg.core.plan import TrainingSpec
from autoseg.errors import UnknownNameError
from autoseg.train.objective.schedules import SCHEDULES, learning_rate

EPOCHS = 1000


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (0, 0.01),
        (1, 0.00999100),
        (100, 0.00909533),
        (250, 0.00771890),
        (500, 0.00535887),
        (750, 0.00287175),
        (900, 0.00125893),
        (999, 1.99526e-5),
    ],
)
def test_poly_has_the_published_rate_at_the_start_of_each_epoch(epoch, rate):
    found = learning_rate(TrainingSpec(epochs=EPOCHS), epoch / EPOCHS)
    assert found == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_every_schedule_falls_from_one_to_zero(name):
    schedule = SCHEDULES.get(name)
    shares = [schedule(step / 200) for step in range(201)]
    assert shares[0] == 1.0
    assert shares[-1] == pytest.approx(0.0, abs=1e-12)
    assert all(later < earlier for earlier, later in pairwise(shares))
    assert schedule(1.001) == pytest.approx(0.0, abs=1e-12)


def test_cosine_is_half_way_down_at_half_time():
    spec = TrainingSpec(schedule="cosine", learning_rate=0.1)
    assert learning_rate(spec, 0.5) == pytest.approx(0.05)
    assert learning_rate(spec, 0.25) == pytest.approx(0.05 * (1 + math.sqrt(0.5)))


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_warm_up_rises_in_a_line_and_the_schedule_has_the_rest(name):
    spec = TrainingSpec(schedule=name, learning_rate=0.1, warmup=0.2)
    schedule = SCHEDULES.get(name)
    assert learning_rate(spec, 0.0) == pytest.approx(0.001)
    assert learning_rate(spec, 0.1) == pytest.approx(0.0505)
    assert learning_rate(spec, 0.2) == pytest.approx(0.1)
    assert learning_rate(spec, 0.6) == pytest.approx(0.1 * schedule(0.5))
    assert learning_rate(spec, 1.0) == pytest.approx(0.0, abs=1e-12)


def test_an_unknown_schedule_names_the_nearest():
    spec = TrainingSpec(schedule="cosin")
    with pytest.raises(UnknownNameError, match=r"no schedule named 'cosin'; did you mean 'cosine'"):
        learning_rate(spec, 0.5)
