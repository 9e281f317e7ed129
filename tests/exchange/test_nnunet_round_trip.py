import pytest
import torch
from random_folds import CASCADE, FULL, LOW, make_fold, small_cascade_task

from autoseg.exchange.nnunet_export import export_to_nnunet
from autoseg.exchange.nnunet_import import import_models
from autoseg.io import bundle
from autoseg.io.workspace import Workspace


@pytest.fixture
def task(toy, tmp_path):
    return small_cascade_task(toy, tmp_path)


def there_and_back(bundles, folder):
    export_to_nnunet(bundles, folder / "out")
    imported = import_models(Workspace(folder / "back"), folder / "out")
    return {(fold.folder.configuration, fold.folder.fold): fold.folder for fold in imported.folds}


def weights_of(path):
    return bundle.load_weights(path.with_name("weights.safetensors"))


def assert_same_use(back, made):
    """Everything that a prediction depends on."""
    assert back.recipe == made.recipe
    assert back.labels == made.labels
    assert back.configuration.network == made.configuration.network
    assert back.configuration.patch_size == made.configuration.patch_size
    assert back.configuration.previous == made.configuration.previous
    assert back.training.mirror_axes == made.training.mirror_axes
    assert (back.min_spacing, back.max_spacing) == (made.min_spacing, made.max_spacing)


def test_a_model_that_went_to_nnunet_comes_back_as_it_was(task, tmp_path):
    bundles = [make_fold(task, fold=fold, seed=n) for n, fold in enumerate(("fold0", "everything"))]
    folders = there_and_back(bundles, tmp_path)
    for made in bundles:
        back = folders[FULL, made.parent.name].bundle
        assert_same_use(bundle.load_model(back), bundle.load_model(made))
        ours, theirs = weights_of(made), weights_of(back)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_so_does_a_cascade(task, tmp_path):
    low = [make_fold(task, LOW, fold, seed) for seed, fold in enumerate(("fold0", "fold1"))]
    made = make_fold(task, CASCADE, previous=low[:1])
    back = there_and_back([made], tmp_path)[CASCADE, "fold0"].bundle
    model = bundle.load_model(back)
    assert_same_use(model, bundle.load_model(made))
    previous = back.parent / model.previous[0]
    ours, theirs = weights_of(low[0]), weights_of(previous)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
