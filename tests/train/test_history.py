import json

import pytest

from autoseg.train.monitoring.history import EpochRecord, History, dice_in_words


def record(**changes):
    values = {
        "epoch": 11,
        "steps": 250,
        "train_loss": -0.4121,
        "validation_loss": -0.388,
        "dice": {"anterior": 0.8125, "posterior": None},
        "mean_dice": 0.8125,
        "ema_dice": 0.7,
        "learning_rate": 0.00989,
        "epoch_s": 42.4,
        "elapsed_s": 500.0,
    }
    return EpochRecord(**(values | changes))


def test_an_epoch_is_one_line_that_says_it_all():
    line = record(left_s=9000.0, waiting=0.034, gpu_peak_bytes=7_140_000_000).line(1000)
    assert line == (
        "epoch 12/1000  loss -0.412  validation -0.388  Dice anterior 0.812  posterior -  "
        "lr 0.0099  42 s  2 h left  3% waiting for data  GPU 7.1 GB"
    )


def test_what_was_not_measured_is_left_out_of_the_line():
    assert record(epoch_s=0.83, left_s=0.0).line(12).endswith("lr 0.0099  0.8 s")


def test_of_sixty_structures_the_mean_the_lowest_and_the_number_at_0_are_told():
    dice: dict[str, float | None] = {f"organ {i}": 0.5 for i in range(56)}
    dice |= {"liver": 0.031, "spleen": 0.0, "aorta": 0.0004, "kidney": None}
    assert dice_in_words(dice) == (
        "mean 0.475  lowest spleen 0.000, aorta 0.000, liver 0.031  2 of 60 at 0  1 not seen"
    )
    assert len(record(dice=dice, left_s=9000.0, waiting=0.0).line(1000)) < 200


def test_many_structures_of_which_none_is_seen_have_no_mean():
    assert dice_in_words(dict.fromkeys("abcdefgh")) == "-  none of 8 seen"


@pytest.mark.parametrize("number", [6, 7])
def test_up_to_six_structures_are_told_one_by_one(number):
    words = dice_in_words({f"s{i}": 0.5 for i in range(number)})
    assert words.startswith("mean") == (number == 7)


def test_all_of_an_epoch_is_in_its_line_of_the_file(tmp_path):
    history = History(tmp_path / "history.jsonl", keep_epochs=0)
    added = record(left_s=7.5, waiting=0.25, gpu_peak_bytes=5, warned=("posterior",))
    history.add(added)
    (line,) = (tmp_path / "history.jsonl").read_text().splitlines()
    assert EpochRecord.model_validate(json.loads(line)) == added
    assert json.loads(line)["left_s"] == 7.5
    assert History(tmp_path / "history.jsonl", keep_epochs=12).warned() == {"posterior"}


def test_lines_of_earlier_versions_are_read_and_kept(tmp_path):
    file = tmp_path / "history.jsonl"
    new = ("left_s", "waiting", "gpu_peak_bytes", "warned")
    old = {k: v for k, v in record(epoch=0).model_dump(mode="json").items() if k not in new}
    file.write_text(json.dumps(old) + "\n")
    assert EpochRecord.model_validate(old).warned == ()
    history = History(file, keep_epochs=1)
    assert history.warned() == frozenset()
    history.add(record(epoch=1))
    assert [json.loads(line)["epoch"] for line in file.read_text().splitlines()] == [0, 1]
    assert json.loads(file.read_text().splitlines()[0]) == old
