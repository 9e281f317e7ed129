import pytest
from commands import assert_refused, call

from autoseg.pipeline import training as pipeline_training
from autoseg.train.monitoring import scalars


@pytest.fixture
def requests(monkeypatch):
    """What the commands would train."""
    seen = []
    monkeypatch.setattr(
        pipeline_training,
        "train_and_validate",
        lambda task, request, progress, team, scored: seen.append(request),
    )
    return seen


def test_nothing_is_drawn_or_written_unless_it_is_asked_for(toy, requests):
    call("train", "2d", "0", "-w", toy.workspace.root)
    assert [(r.preview_every, r.tensorboard) for r in requests] == [(0, False)]


def test_previews_are_asked_for_by_their_number_of_epochs(toy, requests):
    call("train", "2d", "0", "--preview-every", 5, "-w", toy.workspace.root)
    assert requests[0].preview_every == 5


def test_the_place_of_augmentation_is_measured_unless_it_is_named(toy, requests):
    call("train", "2d", "0", "-w", toy.workspace.root)
    call("train", "2d", "0", "--augment-on", "cpu", "-w", toy.workspace.root)
    assert [one.augment_on for one in requests] == ["auto", "cpu"]


def test_a_negative_number_of_epochs_is_refused(toy, requests):
    called = call("train", "2d", "0", "--preview-every", -1, "-w", toy.workspace.root)
    assert called.code == 2
    assert "--preview-every" in called.err
    assert requests == []


def test_tensorboard_is_written_where_it_is_installed(toy, requests, monkeypatch):
    monkeypatch.setattr(scalars, "find_spec", lambda name: "there")
    call("train", "2d", "0", "--tensorboard", "-w", toy.workspace.root)
    assert requests[0].tensorboard


@pytest.mark.parametrize("command", ["train", "run"])
def test_without_tensorboard_installed_one_line_names_the_remedy(
    command, toy, requests, monkeypatch, tmp_path
):
    monkeypatch.setattr(scalars, "find_spec", lambda name: None)
    words = ["2d", "0", "-w", toy.workspace.root]
    if command == "run":
        words = [toy.raw, "-w", tmp_path / "workspace"]
    called = call(command, *words, "--tensorboard")
    assert_refused(called, "not installed", 'run: pip install "autoseg[tensorboard]"')
    assert requests == []
    assert not (tmp_path / "workspace").exists()
