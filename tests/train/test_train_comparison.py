import pytest
import torch

from autoseg.train.objective import comparison
from autoseg.train.objective.comparison import compare_classes

SUMS = ("overlap", "predicted", "actual", "surprise", "voxel_surprise")


def drawn(shape=(2, 4, 3, 5, 7), ignore_index=None):
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    if ignore_index is not None:
        labels[:, 1] = ignore_index
    return logits, labels.to(torch.int16)


def naive(logits, labels, ignore_index):
    """The same sums from arrays of the full size, by ordinary differentiation."""
    known = labels.long() * (labels != (-1 if ignore_index is None else ignore_index))
    valid = torch.ones_like(labels) if ignore_index is None else labels != ignore_index
    truth = torch.nn.functional.one_hot(known, logits.shape[1]).movedim(-1, 1) * valid[:, None]
    p = torch.softmax(logits, 1)
    costs = -torch.log_softmax(logits, 1) * truth
    space = tuple(range(2, logits.ndim))
    return {
        "overlap": (p * truth).sum(space),
        "predicted": (p * valid[:, None]).sum(space),
        "actual": truth.double().sum(space),
        "surprise": costs.sum(space),
        "voxel_surprise": costs.sum(1).flatten(1),
    }


@pytest.mark.parametrize("ignore_index", [None, 4])
@pytest.mark.parametrize("piece", [8, 40, 1 << 20])
@pytest.mark.parametrize("name", SUMS)
def test_sums_and_gradients_do_not_depend_on_the_pieces(monkeypatch, ignore_index, piece, name):
    monkeypatch.setattr(comparison, "_CPU_ELEMENTS", piece)
    logits, labels = drawn(ignore_index=ignore_index)
    first, second = logits.clone().requires_grad_(), logits.clone().requires_grad_()

    found = getattr(compare_classes(first, labels, ignore_index), name)
    expected = naive(second, labels, ignore_index)[name]

    torch.testing.assert_close(found, expected)
    if name != "actual":
        upstream = torch.rand(found.shape, generator=torch.Generator().manual_seed(1))
        found.backward(upstream.double())
        expected.backward(upstream.double())
        torch.testing.assert_close(first.grad, second.grad)


def test_all_sums_together_add_their_gradients():
    logits, labels = drawn()
    first, second = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found, expected = compare_classes(first, labels), naive(second, labels, None)
    for factor, name in enumerate(SUMS, start=1):
        expected[name] = (factor * expected[name]).pow(2).sum()
    total = [(factor * getattr(found, name)).pow(2).sum() for factor, name in enumerate(SUMS, 1)]
    sum(total).backward()
    sum(expected.values()).backward()
    torch.testing.assert_close(first.grad, second.grad)


def test_the_size_of_the_logits_is_kept_once():
    logits, labels = drawn((2, 4, 8, 16, 16))
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    logits = logits.float().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        compare_classes(logits, labels)

    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in kept}
    assert sorted(storages.values()) == [labels.numel() * 2, logits.numel() * 4]


def test_a_second_backward_pass_is_refused():
    logits, labels = drawn()
    total = compare_classes(logits.requires_grad_(), labels).surprise.sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


@pytest.mark.parametrize("ignore_index", [None, 5])
@pytest.mark.parametrize("stranger", [-1, 4])
def test_a_label_that_means_nothing_is_refused(ignore_index, stranger):
    logits, labels = drawn(ignore_index=ignore_index)
    labels[0, 0, 0, :2] = stranger
    with pytest.raises(ValueError, match="2 labels are neither a class nor ignored"):
        compare_classes(logits, labels, ignore_index)
