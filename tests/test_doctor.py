import platform
from importlib.metadata import version

import pytest
import torch

from autoseg import doctor
from autoseg.doctor import examine_machine


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
