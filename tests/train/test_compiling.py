import pytest
import torch
from training_runs import InterruptAfter, folder_of, request, small_task

from autoseg.core.plan import TrainingSpec
from autoseg.io.task import load_plan
from autoseg.networks.precision import Precision
from autoseg.train import checkpoint, compiling, start
from autoseg.train.batches import Batch
from autoseg.train.compiling import compile_if_it_pays, compile_network
from autoseg.train.loop import Session, measure_step_s, train_step
from autoseg.train.stage import train_fold

SHAPE = (2, 1, 3, 4)


class Compiled:
    """What stands for a compiled network: counts its calls."""

    def __init__(self, network):
        self.network = network
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        return self.network(images)

    def __len__(self):
        # Compiled modules pass the question on, so that none may be asked whether it is true.
        raise TypeError("a network has no length")


@pytest.fixture
def session():
    network = torch.nn.Conv2d(1, 2, 1)
    return Session(
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss=lambda logits, labels: logits.mean(),
        spec=TrainingSpec(),
        device=torch.device("cpu"),
        precision=Precision(),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
    )


@pytest.fixture
def on_cuda(session, monkeypatch):
    """The session as though it were on a GPU, whose steps take the times given."""

    def take(plain_s, compiled_s):
        class Cuda:
            type = "cuda"

        def measure(session, shape, tries):
            if session.compiled is not None:
                session.compiled(torch.zeros(shape))
            return plain_s if session.compiled is None else compiled_s

        session.device = Cuda()
        monkeypatch.setattr(compiling, "measure_step_s", measure)
        return session

    monkeypatch.setattr(torch, "compile", Compiled)
    return take


def test_without_cuda_nothing_is_compiled(session, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network: pytest.fail("compiled"))
    assert compile_if_it_pays(session, SHAPE) == ""
    assert session.compiled is None


def test_a_network_that_gets_clearly_faster_is_compiled(on_cuda):
    session = on_cuda(plain_s=0.2, compiled_s=0.1)
    said = compile_if_it_pays(session, SHAPE)
    assert said == "the network is compiled: 100 ms a step, 200 ms without"
    assert session.compiled is not None


def test_a_network_that_hardly_gets_faster_is_not(on_cuda):
    session = on_cuda(plain_s=0.105, compiled_s=0.1)
    assert "not compiled: 100 ms a step, 105 ms without" in compile_if_it_pays(session, SHAPE)
    assert session.compiled is None


def test_a_compiler_that_fails_costs_one_line(session, monkeypatch, caplog):
    def fail(network):
        def call(images):
            raise TypeError("no C compiler found\nand thirty lines more")

        return call

    monkeypatch.setattr(torch, "compile", fail)
    assert not compile_network(session, SHAPE)
    (record,) = caplog.records
    assert record.getMessage() == (
        "torch.compile failed (TypeError: no C compiler found): training goes on without it"
    )
    assert session.compiled is None
    assert measure_step_s(session, SHAPE) > 0


def test_a_compiler_that_fails_later_costs_one_line_too(session, monkeypatch, caplog):
    calls = []

    def compiled(network):
        def call(images):
            calls.append(images)
            if len(calls) > 2:
                raise RuntimeError("its cache is gone")
            return network(images)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    assert compile_network(session, SHAPE)
    images, labels = torch.ones(SHAPE), torch.zeros(2, 3, 4, dtype=torch.int16)
    batch = Batch(images=images.numpy(), labels=labels.numpy(), cases=("a", "b"))
    for _ in range(4):
        train_step(session, batch)
    assert len(calls) == 3
    (record,) = caplog.records
    assert "torch.compile failed (RuntimeError: its cache is gone)" in record.getMessage()


def test_a_lack_of_memory_is_not_the_compilers_fault(session, monkeypatch):
    def fail(network):
        def call(images):
            raise torch.OutOfMemoryError("CUDA out of memory")

        return call

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(torch.OutOfMemoryError):
        compile_network(session, SHAPE)


def test_steps_go_through_the_compiled_network_and_leave_its_weights_their_names(
    session, monkeypatch
):
    made = []

    def compiled(network):
        made.append(Compiled(network))
        return made[0]

    monkeypatch.setattr(torch, "compile", compiled)
    names = set(session.network.state_dict())
    assert compile_network(session, SHAPE)
    images, labels = torch.ones(SHAPE), torch.zeros(2, 3, 4, dtype=torch.int16)
    train_step(session, Batch(images=images.numpy(), labels=labels.numpy(), cases=("a", "b")))
    assert made[0].calls == 2
    assert set(session.network.state_dict()) == names


@pytest.mark.slow
def test_what_was_found_to_pay_is_compiled_again_without_measuring(toy, tmp_path, monkeypatch):
    task = small_task(toy, tmp_path, monkeypatch)
    compiled = []

    def pays(session, shape):
        session.compiled = session.network
        return "the network is compiled"

    monkeypatch.setattr(start, "compile_if_it_pays", pays)
    monkeypatch.setattr(start, "compile_network", lambda *of: compiled.append(of))
    monkeypatch.setattr(start, "may_compile", lambda device: True)
    assert not train_fold(task, request(), InterruptAfter(1))
    assert checkpoint.load_state(folder_of(task).resume).compiled
    assert compiled == []
    monkeypatch.setattr(start, "compile_if_it_pays", lambda *_: pytest.fail("measured again"))
    assert train_fold(task, request())
    patch_size = load_plan(task, "default").configurations["2d"].patch_size
    assert [shape for _, shape in compiled] == [(2, 1, *patch_size)]
