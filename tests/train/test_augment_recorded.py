import pytest

from autoseg.train.inputs import TrainingChanges, TrainRequest, load_inputs


@pytest.mark.parametrize(
    ("augmentation", "mirrored"),
    [("default", (0, 1, 2)), ("light", (2,)), ("no-mirror", ()), ("none", ())],
)
def test_the_recipe_records_the_axes_that_are_mirrored(toy, augmentation, mirrored):
    changes = TrainingChanges(augmentation=augmentation)
    request = TrainRequest(configuration="3d_fullres", fold="fold0", changes=changes)
    inputs = load_inputs(toy.task, request)
    assert inputs.configuration.training.mirror_axes == (0, 1, 2)
    assert inputs.spec.augmentation == augmentation
    assert inputs.spec.mirror_axes == mirrored
    assert inputs.batches("train").mirror_axes == mirrored
    assert inputs.model(request, "weights").training.mirror_axes == mirrored
