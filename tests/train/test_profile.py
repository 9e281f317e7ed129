from types import SimpleNamespace

import pytest
import torch
from training_runs import InterruptAfter, folder_of, request, small_task

from autoseg.core.plan import TrainingSpec
from autoseg.errors import AutosegError
from autoseg.io.usage import ProcessorTime
from autoseg.networks.precision import Precision
from autoseg.train import profile, start
from autoseg.train.batches import Batch
from autoseg.train.loop import NotFiniteError, Session, train_step
from autoseg.train.monitoring import stopwatch
from autoseg.train.monitoring.stopwatch import Stopwatch
from autoseg.train.profile import profile_fold
from autoseg.train.stage import train_fold

CPU = torch.device("cpu")
PARTS = ["copy", "forward", "loss", "backward", "optimizer"]


@pytest.fixture
def task(toy, tmp_path, monkeypatch):
    """Measured for no longer than the fewest steps take."""
    for name in ("STEPS_S", "ALONE_S", "MAKING_S"):
        monkeypatch.setattr(profile, name, 0.0)
    return small_task(toy, tmp_path, monkeypatch)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def session():
    network = torch.nn.Conv2d(1, 2, 1)
    return Session(
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss=lambda logits, labels: logits.mean(),
        spec=TrainingSpec(),
        device=CPU,
        precision=Precision(),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
    )


@pytest.fixture
def batch():
    images, labels = torch.ones(2, 1, 3, 4), torch.zeros(2, 3, 4, dtype=torch.int16)
    return Batch(images=images.numpy(), labels=labels.numpy(), cases=("a", "b"))


# A step ---------------------------------------------------------------------------------------


def test_a_step_tells_its_parts_in_order_and_is_the_same_step(session, batch):
    marked, before = [], session.network.weight.detach().clone()
    loss = train_step(session, batch, marked.append)
    assert marked == PARTS
    after = session.network.weight.detach().clone()
    assert not torch.equal(after, before)
    with torch.no_grad():
        session.network.weight.copy_(before)
        session.network.bias.add_(0.1 * session.network.bias.grad)
    assert train_step(session, batch) == pytest.approx(loss)
    torch.testing.assert_close(session.network.weight.detach(), after)


def test_the_stopwatch_adds_up_the_parts_and_leaves_out_what_is_between_steps(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    watch = Stopwatch(CPU)
    for _ in range(2):
        now[0] += 100.0
        watch.start()
        for part, seconds in (("copy", 1.0), ("forward", 2.0)):
            now[0] += seconds
            watch(part)
    assert watch.seconds() == {"copy": 2.0, "forward": 4.0}


def test_on_cuda_the_gpu_notes_the_time_and_nobody_waits_for_the_parts(monkeypatch):
    now, waited = [0.0], []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            self.at_ms = 1000 * now[0]

        def elapsed_time(self, other):
            return other.at_ms - self.at_ms

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(stopwatch, "wait_for", waited.append)
    watch = Stopwatch(torch.device("cuda"))
    for _ in range(2):
        now[0] += 100.0
        watch.start()
        for part, seconds in (("copy", 1.0), ("forward", 2.0)):
            now[0] += seconds
            watch(part)
    assert waited == []
    assert watch.seconds() == {"copy": 2.0, "forward": 4.0}
    assert watch.seconds() == {"copy": 2.0, "forward": 4.0}
    assert len(waited) == 2


# A profile ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_all_parts_of_a_step_are_measured_and_nothing_is_written(task, workers):
    before = contents(task.root)
    found = profile_fold(task, request(workers=workers))
    assert list(found.parts) == ["waiting", *PARTS]
    assert all(seconds > 0 for seconds in found.parts.values())
    assert sum(found.parts.values()) <= found.step_s
    assert found.steps == 3
    assert found.workers == workers
    assert min(found.alone_s, found.made_s, found.cpu_s) > 0
    assert found.disk_s >= 0
    assert sum(found.kinds.values()) == pytest.approx(1.0)
    assert found.kinds["convolution"] > 0
    assert (found.device, found.dtype, found.rival) == ("cpu", "float32", None)
    assert (found.gpu_busy, found.memory.gpu_peak) == (None, None)
    assert (found.memory.makers == 0) == (workers == 0)
    assert contents(task.root) == before
    assert not folder_of(task).root.exists()


@pytest.mark.slow
def test_a_run_that_was_begun_is_left_alone_and_measured_in_its_own_format(task, monkeypatch):
    assert not train_fold(task, request(), InterruptAfter(1))
    before = contents(task.root)
    fast = Precision(dtype="bfloat16")
    true = start.choose

    def choose(device, requested="auto", dimensions=3, *, probe=True):
        if requested == "auto" and probe:
            return fast, "measured"
        return true(device, requested, dimensions, probe=probe)

    monkeypatch.setattr(profile, "choose", choose)
    monkeypatch.setattr(start, "choose", choose)
    seconds = {"float32": 2.0, "bfloat16": 0.5}
    monkeypatch.setattr(
        profile, "measure_step_s", lambda session, shape: seconds[session.precision.dtype]
    )
    found = profile_fold(task, request(precision="auto"))
    assert found.dtype == "float32"
    assert found.rival is not None
    assert (found.rival.dtype, found.rival.begun) == ("bfloat16", True)
    assert (found.rival.step_s, found.rival.current_s) == (0.5, 2.0)
    assert contents(task.root) == before
    other = profile_fold(task, request(precision="auto", run="other"))
    assert (other.dtype, other.rival) == ("bfloat16", None)
    asked = profile_fold(task, request(precision="float32", run="other"))
    assert asked.rival is not None
    assert not asked.rival.begun


@pytest.mark.slow
def test_progress_is_told_of_every_measurement(task):
    told = []
    profile_fold(task, request(), lambda *words: told.append(words))
    assert [words[:2] for words in told] == [(number, 4) for number in range(5)]
    assert told[-1][2] == "measured"


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_one_line_with_its_cases(task, monkeypatch):
    def fail(session, batch, mark):
        raise NotFiniteError("loss", float("nan"), ("ball_02", "ball_01", "ball_02"))

    monkeypatch.setattr(profile, "train_step", fail)
    with pytest.raises(AutosegError) as caught:
        profile_fold(task, request())
    assert str(caught.value) == (
        "cases ball_01, ball_02: the loss of a first step is nan; look at these cases"
    )


def test_time_that_a_batch_neither_computes_nor_queues_is_the_disks(monkeypatch):
    clocks = {"wall": 0.0, "computed": 0.0, "queued": 0.0}

    def make(spec, epoch, step):
        clocks["wall"] += 1.0
        clocks["computed"] += 0.2
        clocks["queued"] += 0.3

    own = SimpleNamespace(
        perf_counter=lambda: clocks["wall"], process_time=lambda: clocks["computed"]
    )
    monkeypatch.setattr(profile, "time", own)
    monkeypatch.setattr(profile, "queued_s", lambda: clocks["queued"])
    monkeypatch.setattr(profile, "make_batch", make)
    assert profile._cost_of_a_batch(None) == pytest.approx((0.2, 0.5))


@pytest.mark.parametrize(
    ("busy_s", "own_s", "cores", "taken"),
    [
        (20.0, 20.0, 2, 0.0),  # only itself
        (30.0, 10.0, 4, 2.0),  # others keep 2 of 4 cores busy for 10 s
        (30.0, 10.0, 2, 0.0),  # of which it may use 2 anyway
        (9.0, 10.0, 4, 0.0),  # clocks are read one after another
    ],
)
def test_cores_are_taken_by_what_is_busy_beside_the_training(
    monkeypatch, busy_s, own_s, cores, taken
):
    monkeypatch.setattr(profile, "available_cores", lambda: cores)
    before = ProcessorTime(cores=4, busy_s=50.0, own_s=5.0)
    after = ProcessorTime(cores=4, busy_s=50.0 + busy_s, own_s=5.0 + own_s)
    assert profile._cores_taken(before, after, 10.0, load=1.5) == taken
    assert profile._cores_taken(None, after, 10.0, load=1.5) == 1.5


@pytest.mark.parametrize(
    ("taken", "device", "threads"),
    [(2.4, "cpu", 2), (3.9, "cpu", 1), (0.1, "cpu", None), (2.4, "mps", None)],
)
def test_steps_are_tried_with_as_many_threads_as_cores_are_left(
    session, batch, monkeypatch, taken, device, threads
):
    now, seen = [4], []
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: now.__setitem__(0, number))
    monkeypatch.setattr(profile, "available_cores", lambda: 4)
    monkeypatch.setattr(profile, "_alone_s", lambda *of: (seen.append(now[0]), 0.5)[1])
    session.device = torch.device(device)
    found = profile._fewer_threads(session, batch, taken)
    assert (found and found.threads, seen) == (threads, [threads] * (threads is not None))
    assert now == [4]


def test_torchs_profiler_is_quiet_unless_it_was_told_to_speak(monkeypatch):
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    with profile._without_chatter():
        assert profile.os.environ["KINETO_LOG_LEVEL"] == "99"
    assert "KINETO_LOG_LEVEL" not in profile.os.environ
    monkeypatch.setenv("KINETO_LOG_LEVEL", "1")
    with profile._without_chatter():
        assert profile.os.environ["KINETO_LOG_LEVEL"] == "1"
