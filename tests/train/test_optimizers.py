import pytest
import torch
from torch.nn import Parameter

from autoseg.core.plan import TrainingSpec
from autoseg.errors import AutosegError
from autoseg.train.inputs import TrainingChanges
from autoseg.train.objective.optimizers import DEFAULT_RATES, OPTIMIZERS, set_learning_rate

RATE, DECAY, MOMENTUM = 0.1, 0.01, 0.9
SPEC = TrainingSpec(learning_rate=RATE, weight_decay=DECAY, momentum=MOMENTUM)
START, GRADIENTS = 2.0, (0.5, -0.25, 1.0)


def by_sgd(value):
    velocity = 0.0
    for gradient in GRADIENTS:
        slope = gradient + DECAY * value
        velocity = MOMENTUM * velocity + slope
        value -= RATE * (slope + MOMENTUM * velocity)
    return value


def by_adam(value, decoupled):
    mean = square = 0.0
    for step, gradient in enumerate(GRADIENTS, start=1):
        if decoupled:
            value -= RATE * DECAY * value
        slope = gradient if decoupled else gradient + DECAY * value
        mean = 0.9 * mean + 0.1 * slope
        square = 0.999 * square + 0.001 * slope**2
        root = (square / (1 - 0.999**step)) ** 0.5
        value -= RATE * mean / (1 - 0.9**step) / (root + 1e-8)
    return value


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sgd", by_sgd(START)), ("adam", by_adam(START, False)), ("adamw", by_adam(START, True))],
)
def test_three_steps_are_those_of_the_formula(name, expected):
    weight = Parameter(torch.full((3, 2), START))
    optimizer = OPTIMIZERS.get(name)([weight], SPEC)
    for gradient in GRADIENTS:
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
    assert weight.detach().flatten().tolist() == pytest.approx([expected] * 6, rel=1e-5)


def test_without_momentum_a_step_is_the_gradient():
    weight = Parameter(torch.full((2,), START))
    spec = SPEC.model_copy(update={"momentum": 0.0, "weight_decay": 0.0})
    optimizer = OPTIMIZERS.get("sgd")([weight], spec)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert weight.detach().tolist() == pytest.approx([START - RATE] * 2)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_finds_the_minimum_and_follows_the_rate(name):
    weight = Parameter(torch.tensor([3.0, -2.0]))
    optimizer = OPTIMIZERS.get(name)(iter([weight]), SPEC)
    for step in range(300):
        set_learning_rate(optimizer, RATE * (1 - step / 300))
        optimizer.zero_grad()
        (weight - 1).square().sum().backward()
        optimizer.step()
    before = weight.detach().clone()
    set_learning_rate(optimizer, 0.0)
    optimizer.step()
    assert before.tolist() == pytest.approx([1.0, 1.0], abs=0.05)
    assert torch.equal(weight.detach(), before)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_has_a_rate_of_its_own(name):
    assert 0 < DEFAULT_RATES[name] < 1


@pytest.mark.parametrize(
    ("changes", "optimizer", "rate"),
    [
        ({}, "sgd", 0.005),
        ({"optimizer": "adam"}, "adam", 3e-4),
        ({"optimizer": "adamw", "learning_rate": 0.002}, "adamw", 0.002),
        ({"optimizer": "sgd"}, "sgd", 0.005),
        ({"learning_rate": 0.02}, "sgd", 0.02),
    ],
)
def test_another_optimizer_brings_its_rate_unless_one_is_given(changes, optimizer, rate):
    planned = TrainingSpec(learning_rate=0.005)
    spec = TrainingChanges(**changes).applied_to(planned)
    assert (spec.optimizer, spec.learning_rate) == (optimizer, rate)


@pytest.mark.parametrize(
    ("changes", "schedule", "warmup"),
    [
        ({}, "poly", 0.1),
        ({"schedule": "cosine"}, "cosine", 0.05),
        ({"schedule": "cosine", "warmup": 0.0}, "cosine", 0.0),
        ({"schedule": "poly"}, "poly", 0.1),
        ({"optimizer": "adam"}, "poly", 0.1),
    ],
)
def test_another_schedule_brings_its_warm_up_unless_one_is_given(changes, schedule, warmup):
    spec = TrainingChanges(**changes).applied_to(TrainingSpec(warmup=0.1))
    assert (spec.schedule, spec.warmup) == (schedule, warmup)


def test_an_optimizer_of_a_plug_in_keeps_the_planned_rate():
    spec = TrainingChanges(optimizer="lion").applied_to(TrainingSpec(learning_rate=0.005))
    assert spec.learning_rate == 0.005


def test_an_unknown_optimizer_names_the_nearest():
    with pytest.raises(AutosegError, match=r"no optimizer named 'adamv'; did you mean 'adamw?'"):
        OPTIMIZERS.get("adamv")
