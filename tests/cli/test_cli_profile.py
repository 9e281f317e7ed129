import pytest
from commands import assert_refused, call

from autoseg.cli.profiling import print_profile
from autoseg.pipeline import training as pipeline_training
from autoseg.train import profile
from autoseg.train.monitoring.throughput import Memory, Throughput

ON_GPU = Throughput(
    device="cuda",
    best_device="cuda",
    dtype="float16",
    compiled=True,
    workers=4,
    cores=12,
    cores_taken=0.0,
    threads=6,
    augmentation="default",
    steps=120,
    step_s=0.2,
    parts={"waiting": 0.1, "copy": 0.004, "forward": 0.036, "backward": 0.06},
    kinds={"convolution": 0.7, "norm and activation": 0.2, "the rest": 0.1},
    gpu_busy=0.95,
    alone_s=0.1,
    made_s=0.16,
    cpu_s=0.6,
    disk_s=0.0,
    memory=Memory(
        host=2 * 10**9, makers=8 * 10**8, free=3 * 10**10, gpu_peak=7 * 10**9, gpu=11 * 10**9
    ),
    rival=None,
    fewer=None,
)


@pytest.fixture
def profiled(monkeypatch):
    """What would be measured; nothing may be trained."""
    seen = []

    def measure(task, request, progress):
        seen.append(request)
        return ON_GPU

    monkeypatch.setattr(profile, "profile_fold", measure)
    monkeypatch.setattr(
        pipeline_training, "train_and_validate", lambda *words: pytest.fail("it was trained")
    )
    return seen


def test_a_profile_is_printed_and_nothing_is_trained(toy, profiled):
    called = call("train", "2d", "all", "--profile", "--workers", 4, "-w", toy.workspace.root)
    assert (called.code, called.err) == (0, "")
    assert called.out.splitlines() == [
        "2d fold0: cuda, float16, compiled; 12 cores, --workers 4",
        "mean of 120 steps      ms  share",
        "waiting for data    100.0    50%",
        "copy to the device    4.0     2%",
        "forward              36.0    18%",
        "backward             60.0    30%",
        "a step              200.0   100%",
        "operations: convolution 70%, norm and activation 20%, the rest 10%",
        (
            "batches per second: 6.2 made while the network rests, 10 used while none is made, "
            "5 together"
        ),
        (
            "memory: GPU at most 7.0 GB of 11 GB, 2.0 GB for training, 800 MB for making batches, "
            "30 GB left"
        ),
        "what would help:",
        (
            "- the network waits 50% of the time for data: use --workers 8 (this machine has 12 "
            "cores, 4 are used to make batches)"
        ),
    ]
    assert [(r.configuration, r.fold, r.workers) for r in profiled] == [("2d", "fold0", 4)]


def test_on_a_cpu_its_threads_are_told(capsys):
    fields = {name: getattr(ON_GPU, name) for name in Throughput.__dataclass_fields__}
    memory = Memory(host=None, makers=None, free=10**9, gpu_peak=None, gpu=None)
    on_cpu = {"device": "cpu", "compiled": False, "kinds": {}, "memory": memory, "workers": 0}
    print_profile("2d fold0", Throughput(**fields | on_cpu))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2d fold0: cpu, float16; 12 cores (6 threads), --workers 0"
    assert "memory: 1.0 GB left" in lines
    assert not [line for line in lines if line.startswith("operations")]


@pytest.mark.parametrize(
    "words", [("--restart",), ("--extend", 3), ("--gpus", "0,1"), ("--preview-every", 5)]
)
def test_flags_that_need_a_training_are_refused_beside_a_profile(toy, profiled, words):
    called = call("train", "2d", "0", "--profile", *words, "-w", toy.workspace.root)
    assert_refused(called, f"--profile trains nothing, so that {words[0]} makes no sense beside it")
    assert called.err.rstrip().endswith("leave one of them out")
    assert profiled == []


def test_nothing_is_profiled_before_it_is_prepared(toy, tmp_path):
    called = call("plan", toy.raw, "-w", tmp_path)
    assert called.code == 0
    called = call("train", "2d", "0", "--profile", "-w", tmp_path)
    assert_refused(called, "run: autoseg preprocess 2d")
