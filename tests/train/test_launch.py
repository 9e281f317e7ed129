import pytest

from autoseg.train.launch import Launch, read_launch

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
}


def test_a_process_of_torchrun_knows_its_place():
    launch = read_launch(TORCHRUN)
    assert launch == Launch(rank=5, size=8, local_rank=1, local_size=4, address="node1")
    assert not launch.is_one_host
    assert read_launch(TORCHRUN | {"LOCAL_WORLD_SIZE": "8"}).is_one_host


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_what_torchrun_has_not_set_completely_is_not_of_torchrun(name):
    assert read_launch({key: value for key, value in TORCHRUN.items() if key != name}) is None
    assert read_launch(TORCHRUN | {name: ""}) is None


def test_one_process_is_a_usual_training():
    assert read_launch(TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"}) is None
    assert read_launch({}) is None
