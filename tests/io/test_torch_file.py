import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from autoseg.errors import ArtifactError
from autoseg.io.torch_file import StoredTensor, TorchFile


@pytest.fixture
def save(tmp_path):
    """Saves something as nnU-Net does; returns the file."""

    def save(content, **options):
        torch.save(content, tmp_path / "checkpoint_final.pth", **options)
        return tmp_path / "checkpoint_final.pth"

    return save


def refusal(path):
    with pytest.raises(ArtifactError) as caught, TorchFile(path):
        pass
    assert "\n" not in str(caught.value)
    assert str(caught.value.place).endswith("checkpoint_final.pth")
    return caught.value.finding


def rewritten(path, changes, **options):
    """The same archive with other entries; None drops one."""
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    folder = next(iter(entries)).partition("/")[0]
    entries |= {f"{folder}/{name}": data for name, data in changes.items()}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in entries.items():
            if data is not None:
                archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool]
)
def test_tensors_come_back_as_they_were(save, dtype):
    tensor = (torch.arange(24).reshape(2, 3, 4) % 7).to(dtype)

    with TorchFile(save({"w": tensor, "empty": torch.zeros(0, 3)})) as file:
        stored = file.content
        assert torch.equal(file.tensor(stored["w"]), tensor)
        assert file.tensor(stored["w"]).dtype == dtype
        assert file.tensor(stored["empty"]).shape == (0, 3)


def test_views_and_shared_tensors_are_read_where_they_lie(save):
    whole = torch.arange(20.0).reshape(4, 5)
    views = {"row": whole[2], "turned": whole.t(), "last": whole[3, 4], "wide": whole[:1].clone()}

    with TorchFile(save(views | {"parameter": torch.nn.Parameter(whole)})) as file:
        for name, view in views.items():
            assert torch.equal(file.tensor(file.content[name]), view)
        assert torch.equal(file.tensor(file.content["parameter"]), whole)


def test_a_state_dict_and_what_optimizers_leave_are_read(save):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.InstanceNorm2d(2))
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    content = {"w": network.state_dict(), "o": optimizer.state_dict(), "d": torch.device("cpu")}

    with TorchFile(save(content)) as file:
        assert list(file.content["w"]) == ["0.weight", "0.bias"]
        assert all(isinstance(tensor, StoredTensor) for tensor in file.content["w"].values())
        assert file.content["d"] is None


@pytest.mark.parametrize(
    "number",
    [
        *(np.float64(0.875), np.float32(-2.5), np.float16(0.5), np.int64(-7), np.int32(9)),
        *(np.uint8(200), np.bool_(True), np.int8(-1), np.uint64(2**63)),
    ],
)
def test_numbers_of_numpy_become_plain_ones(save, number):
    with TorchFile(save({"logging": [number]})) as file:
        (read,) = file.content["logging"]

    assert read == number
    assert type(read) in (int, float, bool)


def test_arrays_and_texts_of_numpy_are_left_out(save):
    with TorchFile(save({"a": np.arange(3), "b": np.str_("x"), "after": 1})) as file:
        assert file.content == {"a": None, "b": None, "after": 1}


def test_a_checkpoint_that_runs_something_is_refused_and_nothing_runs(save, tmp_path):
    class Command:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'harm'}",)

    assert "system', which is no tensor or plain value" in refusal(save({"w": Command()}))
    assert not (tmp_path / "harm").exists()


def test_a_module_or_another_object_is_refused_by_name(save):
    assert "Conv2d', which is no tensor" in refusal(save({"w": torch.nn.Conv2d(1, 1, 1)}))
    assert "refused: it asks for " in refusal(save({"w": io.StringIO("x")}))


def test_a_file_that_is_no_checkpoint_is_refused(save, tmp_path):
    path = tmp_path / "checkpoint_final.pth"
    path.write_bytes(pickle.dumps({"w": 1}))
    assert "is no checkpoint of torch 1.6 or later" in refusal(path)
    save({"w": torch.ones(2)}, _use_new_zipfile_serialization=False)
    assert "is no checkpoint of torch 1.6 or later" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/other", b"")
    assert refusal(path) == "is no checkpoint of torch 1.6 or later"
    path.unlink()
    assert refusal(path) == "does not exist"


def test_a_cut_file_is_refused(save):
    path = save({"w": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:-40])

    assert "is no checkpoint" in refusal(path)


def test_an_archive_of_a_version_that_python_does_not_know_is_refused(save):
    path = save({"w": torch.ones(100)})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 99
    path.write_bytes(content)

    assert refusal(path) == "is no checkpoint of torch 1.6 or later (zip file version 9.9)"


def test_a_compressed_archive_may_hide_its_size_and_is_refused(save):
    path = rewritten(
        save({"w": torch.zeros(10_000)}), {"data/1": bytes(10**6)}, compression=zipfile.ZIP_DEFLATED
    )

    assert refusal(path) == "claims to hold more than its size, which torch.save never does"


def test_numbers_that_are_missing_or_too_few_are_told(save):
    path = rewritten(save({"w": torch.ones(10)}), {"data/0": bytes(36)})
    with TorchFile(path) as file, pytest.raises(ArtifactError, match="another size of 'data/0'"):
        file.tensor(file.content["w"])
    path = rewritten(save({"w": torch.ones(10)}), {"data/0": None})
    with TorchFile(path) as file, pytest.raises(ArtifactError, match="lacks 'data/0'"):
        file.tensor(file.content["w"])


def test_damaged_numbers_are_told(save):
    path = save({"w": torch.full((50,), 7.0)})
    data = path.read_bytes()
    path.write_bytes(data.replace(np.float32(7).tobytes() * 3, bytes(12), 1))

    with TorchFile(path) as file, pytest.raises(ArtifactError, match="is damaged"):
        file.tensor(file.content["w"])


def test_another_byte_order_is_refused(save):
    path = rewritten(save({"w": torch.ones(2)}), {"byteorder": b"big"})

    assert refusal(path) == "was written on a machine of another byte order"


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [((5,), (1,), 0), ((2, 2), (3, 1), 0), ((4,), (1,), 1), ((10**9,), (0,), 0), ((-1,), (1,), 0)],
)
def test_a_tensor_that_reaches_beyond_its_numbers_is_refused(save, shape, stride, offset):
    class Beyond:
        def __reduce__(self):
            storage = torch.ones(4)._typed_storage()
            return torch._utils._rebuild_tensor_v2, (storage, offset, shape, stride, False, {})

    assert "a tensor " in refusal(save({"w": Beyond()}))
