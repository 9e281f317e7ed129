from dataclasses import replace

import pytest

from autoseg.train.monitoring.throughput import (
    FewerThreads,
    Memory,
    Rival,
    Throughput,
    advise,
    batches_per_s,
    kind_of,
    shares_of_kinds,
    table,
)

MEMORY = Memory(host=10**9, makers=10**8, free=10**10, gpu_peak=None, gpu=None)


def measured(**changes) -> Throughput:
    """A training on a GPU that waits for nothing: 100 ms a step, 90 of them computing."""
    given = Throughput(
        device="cuda",
        best_device="cuda",
        dtype="float16",
        compiled=True,
        workers=4,
        cores=8,
        cores_taken=0.0,
        threads=8,
        augmentation="default",
        steps=50,
        step_s=0.1,
        parts=parts(waiting=0.0),
        kinds={},
        gpu_busy=0.9,
        alone_s=0.1,
        made_s=0.05,
        cpu_s=0.2,
        disk_s=0.0,
        memory=MEMORY,
        rival=None,
        fewer=None,
    )
    return replace(given, **changes)


def parts(waiting, **others):
    computing = {"copy": 0.005, "forward": 0.03, "loss": 0.01, "backward": 0.05, "optimizer": 0.005}
    return {"waiting": waiting} | computing | others


def waiting(**changes) -> Throughput:
    """As above, but each step waits for as long as it takes."""
    return measured(**{"step_s": 0.2, "parts": parts(waiting=0.1), "made_s": 0.2} | changes)


def on_cpu(**changes) -> Throughput:
    options = {"device": "cpu", "best_device": "cpu", "dtype": "bfloat16", "gpu_busy": None}
    return measured(**options | {"workers": 1, "alone_s": 0.095, "compiled": False} | changes)


def only(sentence: str) -> list[str]:
    return [sentence]


# Advice ---------------------------------------------------------------------------------------


def test_a_gpu_that_computes_all_the_time_leaves_nothing_to_gain():
    assert advise(measured()) == [
        "nothing to gain here: 90% of a step is computing on the GPU, in float16"
    ]


def test_a_cpu_that_computes_all_the_time_leaves_nothing_to_gain_without_a_gpu():
    assert advise(on_cpu()) == [
        "nothing to gain here without a GPU: 90% of a step is computing on the CPU, in bfloat16"
    ]


def test_a_gpu_that_is_not_used_comes_first():
    found = advise(on_cpu(best_device="cuda", cores_taken=4.0))
    assert found[0] == "this machine has a GPU (cuda), which is not used: leave --device out"
    assert len(found) == 2


def test_who_waits_is_told_how_many_processes_would_do():
    # Four make a batch in 0.16 s, so one in 0.64; of 0.1 s each, and a tenth more, come 8.
    assert advise(waiting(made_s=0.16, cores=12)) == only(
        "the network waits 50% of the time for data: use --workers 8 (this machine has 12 cores, "
        "4 are used to make batches)"
    )


def test_where_the_cores_do_not_suffice_it_is_said_what_is_left():
    # Seven make a batch in 0.8 / 7 = 0.114 s, of which a step needs 0.1.
    assert advise(waiting()) == only(
        "the network waits 50% of the time for data: use --workers 7, which is all there is room "
        "for (this machine has 8 cores, 4 are used to make batches); it would then still wait "
        "about 12%"
    )


def test_where_all_cores_make_batches_a_lighter_augmentation_helps():
    assert advise(waiting(workers=7)) == only(
        "the network waits 50% of the time for data: this machine has 8 cores, and none is left "
        "to make batches: --augmentation light makes them with less work (under another --run), "
        "more cores make more of them"
    )
    (light,) = advise(waiting(workers=7, augmentation="light"))
    assert light.endswith("none is left to make batches: more cores make more of them")


def test_batches_made_between_the_steps_are_better_made_beside_them():
    # One process takes 0.1 s for a batch, as long as the step.
    (found,) = advise(waiting(workers=0, made_s=0.1))
    assert found.endswith(
        "use --workers 2 (this machine has 8 cores, none is used to make batches)"
    )


def test_batches_made_ahead_do_not_hide_that_there_are_too_few():
    # None was waited for, but only 5 a second are made where 10 are used.
    (found,) = advise(measured(made_s=0.2, cores=16))
    assert found.startswith("the network waits 50% of the time for data: use --workers 9")


def test_little_waiting_is_not_worth_a_word():
    few = measured(step_s=0.108, parts=parts(waiting=0.008))
    assert "nothing to gain" in advise(few)[0]


def test_a_slow_disk_is_told_from_too_few_cores():
    assert advise(waiting(cpu_s=0.1, disk_s=0.3)) == only(
        "the network waits 50% of the time for data, and disk reads dominate: of the 400 ms that "
        "a process takes for a batch it waits 300 ms for the disk: keep the workspace on a disk "
        "of this machine, an SSD if there is one"
    )


def test_a_slow_disk_nobody_waits_for_is_not_worth_a_word():
    assert "nothing to gain" in advise(measured(disk_s=1.0))[0]


def test_cores_that_others_keep_busy_are_missed_where_the_cpu_computes():
    assert advise(on_cpu(cores=2, threads=2, cores_taken=1.04)) == [
        "1.0 of 2 cores were busy with something else: training is faster once that has ended"
    ]
    assert "nothing to gain" in advise(measured(cores_taken=3.0))[0]


def test_cores_that_others_keep_busy_are_missed_where_a_gpu_waits_for_batches():
    assert len(advise(waiting(cores_taken=2.0))) == 2


def test_threads_that_wait_for_each_other_on_busy_cores_are_too_many():
    busy = on_cpu(cores=2, threads=2, cores_taken=1.0, alone_s=0.09)
    first, second = advise(replace(busy, fewer=FewerThreads(threads=1, step_s=0.03)))
    assert first == (
        "a step takes 30 ms with 1 thread, 90 ms with 2, which wait for each other where cores "
        "are busy: set the environment variable OMP_NUM_THREADS=1 meanwhile"
    )
    assert "busy with something else" in second
    (only_busy,) = advise(replace(busy, fewer=FewerThreads(threads=1, step_s=0.085)))
    assert "busy with something else" in only_busy


def test_threads_that_leave_most_cores_idle_are_noticed():
    assert advise(on_cpu(threads=1)) == only(
        "the network is computed by 1 thread, though there are 8 cores: leave the environment "
        "variable OMP_NUM_THREADS out"
    )
    # Two threads to a core: half as many are what torch chooses.
    assert "nothing to gain" in advise(on_cpu(threads=4))[0]


def test_more_threads_than_cores_are_noticed():
    assert advise(on_cpu(threads=16, cores=4)) == only(
        "the network is computed by 16 threads, which get in each other's way on 4 cores: set "
        "the environment variable OMP_NUM_THREADS=4"
    )


def test_threads_do_not_matter_on_a_gpu():
    assert "nothing to gain" in advise(measured(threads=1))[0]


def test_a_faster_number_format_is_named_with_how_to_get_it():
    rival = Rival(dtype="bfloat16", step_s=0.9, current_s=2.04, begun=False)
    assert advise(on_cpu(dtype="float32", rival=rival)) == [
        "forward and backward pass take 900 ms in bfloat16, 2.0 s in float32: leave --precision out"
    ]
    (begun,) = advise(on_cpu(dtype="float32", rival=replace(rival, begun=True)))
    assert begun.endswith(
        "a run keeps the format it was begun with, another --run or --restart does not"
    )


def test_a_number_format_that_is_hardly_faster_is_not_named():
    rival = Rival(dtype="bfloat16", step_s=1.0, current_s=1.15, begun=False)
    assert "nothing to gain" in advise(on_cpu(rival=rival))[0]


def test_processes_that_take_cores_from_the_network_are_too_many():
    # Four make a batch in 20 ms where the network alone takes 50 ms: two would do.
    crowded = on_cpu(workers=4, made_s=0.02, alone_s=0.05)
    assert advise(crowded) == only(
        "a step takes 100 ms while 4 processes make batches, 50 ms while none does: use "
        "--workers 2, which is enough"
    )


def test_one_process_that_makes_batches_is_never_too_many():
    assert "nothing to gain" in advise(on_cpu(workers=1, made_s=0.001, alone_s=0.05))[0]


def test_a_gpu_that_mostly_rests_has_room_for_another_training():
    (found,) = advise(measured(gpu_busy=0.35))
    assert found.startswith("the GPU computes 35% of the time, the rest it waits to be told")
    assert "another fold, in another terminal" in found


def test_a_gpu_that_rests_because_it_waits_for_data_is_not_told_twice():
    assert len(advise(waiting(gpu_busy=0.35))) == 1


def test_what_helps_most_comes_first():
    rival = Rival(dtype="float16", step_s=0.02, current_s=0.1, begun=False)
    # 36% can be saved by the format, 50% by not waiting.
    first, second = advise(waiting(rival=rival, dtype="float32"))
    assert first.startswith("the network waits")
    assert "float16" in second
    # 72% by the format, 11% by not waiting.
    few = measured(step_s=0.112, parts=parts(waiting=0.0125), rival=rival, dtype="float32")
    assert "float16" in advise(few)[0]


# The table ------------------------------------------------------------------------------------


def test_the_rows_of_the_table_add_up_to_a_step():
    given = measured(step_s=0.2, parts={"waiting": 0.05, "forward": 0.1, "optimizer": 0.03})
    rows = table(given)
    assert [row[0] for row in rows] == [
        "waiting for data",
        "forward",
        "optimiser",
        "the rest",
        "a step",
    ]
    assert [row[1] for row in rows] == pytest.approx([50, 100, 30, 20, 200])
    assert [row[2] for row in rows] == pytest.approx([0.25, 0.5, 0.15, 0.1, 1.0])


def test_a_rest_of_nothing_gets_no_row():
    rows = table(measured(step_s=0.1, parts={"forward": 0.0999}))
    assert [row[0] for row in rows] == ["forward", "a step"]


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::convolution_backward", "convolution"),
        ("aten::mkldnn_convolution", "convolution"),
        ("_NormalizeActivateBackward", "norm and activation"),
        ("aten::native_batch_norm", "norm and activation"),
        ("aten::leaky_relu_", "norm and activation"),
        ("aten::cat", "the rest"),
    ],
)
def test_operations_are_of_three_kinds(operation, kind):
    assert kind_of(operation) == kind


def test_shares_of_kinds_begin_with_the_largest():
    operations = {"aten::cat": 1.0, "aten::conv3d": 0.5, "conv_backward": 4.5, "batch_norm": 2.0}
    assert list(shares_of_kinds(operations).items()) == [
        ("convolution", 0.625),
        ("norm and activation", 0.25),
        ("the rest", 0.125),
    ]
    assert shares_of_kinds({}) == {}


@pytest.mark.parametrize(("seconds", "text"), [(0.0054, "185"), (0.8, "1.2"), (5.0, "0.2")])
def test_rates_have_two_digits_at_least(seconds, text):
    assert batches_per_s(seconds) == text
