from autoseg.core.ends import BACKGROUND, ends_of, match_channels, match_ends, match_names
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.plan import Configuration, NetworkSpec, TrainingSpec

NETWORK = NetworkSpec(
    architecture="unet",
    features_per_stage=(4, 8),
    strides=((1, 1), (2, 2)),
    kernel_sizes=((3, 3), (3, 3)),
    blocks_per_stage=(1, 1),
    decoder_blocks_per_stage=(1,),
)


def configuration(previous=None):
    return Configuration(
        spacing=(1.0, 1.0),
        patch_size=(8, 16),
        batch_size=2,
        median_shape=(8.0, 16.0),
        batch_dice=True,
        normalization=("zscore",),
        use_mask_for_norm=(False,),
        previous=previous,
        network=NETWORK,
        training=TrainingSpec(),
    )


def organs(**values):
    structures = (Structure(name=name, values=(value,)) for name, value in values.items())
    return LabelSpace(structures=tuple(structures))


REGIONS = LabelSpace(
    structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))),
    output_values=(1, 2),
)


def ends(labels, channels=("MRI",), previous=None):
    return ends_of(configuration(previous), channels, labels)


def test_outputs_follow_the_label_values_and_not_the_order_of_declaration():
    assert ends(organs(spleen=7, liver=2)).outputs == (BACKGROUND, "liver", "spleen")


def test_regions_have_an_output_each_in_the_order_of_declaration():
    found = ends(REGIONS)
    assert (found.outputs, found.overlapping) == (("whole", "core"), True)


def test_a_cascade_reads_a_channel_for_every_label_after_those_of_the_images():
    found = ends(organs(spleen=7, liver=2), ("T1", "T2"), previous="3d_lowres")
    assert (found.channels, found.predicted) == (("T1", "T2"), ("liver", "spleen"))
    assert found.num_inputs == 4
    assert ends(REGIONS, previous="3d_lowres").predicted == ("whole", "whole + core")


def test_names_match_whatever_their_order():
    match = match_names(("b", "c", "a"), ("a", "b", "d"))
    assert match.pairs == ((0, 1), (2, 0))
    assert (match.found, match.new, match.unused) == (("b", "a"), ("c",), ("d",))


def test_case_and_blanks_do_not_matter_where_they_leave_no_doubt():
    assert match_names(("Liver ",), ("liver",)).pairs == ((0, 0),)
    assert match_names(("Liver ",), ("liver",)).renamed == ()
    assert match_names(("Ca", "CA"), ("ca", "CA")).pairs == ((1, 1),)


def test_a_single_channel_takes_the_place_of_a_single_other_one():
    match = match_channels(("T1",), ("MRI",))
    assert (match.pairs, match.renamed) == (((0, 0),), (("T1", "MRI"),))
    assert match_channels(("T1", "T2"), ("MRI", "CT")).pairs == ()
    assert match_names(("T1",), ("MRI",)).pairs == ()


def test_predicted_channels_are_counted_after_those_of_the_images():
    wanted = ends(organs(liver=1, tumour=2), ("T1", "T2"), previous="3d_lowres")
    known = ends(organs(tumour=1, liver=2), ("T2",), previous="3d_lowres")
    match = match_ends(wanted, known)
    assert match.input_pairs == ((1, 0), (2, 2), (3, 1))
    assert match.outputs.pairs == ((0, 0), (1, 2), (2, 1))


def test_regions_and_structures_that_exclude_each_other_are_not_paired():
    match = match_ends(ends(REGIONS), ends(organs(whole=1, core=2)))
    assert not match.is_same_kind
    assert match.outputs.pairs == ()
    same = match_ends(ends(REGIONS), ends(REGIONS))
    assert (same.is_same_kind, same.outputs.pairs) == (True, ((0, 0), (1, 1)))
