from dataclasses import replace

import pytest
import torch
from torch import nn

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.geometry import Geometry
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.plan import Configuration, NetworkSpec, Recipe, TrainingSpec
from autoseg.errors import DataError
from autoseg.networks.precision import Precision
from autoseg.predict.memory import Wanted, prediction_memory, refuse_too_large, slab_rows
from autoseg.predict.predictor import Predictor

MEGA = 10**6


def predictor(num_classes=3, patch=(16, 32, 32), spacing=(2.0, 1.0, 1.0), **changes) -> Predictor:
    dimensions = len(patch)
    network = NetworkSpec(
        architecture="unet",
        features_per_stage=(10, 20),
        strides=((1,) * dimensions, (2,) * dimensions),
        kernel_sizes=((3,) * dimensions,) * 2,
        blocks_per_stage=(1, 1),
        decoder_blocks_per_stage=(1,),
    )
    configuration = Configuration(
        spacing=spacing,
        patch_size=patch,
        batch_size=2,
        median_shape=patch,
        batch_dice=False,
        normalization=("ct",),
        use_mask_for_norm=(False,),
        network=network,
        training=TrainingSpec(),
    )
    stats = dict.fromkeys(IntensityStats.model_fields, 1.0)
    structures = [Structure(name=str(value), values=(value,)) for value in range(1, num_classes)]
    made = Predictor(
        identity="",
        networks=[nn.Linear(1000, 1000, bias=False)],
        configuration=configuration,
        recipe=Recipe(
            transpose=(1, 0, 2),
            spacing=spacing,
            channels=("CT",),
            normalization=("ct",),
            use_mask_for_norm=(False,),
            intensities=(IntensityStats.model_validate(stats),),
            label_values=tuple(range(num_classes)),
        ),
        labels=LabelSpace(structures=tuple(structures)),
        mirror_axes=(),
        device=torch.device("cpu"),
        precision=Precision(dtype="bfloat16"),
    )
    return replace(made, **changes)


def geometry(z: int, y: int, x: int) -> Geometry:
    return Geometry(shape=(z, y, x), spacing=(1.0, 4.0, 1.0))


# The raw image is (200, 50, 300) of 3 million voxels at 1 x 4 x 1 mm; its second axis comes first
# when it is prepared, at 2 x 1 x 1 mm: (100, 200, 300).
LARGE = (200, 50, 300)


class TestEstimate:
    def test_every_part_follows_from_the_shapes(self):
        memory = prediction_memory([predictor()], geometry(*LARGE))
        assert memory.image == 4 * 3 * MEGA
        # Six million voxels, and a slab of 32 rows.
        assert memory.prepared == 4 * (6 * MEGA + 32 * 200 * 300)
        # Along x a section has 20,000 voxels: 32 rows in work of three outputs and the weights,
        # 32 finished ones and 16 before them, and what 32 + 2 rows of a result need.
        assert memory.window == 4 * 20_000 * (4 * 32 + 3 * (32 + 16 + 34))
        # Four times ten features in bfloat16, and four times three outputs in float32.
        assert memory.network_pass == 16 * 32 * 32 * (2 * 4 * 10 + 4 * 4 * 3)
        assert (memory.preparing, memory.labels, memory.finishing) == (18e6, 6e6, 24e6)
        # The networks hold a million weights.
        assert memory.process == 450 * MEGA + 4 * MEGA

    @pytest.mark.parametrize(
        ("part", "others"),
        [
            ("preparing", ("image",)),
            ("window", ("network_pass", "labels")),
            ("finishing", ("labels",)),
        ],
    )
    def test_the_peak_is_in_the_largest_of_three_stages(self, part, others):
        estimate = prediction_memory([predictor()], geometry(*LARGE))
        memory = replace(estimate, **{part: 10**9})
        held = (memory.process, memory.prepared)
        together = sum(held) + 10**9 + sum(getattr(memory, name) for name in others)
        assert memory.total == pytest.approx(1.1 * together)

    def test_float32_takes_twice_the_features(self):
        passes = [
            prediction_memory([predictor(precision=Precision(dtype=d))], geometry(*LARGE))
            for d in ("float32", "bfloat16")
        ]
        features = [one.network_pass - 16 * 32 * 32 * 48 for one in passes]
        assert features[0] == 2 * features[1]

    def test_slices_take_a_window_of_one_row(self):
        flat = predictor(patch=(32, 32), spacing=(1.0, 1.0))
        memory = prediction_memory([flat], geometry(*LARGE))
        # (50, 200, 300): slices are not resampled across.
        assert memory.prepared == 4 * (3 * MEGA + 32 * 200 * 300)
        assert memory.window == 4 * 60_000 * (4 + 3 * (2 + 34))

    def test_members_advance_together_and_stages_of_a_cascade_do_not(self):
        one, where = predictor(), geometry(*LARGE)
        alone = prediction_memory([one], where)
        both = prediction_memory([one, one], where)
        cascade = prediction_memory([predictor(previous=one)], where)
        assert both.window == 2 * alone.window
        assert cascade.window == alone.window
        assert both.network_pass == cascade.network_pass == alone.network_pass
        # The image and the label map beside it, twice, and a slab; and what the stage before reads.
        slab = 32 * 200 * 300
        assert cascade.prepared == alone.prepared + 4 * (4 * 6 * MEGA + slab)

    def test_on_a_gpu_features_are_not_in_main_memory(self):
        memory = prediction_memory([predictor(device=torch.device("cuda"))], geometry(*LARGE))
        assert memory.network_pass == 0
        assert memory.process > 10**9

    def test_probabilities_are_cut_along_the_first_axis_and_pass_by(self):
        wanted = Wanted(probabilities=True)
        memory = prediction_memory([predictor()], geometry(*LARGE), wanted)
        # z is second when it is prepared, where a section has 100 x 300 voxels: 32 rows in work,
        # 32 finished and 16 before them, and what 32 rows of as many raw ones need.
        assert memory.window == 4 * 30_000 * (4 * 32 + 3 * (32 + 16 + 34))
        # 32 raw rows of 50 x 300: three outputs twice, and what a decision takes; compression.
        assert memory.slabs == 4 * 32 * 15_000 * (2 * 3 + 4) + 3 * 300_000
        assert (memory.held, memory.uncertainty, memory.finishing) == (0, 0, 24 * MEGA)

    def test_slices_are_worked_off_across_whatever_is_wanted(self):
        flat = predictor(patch=(32, 32), spacing=(1.0, 1.0))
        plain = prediction_memory([flat], geometry(*LARGE))
        memory = prediction_memory([flat], geometry(*LARGE), Wanted(probabilities=True))
        assert (memory.window, memory.held) == (plain.window, 0)
        # Wherever the non-zero region leads: 32 rows of 200 x 300.
        assert memory.slabs == 4 * 32 * 60_000 * (2 * 3 + 4) + 3 * 300_000

    def test_a_map_of_uncertainty_is_held_and_then_written(self):
        plain = prediction_memory([predictor()], geometry(*LARGE))
        memory = prediction_memory([predictor()], geometry(*LARGE), Wanted(uncertainty=True))
        assert memory.window == plain.window
        assert memory.slabs == 4 * 32 * 60_000 * (2 * 3 + 4)
        assert (memory.uncertainty, memory.finishing) == (6 * MEGA, 14 * 3 * MEGA)

    def test_several_members_pass_by_as_probabilities_and_one_across_is_held(self):
        flat = predictor(patch=(32, 32), spacing=(1.0, 1.0))
        turned = replace(flat, recipe=flat.recipe.model_copy(update={"transpose": (0, 1, 2)}))
        with_full = prediction_memory([flat, predictor()], geometry(*LARGE))
        assert with_full.held == 0
        assert with_full.slabs == 4 * 32 * 60_000 * (3 * 3 + 4)
        across = prediction_memory([flat, turned], geometry(*LARGE))
        assert across.held == 2 * 3 * 3 * MEGA

    @pytest.mark.parametrize("part", ["slabs", "held", "uncertainty"])
    def test_what_is_wanted_besides_is_there_while_the_networks_work(self, part):
        memory = prediction_memory([predictor()], geometry(*LARGE), Wanted(uncertainty=True))
        largest = replace(memory, window=10**9)
        more = replace(largest, **{part: getattr(largest, part) + 10**9})
        assert more.total - largest.total == pytest.approx(1.1e9)

    @pytest.mark.parametrize(
        ("outputs", "shape", "rows"),
        [(3, LARGE, 32), (24, (256, 256, 256), 21), (105, (40, 800, 800), 1)],
    )
    def test_slabs_get_thinner_with_more_outputs(self, outputs, shape, rows):
        assert slab_rows(outputs, shape, 0) == rows


class TestLimit:
    def test_what_just_fits_is_allowed(self):
        one, where = predictor(), geometry(*LARGE)
        refuse_too_large([one], where, None)
        needed = prediction_memory([one], where).total
        refuse_too_large([one], where, needed)
        with pytest.raises(DataError, match="more than"):
            refuse_too_large([one], where, needed - 1)

    def test_what_does_not_fit_is_refused_with_what_it_would_take(self):
        one, where = predictor(), geometry(*LARGE)
        with pytest.raises(DataError) as caught:
            refuse_too_large([one], where, 500 * MEGA)
        assert str(caught.value) == (
            "predicting 200x50x300 voxels would take 576 MB, more than the 500 MB allowed; "
            "allow more with --max-memory, or crop the image"
        )

    def test_of_several_models_fewer_would_do(self):
        with pytest.raises(DataError, match="with --max-memory, predict with fewer models, or"):
            refuse_too_large([predictor(), predictor()], geometry(*LARGE), 500 * MEGA)

    @pytest.mark.parametrize(
        ("wanted", "flags"),
        [
            (Wanted(probabilities=True), "--save-probabilities"),
            (Wanted(uncertainty=True), "--uncertainty"),
            (
                Wanted(probabilities=True, uncertainty=True),
                "--save-probabilities and --uncertainty",
            ),
        ],
    )
    def test_what_does_not_fit_besides_is_told(self, wanted, flags):
        one, where = predictor(), geometry(*LARGE)
        limit = prediction_memory([one], where).total
        refuse_too_large([one], where, limit)
        with pytest.raises(DataError) as caught:
            refuse_too_large([one], where, limit, wanted)
        assert str(caught.value).endswith(
            f"allow more with --max-memory, leave out {flags}, or crop the image"
        )
        with pytest.raises(DataError, match="with --max-memory, or crop the image"):
            refuse_too_large([one], where, 500 * MEGA, wanted)
