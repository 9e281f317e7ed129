import json

import pytest
from peer_models import STATS, configuration, network, plans

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.plan import NetworkSpec
from autoseg.errors import ArtifactError, WorkspaceError
from autoseg.io.nnunet_plans import read_plans

BOTH = {"2d": configuration(), "3d_fullres": configuration(3)}


@pytest.fixture
def read(tmp_path):
    def read(content):
        (tmp_path / "nnUNetPlans.json").write_text(json.dumps(content))
        return read_plans(tmp_path / "nnUNetPlans.json")

    return read


@pytest.fixture
def why(read):
    """Why a configuration is left out beside one that is not."""

    def why(**changes):
        made = read(plans({"good": configuration(), "odd": configuration() | changes}))
        assert list(made.configurations) == ["good"]
        (line,) = made.lines
        assert line.endswith(
            f"nnUNetPlans.json: configurations.odd: left out: {made.left_out['odd']}"
        )
        return made.left_out["odd"]

    return why


def test_a_plan_is_read_in_our_words(read):
    made = read(plans(BOTH, transpose_forward=[2, 0, 1]))

    assert (made.name, made.dataset, made.transpose) == (
        "nnUNetPlans",
        "Dataset007_Ball",
        (2, 0, 1),
    )
    assert made.intensities == (IntensityStats(**STATS),)
    assert made.median_spacing == (2.5, 1.25, 1.0)
    assert made.lines == []
    flat, deep = made.configurations["2d"], made.configurations["3d_fullres"]
    assert (flat.spacing, flat.patch_size, flat.median_shape) == ((1.25, 1.0), (16, 12), (24.5, 20))
    assert (deep.spacing, deep.patch_size, deep.batch_size) == ((2.5, 1.25, 1.0), (8, 16, 12), 2)
    assert (flat.batch_dice, deep.batch_dice) == (True, False)
    assert (deep.normalization, deep.use_mask_for_norm) == (("zscore",), (False,))
    assert deep.training.mirror_axes == (0, 1, 2)
    assert flat.network == NetworkSpec(
        architecture="unet",
        features_per_stage=(4, 6),
        strides=((1, 1), (2, 2)),
        kernel_sizes=((3, 3), (3, 3)),
        blocks_per_stage=(2, 1),
        decoder_blocks_per_stage=(1,),
    )


def test_every_normalization_has_its_own_name(read):
    theirs = ["CTNormalization", "NoNormalization", "RescaleTo01Normalization"]
    theirs += ["RGBTo01Normalization", "ZScoreNormalization"]
    entry = configuration(normalization_schemes=theirs, use_mask_for_norm=[False] * 4 + [True])
    stats = {str(number): STATS for number in range(5)}

    made = read(plans({"2d": entry}, foreground_intensity_properties_per_channel=stats))

    planned = made.configurations["2d"]
    assert planned.normalization == ("ct", "none", "rescale_to_0_1", "rgb_to_0_1", "zscore")
    assert planned.use_mask_for_norm == (False, False, False, False, True)


def test_decoder_stages_are_counted_from_full_resolution(read):
    changes = {
        "n_stages": 3,
        "features_per_stage": [4, 6, 8],
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 1]],
        "n_blocks_per_stage": [1, 3, 4],
        "n_conv_per_stage_decoder": [1, 2],
    }
    entry = configuration(3, architecture=network(3, residual=True, **changes))

    spec = read(plans({"3d": entry})).configurations["3d"].network

    assert spec.architecture == "residual_unet"
    assert spec.decoder_blocks_per_stage == (2, 1)
    assert spec.blocks_per_stage == (1, 3, 4)
    assert spec.kernel_sizes == ((1, 3, 3), (3, 3, 3), (3, 3, 3))


def test_one_number_for_all_stages_counts_for_each(read):
    arguments = {"kernel_sizes": 3, "strides": [1, [2, 2]], "features_per_stage": 8}
    arguments |= {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 1}
    entry = configuration(architecture=network(**arguments))

    spec = read(plans({"2d": entry})).configurations["2d"].network

    assert (spec.features_per_stage, spec.blocks_per_stage) == ((8, 8), (2, 2))
    assert (spec.strides, spec.kernel_sizes) == (((1, 1), (2, 2)), ((3, 3), (3, 3)))


def test_configurations_inherit_over_several_steps(read):
    entries = {
        "mine": {"inherits_from": "less", "spacing": [2.0, 2.0]},
        "less": {"inherits_from": "2d", "batch_size": 1, "spacing": [3.0, 3.0]},
        "2d": configuration(),
    }

    mine = read(plans(entries)).configurations["mine"]

    assert (mine.batch_size, mine.spacing, mine.patch_size) == (1, (2.0, 2.0), (16, 12))


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"a": {"inherits_from": "b"}, "b": {"inherits_from": "a"}}, "round in circles (a > b)"),
        ({"a": {"inherits_from": "a"}}, "inherits_from: goes round in circles (a)"),
        ({"a": {"inherits_from": "c"}}, "inherits_from: no configuration 'c'"),
    ],
)
def test_an_inheritance_without_end_leaves_a_configuration_out(read, entries, reason):
    made = read(plans({"2d": configuration()} | entries))

    assert list(made.configurations) == ["2d"]
    assert reason in made.left_out["a"]


def test_an_old_plan_without_architecture_is_read(read):
    old = configuration(3)
    del old["architecture"]
    old |= {
        "UNet_class_name": "ResidualEncoderUNet",
        "UNet_base_num_features": 16,
        "unet_max_num_features": 40,
        "n_conv_per_stage_encoder": [1, 2, 3],
        "n_conv_per_stage_decoder": [1, 2],
        "num_pool_per_axis": [1, 2, 2],
        "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "patch_size": [8, 16, 12],
    }
    content = plans({"3d": old})
    key = "foreground_intensity_properties_per_channel"
    content["foreground_intensity_properties_by_modality"] = content.pop(key)

    spec = read(content).configurations["3d"].network

    assert spec == NetworkSpec(
        architecture="residual_unet",
        features_per_stage=(16, 32, 40),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        blocks_per_stage=(1, 2, 3),
        decoder_blocks_per_stage=(2, 1),
    )


def test_a_cascade_knows_its_previous_stage(read):
    entries = BOTH | {
        "3d_lowres": configuration(3, spacing=[4.0, 2.0, 2.0], next_stage=["3d_cascade_fullres"]),
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }

    made = read(plans(entries))

    assert made.configurations["3d_cascade_fullres"].previous == "3d_lowres"
    assert made.configurations["3d_lowres"].previous is None


def test_a_cascade_is_left_out_with_its_previous_stage(read):
    entries = BOTH | {
        "low": configuration(3, preprocessor_name="Mine"),
        "cascade": {"inherits_from": "3d_fullres", "previous_stage": "low"},
    }

    made = read(plans(entries))

    assert list(made.configurations) == ["2d", "3d_fullres"]
    assert made.left_out["cascade"] == "previous_stage: 'low' is left out, or not there"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"preprocessor_name": "Mine"}, "preprocessor_name: 'Mine' is none that autoseg has"),
        (
            {"normalization_schemes": ["MyNorm"]},
            "normalization_schemes: 'MyNorm' is none that autoseg has",
        ),
        (
            {"normalization_schemes": ["CTNormalization"] * 2, "use_mask_for_norm": [False] * 2},
            (
                "normalization_schemes: 2 entries, where "
                "'foreground_intensity_properties_per_channel' has 1 channels"
            ),
        ),
        (
            {"resampling_fn_data": "resample_torch_fornnunet"},
            (
                "resampling_fn_data: 'resample_torch_fornnunet' is none that autoseg has "
                "(resample_data_or_seg_to_shape)"
            ),
        ),
        (
            {"resampling_fn_seg_kwargs": {"is_seg": True, "order": 0}},
            "resampling_fn_seg_kwargs.order: autoseg has no 0, only 1",
        ),
        (
            {"resampling_fn_probabilities_kwargs": {"force_separate_z": False}},
            "resampling_fn_probabilities_kwargs.force_separate_z: autoseg has no False, only None",
        ),
        ({"batch_size": 0}, "batch_size: should be greater than or equal to 1, got 0"),
        ({"patch_size": [15, 12]}, "'patch_size' [15, 12] is not divisible by [2, 2], "),
        ({"spacing": [1.0]}, "'spacing' and 'patch_size' need 2 entries"),
        ({"architecture": 3}, "architecture: should be an object"),
        ({"architecture": {"network_class_name": "a.Primus"}}, "network 'a.Primus' is none that "),
        (
            {"architecture": network() | {"network_class_name": "mine.PlainConvUNet"}},
            "network 'mine.PlainConvUNet' is none that autoseg has (PlainConvUNet, Residual",
        ),
        (
            {"architecture": network(conv_bias=False)},
            "architecture.arch_kwargs.conv_bias: False is nothing autoseg's networks have",
        ),
        (
            {"architecture": network(norm_op="torch.nn.BatchNorm2d")},
            "architecture.arch_kwargs.norm_",
        ),
        (
            {"architecture": network(norm_op_kwargs={"eps": 1e-3, "affine": True})},
            "architecture.arch_",
        ),
        (
            {"architecture": network(nonlin="torch.nn.ReLU")},
            "architecture.arch_kwargs.nonlin: 'tor",
        ),
        (
            {"architecture": network(nonlin_kwargs={"negative_slope": 0.1})},
            "architecture.arch_kwargs",
        ),
        (
            {"architecture": network(nonlin_first=True)},
            "architecture.arch_kwargs.nonlin_first: True",
        ),
        (
            {"architecture": network(squeeze_excitation=True)},
            "architecture.arch_kwargs.squeeze_exc",
        ),
        ({"architecture": network(pool="avg")}, "architecture.arch_kwargs.pool: 'avg' is nothing"),
        (
            {"architecture": network(stem_channels=7)},
            "architecture.arch_kwargs.stem_channels: 7 is",
        ),
        (
            {"architecture": network(strides=[[2, 2], [2, 2]])},
            "strides: the first stage has a stri",
        ),
        ({"architecture": network(kernel_sizes=[[2, 3], [3, 3]])}, "'kernel_sizes' must be odd"),
        ({"architecture": network(n_conv_per_stage=None)}, "arch_kwargs: missing key 'n_conv_per"),
        ({"architecture": network(n_stages="two")}, "n_stages: should be a valid integer"),
        ({"architecture": network(n_stages=3)}, "n_stages: 3, where features_per_stage has 2"),
    ],
)
def test_what_autoseg_cannot_do_leaves_a_configuration_out_with_the_field(why, changes, reason):
    assert why(**changes).startswith(reason)


def test_arguments_that_ask_for_nothing_do_no_harm(read):
    harmless = {"nonlin_first": False, "squeeze_excitation": None, "block": "x.BasicBlockD"}
    harmless |= {"stem_channels": 4, "deep_supervision": True, "pool": "conv"}
    entry = configuration(architecture=network(**harmless))

    assert list(read(plans({"2d": entry})).configurations) == ["2d"]


def test_dropout_and_unknown_keys_are_told_and_do_not_count(read):
    dropping = network(dropout_op="torch.nn.Dropout2d", dropout_op_kwargs={"p": 0.2})

    made = read(plans({"2d": configuration(architecture=dropping, colour="red")}))

    assert list(made.configurations) == ["2d"]
    assert [line.partition(": ")[2] for line in made.lines] == [
        "configurations.2d.colour: autoseg does not know this key; it does not count",
        (
            "configurations.2d.architecture.arch_kwargs.dropout_op: autoseg trains without "
            "dropout; predictions are the same"
        ),
    ]


def test_a_reader_that_turns_images_is_told(read):
    (line,) = read(plans(image_reader_writer="NibabelIOWithReorient")).lines

    assert "NibabelIOWithReorient turns images to RAS first, which autoseg does not" in line


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        ({"name": "default", "configurations": {}}, "is no plan of nnU-Net v2"),
        (plans(transpose_forward=[0, 0, 1]), "transpose_forward: should be a permutation"),
        (plans(label_manager="Mine"), "label_manager: 'Mine' is none that autoseg has"),
        (
            plans(foreground_intensity_properties_per_channel={"1": STATS}),
            "foreground_intensity_properties_per_channel: should number the channels from 0",
        ),
        (
            plans({"2d": configuration(preprocessor_name="Mine")}),
            "none of its configurations can be adopted: 2d: preprocessor_name: 'Mine' is none",
        ),
    ],
)
def test_a_file_of_which_nothing_can_be_adopted_is_refused(read, content, finding):
    with pytest.raises(ArtifactError) as caught:
        read(content)
    assert caught.value.finding.startswith(finding)


def test_a_missing_file_is_told_with_what_is_wanted(tmp_path):
    with pytest.raises(WorkspaceError, match=r"does not exist; name the plan or the model's plans"):
        read_plans(tmp_path / "plans.json")
