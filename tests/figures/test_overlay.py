import itertools
import re

import numpy as np
import pytest
from matplotlib.image import imread

from autoseg.figures.colours import structure_colours
from autoseg.figures.overlay import OverlayRow, best_slice, overlay_figure, save_overlay

SHAPE = (5, 20, 30)
SPACING = (4.0, 3.0, 1.5)
NAMES = ["kidney", "tumour"]


def row(title="case_001   kidney 0.93", spacing=SPACING):
    rng = np.random.default_rng(0)
    reference = np.zeros(SHAPE, dtype=np.int16)
    reference[0:2, 2:18, 3:27] = 1
    reference[3, 8:12, 10:15] = 2
    prediction = np.roll(reference, 2, axis=2)
    image = rng.normal(size=SHAPE).astype(np.float32)
    image[3] = np.arange(20)[:, np.newaxis]
    panels = [("image", None), ("reference", reference), ("prediction", prediction)]
    return OverlayRow(title=title, image=image, panels=panels, spacing=spacing)


def texts(figure):
    return [text.get_text() for text in figure.texts]


def test_the_slice_is_the_one_that_shows_the_rarest_structure_best():
    labels = np.zeros((6, 7, 8), dtype=np.int16)
    labels[0] = 1
    labels[2, 0, :3] = 2
    labels[4, 0, :5] = 2
    assert best_slice(labels) == 4


def test_without_a_structure_the_slice_is_the_middle():
    assert best_slice(np.zeros((7, 3, 4), dtype=np.uint8)) == 3
    assert best_slice(np.full((5, 3, 4), -1)) == 2


def test_panels_stand_side_by_side_and_show_that_slice():
    figure = overlay_figure([row()], NAMES)
    assert [axes.get_title() for axes in figure.axes] == ["image", "reference", "prediction"]
    tops = {axes.get_position().y0 for axes in figure.axes}
    lefts = [axes.get_position().x0 for axes in figure.axes]
    assert len(tops) == 1
    assert lefts == sorted(lefts)
    for axes in figure.axes:
        shown = axes.images[0].get_array()
        assert np.array_equal(shown, row().image[3])


def test_only_panels_with_labels_are_coloured():
    image, reference, prediction = overlay_figure([row()], NAMES).axes
    assert len(image.images) == 1
    fill = reference.images[1].get_array()
    labels = row().panels[1][1][3]
    colour = structure_colours(2)[1]
    assert np.array_equal(fill[..., 3] > 0, labels == 2)
    assert fill[9, 12, :3].tolist() == pytest.approx(colour)
    assert 0 < fill[9, 12, 3] < 0.6
    assert len(reference.collections) == len(prediction.collections) == 1


def test_a_structure_at_the_border_keeps_a_closed_contour():
    labels = np.ones((1, 6, 9), dtype=np.int16)
    bare = OverlayRow(
        title="full", image=np.zeros((1, 6, 9)), panels=[("all", labels)], spacing=(1, 1, 1)
    )
    (axes,) = overlay_figure([bare], NAMES).axes
    (path,) = axes.collections[0].get_paths()
    assert np.array_equal(path.vertices[0], path.vertices[-1])


@pytest.mark.parametrize(("row_mm", "column_mm"), [(3.0, 1.5), (1.0, 1.0), (0.7, 1.1)])
def test_a_millimetre_is_as_high_as_it_is_wide(row_mm, column_mm):
    figure = overlay_figure([row(spacing=(4.0, row_mm, column_mm))], NAMES)
    width, height = figure.get_size_inches()
    for axes in figure.axes:
        box = axes.get_position()
        shape = box.height * height / (box.width * width)
        assert shape == pytest.approx(20 * row_mm / (30 * column_mm))
        assert axes.get_aspect() == pytest.approx(row_mm / column_mm)


def test_captions_and_legend_name_cases_and_structures():
    figure = overlay_figure([row("case_001   tumour 0.71"), row("case_002   tumour -")], NAMES)
    assert texts(figure) == ["case_001   tumour 0.71", "case_002   tumour -"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["tumour"]


def test_an_image_without_labels_is_drawn_without_a_legend():
    alone = OverlayRow(title="new", image=np.ones(SHAPE), panels=[("image", None)], spacing=SPACING)
    figure = overlay_figure([alone], NAMES)
    assert len(figure.axes) == 1
    assert figure.legends == []


def test_air_does_not_take_the_grey_levels_of_soft_tissue():
    image = np.full((1, 60, 80), -1000.0)
    image[0, 15:45, 20:60] = np.linspace(-100, 100, 40)
    labels = np.zeros((1, 60, 80), dtype=np.uint8)
    labels[0, 25:35, 30:50] = 1
    body = OverlayRow(title="", image=image, panels=[("", labels)], spacing=(1, 1, 1))
    low, high = overlay_figure([body], NAMES).axes[0].images[0].get_clim()
    assert -200 < low < -50
    assert 50 < high < 200


def test_the_file_is_between_900_and_1400_pixels_wide(tmp_path):
    for columns in (1, 2, 3, 5):
        labels = row().panels[1][1]
        panels = [(str(i), labels) for i in range(columns)]
        wide = OverlayRow(title="", image=row().image, panels=panels, spacing=SPACING)
        path = save_overlay(tmp_path / "new" / f"{columns}.png", [wide], NAMES)
        assert 900 <= imread(path).shape[1] <= 1400


def test_a_long_legend_stays_within_the_figure():
    labels = np.arange(40, dtype=np.int16).reshape(1, 5, 8).repeat(2, axis=0)
    many = OverlayRow(title="", image=labels * 1.0, panels=[("", labels)], spacing=SPACING)
    figure = overlay_figure([many], [f"left upper organ {i}" for i in range(1, 40)])
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    figure.canvas.draw()
    assert box.y1 <= figure.axes[0].get_window_extent().y0


def test_colours_of_many_structures_differ_and_are_stable():
    colours = structure_colours(40)
    assert structure_colours(5) == colours[:5]
    distances = [np.linalg.norm(np.subtract(a, b)) for a, b in itertools.combinations(colours, 2)]
    assert min(distances) > 0.08
    assert min(np.ptp(colour) for colour in colours) > 0.3


def test_labels_of_another_shape_are_refused():
    panels = [("reference", np.zeros((1, 2, 3), dtype=int))]
    with pytest.raises(ValueError, match=re.escape("'reference' has shape (1, 2, 3)")):
        OverlayRow(title="", image=np.zeros(SHAPE), panels=panels, spacing=SPACING)
    with pytest.raises(ValueError, match="at least one row"):
        overlay_figure([], NAMES)


def test_a_colour_image_is_shown_in_its_colours():
    labels = np.zeros((2, 6, 9), dtype=np.int16)
    labels[1, 2:4, 3:5] = 1
    colours = np.random.default_rng(0).uniform(-0.1, 1.1, size=(2, 6, 9, 3))
    panels = [("image", None), ("reference", labels)]
    bare = OverlayRow(title="rgb", image=colours, panels=panels, spacing=(999, 1, 1))
    image, reference = overlay_figure([bare], NAMES).axes
    assert np.array_equal(image.images[0].get_array(), colours[1].clip(0, 1))
    assert reference.images[1].get_array()[3, 4, 3] > 0


def test_labels_of_another_shape_than_a_colour_image_are_refused():
    with pytest.raises(ValueError, match="has shape"):
        OverlayRow(
            title="rgb",
            image=np.zeros((1, 6, 9, 3)),
            panels=[("reference", np.zeros((1, 9, 6), dtype=np.int16))],
            spacing=(999, 1, 1),
        )
