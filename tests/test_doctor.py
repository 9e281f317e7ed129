import platform
from importlib.metadata import version

import pytest
import torch

from autoseg import doctor
from autoseg.doctor import examine_machine
from autoseg.networks import compiled, inference
from autoseg.networks.inference import Inference
from autoseg.networks.precision import Precision


@pytest.fixture(scope="module")
def findings():
    return {finding.what: finding for finding in examine_machine()}


def test_versions_are_those_installed(findings):
    for name in ("autoseg", "torch", "SimpleITK", "numpy", "pydantic"):
        assert findings[name].value == version(name)
        assert findings[name].problem is None
    assert findings["python"].value.startswith(platform.python_version())


def test_the_device_is_named_with_the_reason_for_its_precision(findings):
    device, _, reason = findings["computes on"].value.partition(": ")
    assert device in ("cpu", "cuda", "mps")
    assert "float" in reason


def test_cores_memory_and_disks_are_looked_at(findings, tmp_path):
    assert int(findings["cores"].value) >= 1
    assert findings["memory"].value.endswith(" GB free")
    for what in ("disk here", "temporary"):
        assert " GB free in " in findings[what].value


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_a_problem_with_a_remedy(findings):
    assert "--max-time" in findings["GPU"].problem


def test_too_little_memory_and_disk_are_problems_with_a_remedy(monkeypatch):
    monkeypatch.setattr(doctor, "ENOUGH_MEMORY_BYTES", 10**18)
    monkeypatch.setattr(doctor, "ENOUGH_DISK_BYTES", 10**18)
    problems = {finding.what: finding.problem for finding in examine_machine()}
    assert "--workers" in problems["memory"]
    assert "--workspace" in problems["disk here"]


def test_a_missing_library_is_a_problem_with_a_remedy(monkeypatch):
    monkeypatch.setattr(doctor, "LIBRARIES", ("no-such-library",))
    found = {finding.what: finding for finding in examine_machine()}["no-such-library"]
    assert found.value == "missing"
    assert found.problem == "autoseg cannot run; pip install no-such-library"


class TestPredictionOnACpu:
    def test_without_openvino_it_says_what_that_would_bring(self, monkeypatch):
        monkeypatch.setattr(compiled, "is_installed", lambda: False)
        found = doctor._prediction(torch.device("cpu"))
        assert found.value == "torch"
        assert found.problem == (
            "OpenVINO is typically 1.2 to 2 times as fast; pip install 'autoseg[openvino]'"
        )

    def test_with_openvino_it_says_what_was_measured(self, monkeypatch):
        measured = Inference(precision=Precision(), openvino="bfloat16", reason="took 2 ms")
        monkeypatch.setattr(compiled, "is_installed", lambda: True)
        monkeypatch.setattr(inference, "choose_inference", lambda device: measured)
        found = doctor._prediction(torch.device("cpu"))
        assert (found.value, found.problem) == ("took 2 ms", None)
