import pytest
from training_runs import small_task

from autoseg.core.dataset import Split
from autoseg.core.ends import BACKGROUND, Ends, match_channels, match_ends
from autoseg.core.model import Member, Model
from autoseg.core.plan import InitialWeights, NetworkSpec, TrainingSpec
from autoseg.errors import AutosegError
from autoseg.io.task import load_dataset, load_plan
from autoseg.networks.transfer import Transfer, find_transfer, layout_of
from autoseg.train.initialization import (
    prepared_otherwise,
    refuse_strange_channels,
    refuse_too_little,
    seen_before,
    tell,
)
from autoseg.train.inputs import TrainingChanges

FLAT = NetworkSpec(
    architecture="unet",
    features_per_stage=(4, 8),
    strides=((1, 1), (2, 2)),
    kernel_sizes=((3, 3), (3, 3)),
    blocks_per_stage=(1, 1),
    decoder_blocks_per_stage=(1,),
)
SOLID = NetworkSpec(
    architecture="unet",
    features_per_stage=(4, 8),
    strides=((1, 1, 1), (2, 2, 2)),
    kernel_sizes=((3, 3, 3), (3, 3, 3)),
    blocks_per_stage=(1, 1),
    decoder_blocks_per_stage=(1,),
)
SOURCE = InitialWeights(label="Task_A 2d fold0", weights="0123456789abcdef")


def ends(channels, structures, overlapping=False):
    outputs = structures if overlapping else (BACKGROUND, *structures)
    return Ends(channels=channels, predicted=(), outputs=outputs, overlapping=overlapping)


def found(wanted, known, wanted_spec=FLAT, known_spec=FLAT):
    layouts = [
        layout_of(spec, these.num_inputs, len(these.outputs))
        for spec, these in ((wanted_spec, wanted), (known_spec, known))
    ]
    match = match_ends(wanted, known)
    return find_transfer(layouts[0], layouts[1].shapes, known_spec.num_stages, match), match


# Defaults


def test_fine_tuning_brings_a_tenth_of_the_rate_and_a_warm_up():
    spec = TrainingChanges().applied_to(TrainingSpec(learning_rate=0.02), SOURCE)
    assert (spec.learning_rate, spec.warmup, spec.init_from) == (0.002, 0.05, SOURCE)


def test_fine_tuning_with_another_optimiser_brings_a_tenth_of_its_rate():
    spec = TrainingChanges(optimizer="adamw").applied_to(TrainingSpec(), SOURCE)
    assert spec.learning_rate == 3e-5


def test_a_longer_warm_up_that_is_planned_is_kept():
    assert TrainingChanges().applied_to(TrainingSpec(warmup=0.2), SOURCE).warmup == 0.2


def test_a_rate_and_a_warm_up_that_are_given_count():
    changes = TrainingChanges(learning_rate=0.05, warmup=0.0)
    spec = changes.applied_to(TrainingSpec(), SOURCE)
    assert (spec.learning_rate, spec.warmup) == (0.05, 0.0)


def test_initial_weights_that_a_plan_names_do_not_count():
    edited = TrainingSpec(init_from=SOURCE)
    assert TrainingChanges().applied_to(edited).init_from is None


# What is told


def test_everything_that_was_taken_is_one_line_each():
    lines = tell(*found(ends(("CT",), ("liver",)), ends(("CT",), ("liver",))), "Task_A 2d fold0")
    assert lines == [
        "from Task_A 2d fold0: 16 of 16 tensors taken (100% of the weights)",
        "channels: CT taken by name",
        "structures: liver taken by name",
    ]


def test_what_is_new_and_what_is_not_used_is_named():
    wanted = ends(("T1", "T2"), ("liver", "kidney", "spleen"))
    lines = tell(*found(wanted, ends(("FLAIR", "T1"), ("spleen", "liver", "gut"))), "A")
    assert lines[1:] == [
        "channels: T1 taken by name; T2 new, as initialised; FLAIR of the model not used",
        (
            "structures: liver, spleen taken by name; kidney new, as initialised; gut of the model "
            "not used"
        ),
    ]


def test_tensors_that_were_not_taken_are_named_with_the_reason():
    three = FLAT.model_copy(update={"blocks_per_stage": (1, 3)})
    lines = tell(*found(ends(("CT",), ("a",)), ends(("CT",), ("a",)), three), "A")
    assert lines[-1] == (
        "not taken: encoder.1.1.conv.weight (the model has none), encoder.1.1.conv.bias (the model "
        "has none), encoder.1.1.norm.weight (the model has none), encoder.1.1.norm.bias (the model "
        "has none) and 4 more"
    )


def test_a_channel_that_is_another_one_is_named():
    lines = tell(*found(ends(("T1",), ("a",)), ends(("MRI",), ("a",))), "A")
    assert lines[1] == "channels: T1 takes the place of MRI"


def test_structures_that_overlap_on_one_side_only_are_explained():
    wanted = ends(("CT",), ("a", "b"), overlapping=True)
    lines = tell(*found(wanted, ends(("CT",), ("a", "b"))), "A")
    assert lines[2] == (
        "structures: a, b new, as initialised; a, b of the model not used (structures overlap on "
        "one side only: their outputs mean something else)"
    )


# What is refused


def test_a_model_of_other_channels_is_refused():
    match = match_channels(("CT", "PET"), ("T1", "T2"))
    with pytest.raises(AutosegError) as error:
        refuse_strange_channels(match, "Task_A/2d/fold0")
    assert str(error.value) == (
        "--init-from Task_A/2d/fold0: none of the channels CT, PET is one of the model's (T1, T2); "
        "name the channels in dataset.json as the model does, or choose another model"
    )


def test_a_model_of_other_dimensions_is_refused():
    transfer, _ = found(ends(("CT",), ("a",)), ends(("CT",), ("a",)), FLAT, SOLID)
    with pytest.raises(AutosegError) as error:
        refuse_too_little(transfer, "A", FLAT, SOLID)
    assert str(error.value) == (
        "--init-from A: only 7% of the network's weights can be taken: the network is 2D, the "
        "model's 3D; train a 3D configuration, or begin with another model"
    )


def test_a_network_of_other_features_is_refused_with_the_plan_that_mends_it():
    wide = FLAT.model_copy(update={"features_per_stage": (8, 16)})
    transfer, _ = found(ends(("CT",), ("a",)), ends(("CT",), ("a",)), wide, FLAT)
    with pytest.raises(AutosegError) as error:
        refuse_too_little(transfer, "A", wide, FLAT)
    assert str(error.value) == (
        "--init-from A: only 0% of the network's weights can be taken: features 8 16 here, 4 8 "
        "there; plan for it: autoseg plan TASK --plan NAME --from-model A, then train with that "
        "--plan"
    )


@pytest.mark.parametrize(("num_taken", "is_enough"), [(50, True), (49, False)])
def test_half_of_the_weights_are_enough(num_taken, is_enough):
    transfer = Transfer(moves={}, left={}, num_taken=num_taken, num_weights=100)
    if is_enough:
        refuse_too_little(transfer, "A", FLAT, FLAT)
    else:
        with pytest.raises(AutosegError, match=r"49%.*the tensors have other shapes"):
            refuse_too_little(transfer, "A", FLAT, FLAT)


# What is warned of


@pytest.fixture
def planned(toy, tmp_path, monkeypatch):
    """The toy's data and a model of it that held out two cases."""
    task = small_task(toy, tmp_path, monkeypatch)
    dataset, plan = load_dataset(task), load_plan(task, "default")
    model = Model(
        task=task.name,
        run="long",
        channels=dataset.channels,
        labels=dataset.labels,
        plan=plan,
        training=TrainingSpec(),
        held_out=("ball_00", "ball_01"),
        members=(Member(configuration="2d", fold="fold0", weights="weights.safetensors"),),
        min_spacing=(1.0, 1.0, 1.0),
        max_spacing=(1.0, 1.0, 1.0),
        versions={},
    )
    return dataset, model


def test_cases_the_model_may_have_been_trained_on_are_warned_of(planned):
    dataset, model = planned
    split = Split(train=("ball_00", "ball_03"), validation=("ball_01", "ball_02", "ball_04"))
    assert seen_before(model, dataset, split) == (
        "2 cases that this fold holds out (the first is 'ball_02') may have been trained on by "
        "Task01_Ball 2d fold0 (run long), which is of the same task: their scores will be too "
        "good; begin each fold with the model of the same fold"
    )


def test_cases_the_model_held_out_too_are_not_warned_of(planned):
    dataset, model = planned
    split = Split(train=("ball_02", "ball_03"), validation=("ball_01", "ball_00"))
    assert seen_before(model, dataset, split) == ""


def test_cases_of_another_task_and_those_of_everything_are_not_warned_of(planned):
    dataset, model = planned
    split = Split(train=("ball_00",), validation=("ball_02",))
    other = model.model_copy(update={"task": "Task_B"})
    assert seen_before(other, dataset, split) == ""
    everything = Split(train=("ball_02",), validation=("ball_02",))
    assert seen_before(model, dataset, everything) == ""


def test_images_prepared_like_the_models_are_not_warned_of(planned):
    _, model = planned
    recipe = model.recipe
    near = recipe.model_copy(update={"spacing": tuple(1.05 * mm for mm in recipe.spacing)})
    for one in (recipe, near):
        assert prepared_otherwise("A", model, one, match_channels(("MRI",), ("MRI",))) == ""


def test_images_prepared_otherwise_are_warned_of_with_the_plan_that_mends_it(planned):
    _, model = planned
    recipe = model.recipe.model_copy(
        update={"spacing": (2.5, 2.25), "normalization": ("rescale_to_0_1",)}
    )
    assert prepared_otherwise("A", model, recipe, match_channels(("MRI",), ("MRI",))) == (
        "images are prepared otherwise than for the model: 2.5 x 2.25 mm (there 1.25 x 1.125 mm), "
        "MRI normalized otherwise; as for the model: autoseg plan TASK --plan NAME --from-model A"
    )


def test_ct_with_other_intensities_is_warned_of(planned):
    _, model = planned
    stats = model.plan.intensities[0]
    normalization = {"normalization": ("ct",)}
    flat = model.configuration.model_copy(update=normalization)
    plan = model.plan.model_copy(update={"configurations": {"2d": flat}})
    model = model.model_copy(update={"plan": plan})
    match = match_channels(("CT",), ("CT",))
    for change, is_other in ((0.05, False), (0.2, True)):
        moved = stats.model_copy(update={"mean": stats.mean + change * stats.std})
        recipe = model.recipe.model_copy(update={"intensities": (moved,)})
        assert bool(prepared_otherwise("A", model, recipe, match)) == is_other
