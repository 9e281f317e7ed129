from pathlib import Path

import pytest
import torch

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.model import Member, Model
from autoseg.core.plan import Configuration, NetworkSpec, Plan, TrainingSpec
from autoseg.errors import ArtifactError, AutosegError, WorkspaceError
from autoseg.io import bundle


def _model(weights: str = "weights.safetensors") -> Model:
    training = TrainingSpec(epochs=5)
    network = NetworkSpec(
        architecture="unet",
        features_per_stage=(4, 8),
        strides=((1, 1, 1), (1, 2, 2)),
        kernel_sizes=((1, 3, 3), (3, 3, 3)),
        blocks_per_stage=(2, 2),
        decoder_blocks_per_stage=(2,),
    )
    configuration = Configuration(
        spacing=(3.0, 0.8, 0.8),
        patch_size=(8, 16, 12),
        batch_size=2,
        median_shape=(20.0, 30.5, 31.0),
        batch_dice=True,
        normalization=("ct",),
        use_mask_for_norm=(False,),
        network=network,
        training=training,
    )
    stats = IntensityStats(
        mean=1, median=1, std=1, min=0, max=2, percentile_00_5=0, percentile_99_5=2
    )
    labels = LabelSpace(structures=(Structure(name="kidney", values=(1,)),))
    plan = Plan(
        name="default",
        preset="default",
        transpose=(0, 1, 2),
        budget_bytes=1,
        channels=("CT",),
        label_values=labels.values,
        intensities=(stats,),
        configurations={"3d_fullres": configuration},
        decisions=(),
    )
    return Model(
        task="T",
        run="default",
        channels=("CT",),
        labels=labels,
        plan=plan,
        training=training,
        held_out=("case_1",),
        members=(Member(configuration="3d_fullres", fold="fold0", weights=weights),),
        min_spacing=(1, 1, 1),
        max_spacing=(2, 2, 2),
        versions={"autoseg": "0"},
    )


def test_weights_come_back_bit_by_bit(tmp_path: Path):
    weights = {
        "a": torch.randn(3, 4, 5),
        "b": torch.randn(4).to(torch.bfloat16),
        "steps": torch.tensor(7),
    }

    bundle.save_weights(tmp_path / "fold0" / "weights.safetensors", weights)

    found = bundle.load_weights(tmp_path / "fold0" / "weights.safetensors")
    assert set(found) == set(weights)
    for name, tensor in weights.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_shared_transposed_and_trained_tensors_are_written(tmp_path: Path):
    whole = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))
    channels_last = torch.randn(1, 2, 3, 4, 5).to(memory_format=torch.channels_last_3d)
    weights = {"whole": whole, "tied": whole, "turned": whole.T, "last": channels_last}

    bundle.save_weights(tmp_path / "w.safetensors", weights)

    found = bundle.load_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_a_model_comes_back(tmp_path: Path):
    bundle.save_model(tmp_path / "bundle.json", _model())

    assert bundle.load_model(tmp_path / "bundle.json") == _model()


def test_a_model_of_numbers_that_no_training_leaves_is_refused(tmp_path: Path):
    training = TrainingSpec(mirror_axes=(0, 1, 2) * 12)
    bundle.save_model(tmp_path / "bundle.json", _model().model_copy(update={"training": training}))

    with pytest.raises(ArtifactError, match=r"mirror_axes: must be different and below 3"):
        bundle.load_model(tmp_path / "bundle.json")


def test_missing_weights_and_models_are_told(tmp_path: Path):
    with pytest.raises(WorkspaceError, match=r"w\.safetensors: weights do not exist"):
        bundle.load_weights(tmp_path / "w.safetensors")
    with pytest.raises(WorkspaceError, match=r"bundle\.json: does not exist"):
        bundle.load_model(tmp_path / "bundle.json")


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickled", b"x" * 500])
def test_damaged_weights_are_named(tmp_path: Path, content: bytes):
    (tmp_path / "w.safetensors").write_bytes(content)

    with pytest.raises(ArtifactError, match=r"w\.safetensors: damaged weights"):
        bundle.load_weights(tmp_path / "w.safetensors")


def test_truncated_weights_are_named(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    bundle.save_weights(path, {"a": torch.randn(100)})
    path.write_bytes(path.read_bytes()[:-50])

    with pytest.raises(ArtifactError, match="damaged weights"):
        bundle.load_weights(path)


def test_a_model_cannot_name_weights_outside_its_folder(tmp_path: Path):
    (tmp_path / "m").mkdir()
    bundle.save_model(tmp_path / "m" / "bundle.json", _model("../other.safetensors"))

    with pytest.raises(ArtifactError, match="lie outside the model's folder"):
        bundle.load_model(tmp_path / "m" / "bundle.json")


def test_weights_that_cannot_be_written_are_one_line(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(AutosegError, match="file is a file"):
        bundle.save_weights(tmp_path / "file" / "w.safetensors", {"a": torch.ones(1)})
