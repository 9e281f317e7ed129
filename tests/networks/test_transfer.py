import pytest
import torch

from autoseg.core.ends import BACKGROUND, Ends, match_ends
from autoseg.core.plan import NetworkSpec
from autoseg.networks.build import build_network
from autoseg.networks.transfer import fill, find_transfer, layout_of

PLAIN = NetworkSpec(
    architecture="unet",
    features_per_stage=(3, 6, 9),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    blocks_per_stage=(2, 1, 2),
    decoder_blocks_per_stage=(2, 1),
)
RESIDUAL = PLAIN.model_copy(update={"architecture": "residual_unet"})
DEEPER = NetworkSpec(
    architecture="unet",
    features_per_stage=(3, 6, 9, 9),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)),
    kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    blocks_per_stage=(2, 1, 2, 2),
    decoder_blocks_per_stage=(2, 1, 1),
)


def ends(channels="a", structures="xy", predicted="", overlapping=False):
    outputs = tuple(structures) if overlapping else (BACKGROUND, *structures)
    return Ends(
        channels=tuple(channels),
        predicted=tuple(predicted),
        outputs=outputs,
        overlapping=overlapping,
    )


def network(spec, these, seed):
    torch.manual_seed(seed)
    return build_network(spec, these.num_inputs, len(these.outputs), deep_supervision=True)


def transferred(spec, wanted, source_spec, known):
    """A network before and after it was filled from another one, that one, and the transfer."""
    source, target = network(source_spec, known, 1), network(spec, wanted, 2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    weights = source.state_dict()
    transfer = find_transfer(
        layout_of(spec, wanted.num_inputs, len(wanted.outputs)),
        {name: tuple(tensor.shape) for name, tensor in weights.items()},
        source_spec.num_stages,
        match_ends(wanted, known),
    )
    fill(target, weights, transfer)
    return before, target.state_dict(), weights, transfer


HEADS = [f"heads.{level}.{kind}" for level in range(2) for kind in ("weight", "bias")]


@pytest.mark.parametrize("spec", [PLAIN, RESIDUAL], ids=lambda spec: spec.architecture)
def test_the_network_of_the_same_task_is_taken_completely(spec):
    _, after, weights, transfer = transferred(spec, ends(), spec, ends())
    assert (transfer.share, transfer.left) == (1.0, {})
    for name, tensor in weights.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [("xyz", [0, 1, 2, None]), ("y", [0, 2]), ("yx", [0, 2, 1]), ("zx", [0, None, 1])],
    ids=["added", "removed", "reordered", "replaced"],
)
def test_rows_of_all_heads_follow_the_names_of_structures(wanted, rows):
    before, after, weights, transfer = transferred(PLAIN, ends(structures=wanted), PLAIN, ends())
    assert transfer.left == {}
    for name in HEADS:
        for to, origin in enumerate(rows):
            expected = before[name][to] if origin is None else weights[name][origin]
            torch.testing.assert_close(after[name][to], expected, rtol=0, atol=0)


def test_outputs_of_regions_are_filled_by_name():
    wanted, known = ends(structures="yz", overlapping=True), ends(structures="xy", overlapping=True)
    before, after, weights, _ = transferred(PLAIN, wanted, PLAIN, known)
    for name in HEADS:
        torch.testing.assert_close(after[name][0], weights[name][1], rtol=0, atol=0)
        torch.testing.assert_close(after[name][1], before[name][1], rtol=0, atol=0)


def test_heads_of_another_kind_stay_as_initialised():
    before, after, _, transfer = transferred(PLAIN, ends(overlapping=True), PLAIN, ends())
    assert list(transfer.left) == HEADS
    assert set(transfer.left.values()) == {"nothing in it corresponds"}
    for name in HEADS:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("spec", "first"),
    [(PLAIN, "encoder.0.0.conv.weight"), (RESIDUAL, "encoder.0.stem.conv.weight")],
    ids=lambda value: getattr(value, "architecture", ""),
)
def test_channels_of_the_first_convolution_follow_their_names(spec, first):
    # Three channels, as many as the first stage has features.
    wanted, known = ends("bca"), ends("ab")
    before, after, weights, transfer = transferred(spec, wanted, spec, known)
    assert transfer.left == {}
    for to, origin in enumerate((1, None, 0)):
        expected = before[first][:, to] if origin is None else weights[first][:, origin]
        torch.testing.assert_close(after[first][:, to], expected, rtol=0, atol=0)


def test_channels_a_cascade_adds_follow_the_names_of_structures():
    wanted = ends("ab", "xyz", predicted="xyz")
    known = ends("b", "yx", predicted="yx")
    before, after, weights, _ = transferred(PLAIN, wanted, PLAIN, known)
    first = "encoder.0.0.conv.weight"
    for to, origin in enumerate((None, 0, 2, 1, None)):
        expected = before[first][:, to] if origin is None else weights[first][:, origin]
        torch.testing.assert_close(after[first][:, to], expected, rtol=0, atol=0)


def test_networks_of_different_depth_share_their_fine_stages():
    before, after, weights, transfer = transferred(DEEPER, ends(), PLAIN, ends())
    pairs = {
        "encoder.2.1.conv.weight": "encoder.2.1.conv.weight",
        "decoder.2.1.conv.weight": "decoder.1.1.conv.weight",
        "upsample.1.weight": "upsample.0.weight",
        "heads.2.bias": "heads.1.bias",
    }
    for name, origin in pairs.items():
        torch.testing.assert_close(after[name], weights[origin], rtol=0, atol=0)
    left = {name.rpartition(".")[0] for name in transfer.left}
    assert {"encoder.3.0.conv", "decoder.0.0.conv", "upsample.0", "heads.0"} <= left
    torch.testing.assert_close(after["heads.0.weight"], before["heads.0.weight"], rtol=0, atol=0)
    assert transfer.left["encoder.3.0.conv.weight"] == "the model has none"


def test_what_has_another_shape_is_left_and_said_why():
    wider = PLAIN.model_copy(update={"kernel_sizes": ((3, 3, 3),) * 3})
    before, after, _, transfer = transferred(wider, ends(), PLAIN, ends())
    name = "encoder.0.1.conv.weight"
    assert transfer.left[name] == "3x3x3x3x3 here, 3x3x1x3x3 there"
    torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)
    assert "encoder.0.1.conv.bias" in transfer.moves


def test_the_share_counts_numbers_and_not_tensors():
    wanted = ends(structures="xyz")
    _, after, _, transfer = transferred(PLAIN, wanted, PLAIN, ends())
    total = sum(tensor.numel() for tensor in after.values())
    # One of four rows of each head: its features and a bias.
    assert total - transfer.num_taken == (6 + 1) + (3 + 1)
    assert transfer.share == pytest.approx(1 - 11 / total)
    assert transfer.num_tensors == len(after)


def test_weights_keep_type_and_memory_layout():
    source = network(PLAIN, ends(), 1).to(torch.bfloat16)
    target = network(PLAIN, ends(), 2).to(memory_format=torch.channels_last_3d)
    weights = source.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    layout = layout_of(PLAIN, 1, 3)
    fill(target, weights, find_transfer(layout, shapes, 3, match_ends(ends(), ends())))
    weight = target.state_dict()["encoder.1.0.conv.weight"]
    assert weight.dtype == torch.float32
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    expected = weights["encoder.1.0.conv.weight"].float()
    torch.testing.assert_close(weight, expected, rtol=0, atol=0)
