"""Select from models of the toy data set that were never trained."""

import json
import shutil
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
from candidates import (
    FIRST,
    FLAT,
    FOLDS,
    FULL,
    SECOND,
    finish,
    finish_all,
    set_folds,
    shrink,
    task_of,
)
from overlapping_dataset import IGNORE, prepared_task
from partial_dataset import write_partial_dataset

from autoseg.core.image import LabelMap
from autoseg.core.selection import CleanUp, CleanUpEffect, Group, Selection
from autoseg.errors import AutosegError, UnknownNameError, WorkspaceError
from autoseg.evaluate.overlap import score_case
from autoseg.io import artifacts, bundle
from autoseg.io.images import read_image, read_labels, write_labels
from autoseg.io.selected import load_selection, outdated
from autoseg.io.task import load_dataset
from autoseg.io.workspace import TaskFolder, Workspace
from autoseg.networks import precision
from autoseg.pipeline import ensembles
from autoseg.pipeline import selection as pipeline_selection
from autoseg.pipeline.candidates import gather
from autoseg.pipeline.data import plan_folder
from autoseg.pipeline.selection import SelectRequest, select_model
from autoseg.plan.planner import PlanRequest
from autoseg.predict.choosing import ModelChoice, choose_model
from autoseg.predict.loading import PredictOptions, load_segmenter
from autoseg.predict.predictor import Predictor

pytestmark = pytest.mark.slow
OPTIONS = PredictOptions(device="cpu", precision="float32")
REQUEST = SelectRequest(device="cpu", precision="float32", workers=0)
BOTH = f"{FLAT} + {FULL}"


@pytest.fixture(scope="module", autouse=True)
def one_layout():
    """No probe of what is fast here, which takes longer than all that is predicted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "_seconds", lambda step: 1.0)
        yield


@pytest.fixture(scope="module")
def selected(toy, tmp_path_factory):
    """A task with two folds of 2d and 3d_fullres, selected from; to be read."""
    task = task_of(toy, tmp_path_factory.mktemp("selected"))
    finish_all(task)
    select_model(task, REQUEST)
    return task


@pytest.fixture
def task(selected, tmp_path):
    """The same in a workspace of its own."""
    shutil.copytree(selected.root.parent, tmp_path / "workspace")
    return TaskFolder(tmp_path / "workspace" / selected.name)


@pytest.fixture
def predicted(monkeypatch):
    """Counts the images that networks are given."""
    found = []
    honest = Predictor.ready
    monkeypatch.setattr(Predictor, "ready", lambda self, i: found.append(1) or honest(self, i))
    return found


def standing(selection: Selection, name: str):
    return next(s for s in selection.standings if s.name == name)


def mean_dice(task, configurations, folds=FOLDS):
    """The Dice of what configurations predict together, through whole label maps."""
    dataset = load_dataset(task)
    found = {s.name: [] for s in dataset.labels.structures}
    for fold, held in folds.items():
        files = [[task.fold_folder("default", c, "default", fold).bundle] for c in configurations]
        segmenter = load_segmenter(files, OPTIONS)
        for name in held:
            case = dataset.case(name)
            label_map = segmenter.segment(read_image(dataset.image_paths(case)))
            reference = read_labels(dataset.label_path(case), dataset.labels)
            maps = [dataset.labels.to_indices(m.array) for m in (label_map, reference)]
            for structure, scores in score_case(*maps, dataset.labels).items():
                found[structure] += [scores.dice] if scores.dice is not None else []
    return fmean(fmean(values) for values in found.values() if values)


def test_every_model_and_ensemble_is_scored_as_it_would_predict(selected):
    selection = load_selection(selected)
    assert sorted(s.name for s in selection.standings) == [FLAT, BOTH, FULL]
    for name, parts in ((FLAT, [FLAT]), (FULL, [FULL]), (BOTH, [FLAT, FULL])):
        assert standing(selection, name).dice == pytest.approx(mean_dice(selected, parts))
    assert (selection.num_cases, selection.num_patients) == (4, 4)
    chosen = next(s for s in selection.standings if s.is_selected)
    assert selection.groups == chosen.groups
    assert selection.dice_before == pytest.approx(chosen.dice)
    folds = tuple(FOLDS)
    assert standing(selection, BOTH).groups == tuple(
        Group(plan="default", configuration=c, run="default", folds=folds) for c in (FLAT, FULL)
    )


def test_the_spread_tells_every_fold_of_every_model(selected):
    spread = {one.group.configuration: one for one in load_selection(selected).spread}
    for name in (FLAT, FULL):
        for fold, held in FOLDS.items():
            expected = mean_dice(selected, [name], {fold: held})
            assert spread[name].folds[fold] == pytest.approx(expected)
        assert spread[name].sd == pytest.approx(np.std(list(spread[name].folds.values()), ddof=1))
        assert spread[name].not_trained == ()


def test_no_probabilities_are_left_behind(selected):
    files = [p.name for p in selected.held_out.iterdir() if p.name != ".lock"]
    assert sorted(files) == sorted(f"{case}.json" for case in (*FIRST, *SECOND))
    assert all(p.stat().st_size < 100_000 for p in selected.held_out.glob("*.json"))


def test_a_repeated_command_predicts_nothing(task, predicted):
    before = load_selection(task)
    assert select_model(task, REQUEST) == before
    assert predicted == []


def test_an_interrupted_command_goes_on_where_it_was(task, predicted, monkeypatch):
    before = load_selection(task)
    shutil.rmtree(task.held_out)
    seen = []

    def stop(done, total, note="", *, share=None):
        seen.append(note)
        if "ensemble" in seen and done == 1:
            raise KeyboardInterrupt

    honest = ensembles._for_each
    monkeypatch.setattr(
        ensembles, "_for_each", lambda *words: seen.append("ensemble") or honest(*words)
    )
    with pytest.raises(KeyboardInterrupt):
        select_model(task, REQUEST, stop)
    # Single models are scored by the label maps they left; of the ensemble one case was done.
    assert len(predicted) == 2
    assert load_selection(task) == before
    again = select_model(task, REQUEST)
    assert again.standings == before.standings
    apart = 2 * 4 if len(again.groups) == 2 else 0  # an ensemble that wins is taken apart
    assert len(predicted) == 2 * len((*FIRST, *SECOND)) + apart


def test_weights_that_changed_are_noticed_and_scored_anew(task, predicted):
    before = load_selection(task)
    assert outdated(task, before) is None
    finish(task, FLAT, "fold1", SECOND, seed=99)
    assert outdated(task, before) == (
        "the selection is out of date: 1 fold trained again (default/2d/default/fold1); "
        "run: autoseg select"
    )
    after = select_model(task, REQUEST)
    assert standing(after, FULL).dice == pytest.approx(standing(before, FULL).dice)
    assert standing(after, FLAT).dice == pytest.approx(mean_dice(task, [FLAT]))
    assert standing(after, BOTH).dice == pytest.approx(mean_dice(task, [FLAT, FULL]))
    assert outdated(task, after) is None
    held = json.loads(task.held_out_file(SECOND[0]).read_text())
    assert len(held["voxels"]) == 3  # what the old weights got right is forgotten


def test_new_and_removed_folds_are_noticed(task):
    before = load_selection(task)
    finish(task, FULL, run="long")
    finish(task, FULL, "everything", (), run="long")
    shutil.rmtree(task.fold_folder("default", FLAT, "default", "fold0").root)
    assert outdated(task, before) == (
        "the selection is out of date: 1 fold trained since (default/3d_fullres/long/fold0), "
        "1 fold gone (default/2d/default/fold0); run: autoseg select"
    )
    only = before.model_copy(update={"run": "default"})
    assert "long" not in outdated(task, only)
    assert outdated(task, Selection(groups=before.groups)) is None


def test_predict_takes_what_was_selected_and_says_where_that_is_out_of_date(task, caplog):
    selection = load_selection(task)
    chosen = choose_model(task, ModelChoice())
    files = [[f"{g.configuration}/default/{fold}" for fold in g.folds] for g in selection.groups]
    found = [[str(path.parent) for path in group] for group in chosen.groups]
    for expected, group in zip(files, found, strict=True):
        assert all(path.endswith(end) for path, end in zip(group, expected, strict=True))
    assert chosen.clean_up == selection.clean_up
    assert selection.summary in chosen.why
    assert "out of date" not in caplog.text
    finish(task, FLAT, "fold1", SECOND, seed=99)
    assert choose_model(task, ModelChoice()).groups == chosen.groups
    assert "out of date: 1 fold trained again (default/2d/default/fold1)" in caplog.text


def test_a_copied_workspace_is_not_out_of_date(selected, tmp_path):
    shutil.copytree(selected.root.parent, tmp_path / "copy", copy_function=shutil.copyfile)
    task = TaskFolder(tmp_path / "copy" / selected.name)
    assert outdated(task, load_selection(task)) is None


def test_models_with_other_cases_are_compared_on_those_they_share(task):
    shutil.rmtree(task.fold_folder("default", FULL, "default", "fold1").root)
    selection = select_model(task, REQUEST)
    assert selection.num_cases == 2
    first = {"fold0": FIRST}
    assert standing(selection, FLAT).dice == pytest.approx(mean_dice(task, [FLAT], first))
    assert standing(selection, BOTH).dice == pytest.approx(mean_dice(task, [FLAT, FULL], first))
    assert selection.notes == (
        "3d_fullres: 1 of 2 folds trained; the rest: autoseg train 3d_fullres fold1",
        "compared on the 2 cases that all models held out; some held out more, up to 4",
    )
    spread = {one.group.configuration: one for one in selection.spread}
    assert spread[FULL].not_trained == ("fold1",)
    assert spread[FLAT].num_cases == 4


def test_a_trial_of_one_fold_with_the_same_weights_does_not_replace_a_cross_validation(task):
    for fold in FOLDS:
        shutil.rmtree(task.fold_folder("default", FLAT, "default", fold).root)
    finish(task, FULL, "fold0", FIRST, run="quick", seed=10)  # as finish_all draws them
    selection = select_model(task, REQUEST)
    full, trial = (standing(selection, name) for name in (FULL, "3d_fullres (run quick)"))
    assert full.dice == trial.dice
    assert (full.num_networks, trial.num_networks) == (1, 1)
    assert full.operations == trial.operations
    (group,) = selection.groups
    assert (group.run, group.folds) == ("default", tuple(FOLDS))
    assert trial.reason == "within noise of the highest Dice, but scored on fewer cases"


def test_a_model_that_shares_no_case_is_not_compared(task):
    for fold in FOLDS:
        shutil.rmtree(task.fold_folder("default", FULL, "default", fold).root)
    finish(task, FULL, "fold0", ("ball_02",), run="odd")
    selection = select_model(task, REQUEST)
    assert [s.name for s in selection.standings] == [FLAT]
    assert "3d_fullres (run odd) is not compared: it held out none of these cases" in (
        selection.notes
    )
    command = "autoseg train 3d_fullres fold1 --run odd"
    assert f"3d_fullres (run odd): 1 of 2 folds trained; the rest: {command}" in selection.notes


def test_only_the_named_run_or_plan_is_considered(task):
    finish(task, FULL, "fold0", FIRST, run="long", seed=5)
    selection = select_model(task, SelectRequest(**_fields(REQUEST), run="long"))
    assert [s.name for s in selection.standings] == ["3d_fullres (run long)"]
    assert selection.run == "long"
    assert outdated(task, selection) is None
    held = json.loads(task.held_out_file(FIRST[0]).read_text())
    assert len(held["voxels"]) == 4  # the others' scores are kept
    with pytest.raises(UnknownNameError, match="no run named 'lang'; did you mean 'long'"):
        select_model(task, SelectRequest(run="lang"))
    with pytest.raises(UnknownNameError, match="no plan with a trained model named 'x'"):
        select_model(task, SelectRequest(plan="x"))


def _fields(request):
    return {"device": request.device, "precision": request.precision, "workers": request.workers}


def test_nothing_to_select_from_names_the_command(toy, tmp_path):
    task = task_of(toy, tmp_path)
    with pytest.raises(WorkspaceError, match="no trained fold holds out cases; run: autoseg train"):
        select_model(task, REQUEST)
    finish(task, FLAT, "everything", ())
    with pytest.raises(WorkspaceError, match="no trained fold holds out cases; run: autoseg train"):
        select_model(task, REQUEST)


def test_models_of_other_labels_are_left_out_and_said(task):
    folder = task.fold_folder("default", FLAT, "default", "fold0")
    model = bundle.load_model(folder.bundle)
    other = model.labels.model_copy(update={"ignore": 7})
    bundle.save_model(folder.bundle, model.model_copy(update={"labels": other}))
    selection = select_model(task, REQUEST)
    assert "2d fold0 is left out: it was trained for other labels or channels" in selection.notes
    assert outdated(task, selection) is None


def test_folds_that_do_not_tell_what_they_held_out_are_left_out_and_said(task):
    folder = task.fold_folder("default", FLAT, "default", "fold1")
    model = bundle.load_model(folder.bundle)
    bundle.save_model(folder.bundle, model.model_copy(update={"held_out": ()}))
    notes = gather(task).notes
    assert "2d fold1 is left out: it is not known which cases it held out" in notes


def test_folds_of_another_plan_are_left_out_and_said(task):
    folder = task.fold_folder("default", FLAT, "default", "fold1")
    model = bundle.load_model(folder.bundle)
    plan = json.loads(model.plan.model_dump_json())
    patch = plan["configurations"][FLAT]["patch_size"]
    plan["configurations"][FLAT]["patch_size"] = [2 * size for size in patch]
    changed = type(model.plan).model_validate(plan)
    bundle.save_model(folder.bundle, model.model_copy(update={"plan": changed}))
    selection = select_model(task, REQUEST)
    assert "2d fold1 is left out: it was trained with another plan than fold0" in selection.notes


def test_held_out_cases_that_are_gone_are_left_out_and_said(task):
    folder = task.fold_folder("default", FLAT, "default", "fold0")
    model = bundle.load_model(folder.bundle)
    held = (*model.held_out, "lost")
    bundle.save_model(folder.bundle, model.model_copy(update={"held_out": held}))
    selection = select_model(task, REQUEST)
    assert "2d fold0 held out 1 case that is not in the data set any more" in selection.notes
    assert selection.num_cases == 4


def test_a_case_that_cannot_be_read_is_named_and_the_others_are_done(task, monkeypatch):
    before = load_selection(task)
    for file in task.held_out.glob("*.json"):
        file.write_text("broken")
    honest = ensembles.read_case

    def fail(gathered, name):
        if name == FIRST[1]:
            raise ValueError("of a sudden")
        return honest(gathered, name)

    monkeypatch.setattr(ensembles, "read_case", fail)
    with pytest.raises(
        AutosegError,
        match="1 of 4 cases failed: ball_01: ValueError: of a sudden; mend them and repeat",
    ):
        select_model(task, REQUEST)
    scored = [
        len(json.loads(f.read_text())["voxels"]) for f in sorted(task.held_out.glob("*.json"))
    ]
    assert scored == [3, 2, 3, 3]
    monkeypatch.setattr(ensembles, "read_case", honest)
    assert select_model(task, REQUEST) == before


def test_a_reference_that_changed_is_compared_anew(toy, tmp_path, predicted):
    raw = tmp_path / toy.raw.name
    shutil.copytree(toy.raw, raw)
    task = task_of(toy, tmp_path)
    dataset = json.loads(task.task_file.read_text()) | {"root": str(raw)}
    task.task_file.write_text(json.dumps(dataset))
    finish_all(task, [FLAT])
    select_model(task, REQUEST)
    made = len(predicted)
    labels = raw / "labelsTr" / f"{FIRST[0]}.nii.gz"
    old = read_labels(labels)
    write_labels(labels, LabelMap(array=np.flip(old.array, 2).copy(), geometry=old.geometry))
    select_model(task, REQUEST)
    assert len(predicted) == made  # of the same image
    scored = standing(load_selection(task), FLAT)
    assert scored.dice == pytest.approx(mean_dice(task, [FLAT]))


def test_a_single_model_is_selected_without_predicting_again(task, predicted):
    for fold in FOLDS:
        shutil.rmtree(task.fold_folder("default", FULL, "default", fold).root)
    shutil.rmtree(task.held_out)
    selection = select_model(task, REQUEST)
    assert predicted == []
    assert [s.name for s in selection.standings] == [FLAT]
    assert selection.summary.startswith("2d is the only model: mean Dice 0.")
    assert selection.summary.endswith("expect a little less of new ones.")


@pytest.mark.parametrize("kind", ["regions", "ignore"])
def test_overlapping_structures_and_voxels_to_ignore_count_as_in_evaluation(tmp_path, kind):
    declared = {"background": 0, "whole": [4, 7], "core": 7}
    if kind == "ignore":
        declared = {"background": 0, "shell": 4, "core": 7, "ignore": IGNORE}

    def annotate(number, labels):
        shown = labels.copy()
        if kind == "ignore":
            shown[:, :8] = IGNORE
        return shown

    task = prepared_task(tmp_path, declared, annotate)
    plan = json.loads(task.plan_file("default").read_text())
    for configuration in plan["configurations"].values():
        configuration["training"]["mirror_axes"] = []
    task.plan_file("default").write_text(json.dumps(plan))
    set_folds(task, {"fold0": ["ball_1", "ball_4"]})
    for seed, configuration in enumerate((FLAT, FULL)):
        finish(task, configuration, "fold0", ("ball_1", "ball_4"), seed=seed)
    selection = select_model(task, REQUEST)
    held = {"fold0": ("ball_1", "ball_4")}
    for name, parts in ((FLAT, [FLAT]), (BOTH, [FLAT, FULL])):
        assert standing(selection, name).dice == pytest.approx(mean_dice(task, parts, held))


def test_an_ensemble_that_wins_is_taken_apart(task, monkeypatch):
    honest = pipeline_selection.rank

    def favour(contenders, structures):
        found = honest(contenders, structures)
        return tuple(s.model_copy(update={"is_selected": s.name == BOTH}) for s in found)

    monkeypatch.setattr(pipeline_selection, "rank", favour)
    selection = select_model(task, REQUEST)
    assert [group.configuration for group in selection.groups] == [FLAT, FULL]
    assert selection.dice_before == pytest.approx(mean_dice(task, [FLAT, FULL]))
    assert artifacts.load(task.selection, Selection) == selection


def test_a_cascade_predicts_with_the_stage_that_held_the_case_out(toy, tmp_path):
    task = task_of(toy, tmp_path)
    plan = json.loads(task.plan_file("default").read_text())
    full = plan["configurations"][FULL]
    low = full | {"spacing": [4.0, 2.5, 2.0], "patch_size": [8, 16, 12]}
    plan["configurations"] |= {"3d_lowres": low, "cascade": full | {"previous": "3d_lowres"}}
    task.plan_file("default").write_text(json.dumps(plan))
    for seed, name in enumerate(("3d_lowres", "cascade")):
        finish(task, name, "fold0", FIRST, seed=seed)
    selection = select_model(task, REQUEST)
    first = {"fold0": FIRST}
    both = standing(selection, "3d_lowres + cascade")
    assert both.dice == pytest.approx(mean_dice(task, ["3d_lowres", "cascade"], first))
    cascade = standing(selection, "cascade")
    assert cascade.dice == pytest.approx(mean_dice(task, ["cascade"], first))
    assert (cascade.num_networks, both.num_networks) == (2, 3)
    assert cascade.operations > standing(selection, "3d_lowres").operations
    weights = task.fold_folder("default", "cascade", "default", "fold0").previous("fold0")
    tensors = bundle.load_weights(weights / "weights.safetensors")
    changed = {name: 1.5 * tensor for name, tensor in tensors.items()}
    bundle.save_weights(weights / "weights.safetensors", changed)
    after = select_model(task, REQUEST)
    assert standing(after, "3d_lowres").dice == standing(selection, "3d_lowres").dice
    assert standing(after, "cascade").dice == pytest.approx(mean_dice(task, ["cascade"], first))


def test_an_image_and_a_reference_of_two_sizes_are_named(task):
    gathered = gather(task)
    dataset = gathered.dataset
    other = dataset.case("ball_02").label
    cases = tuple(
        case.model_copy(update={"label": other}) if case.name == FIRST[0] else case
        for case in dataset.cases
    )
    gathered = replace(gathered, dataset=dataset.model_copy(update={"cases": cases}))
    with pytest.raises(AutosegError, match=r"ball_02.nii.gz: \(10, 26, 20\) voxels .* image has"):
        ensembles.read_case(gathered, FIRST[0])


def test_structures_that_a_case_is_not_annotated_for_have_no_say(tmp_path):
    raw = write_partial_dataset(tmp_path / "Task05_Joined")
    task = plan_folder(Workspace(tmp_path / "workspace"), raw, PlanRequest(), workers=0).task
    shrink(task)
    held = ("ball_00", "ball_01", "ball_02")  # everything, the shell only, the core only
    set_folds(task, {"fold0": held})
    finish(task, FLAT, "fold0", held)
    selection = select_model(task, REQUEST)
    (spread,) = selection.spread
    scores = json.loads(task.held_out_file("ball_01").read_text())["voxels"]
    assert len(next(iter(scores.values()))) == 2
    dataset = load_dataset(task)
    segmenter = load_segmenter(
        [[task.fold_folder("default", FLAT, "default", "fold0").bundle]], OPTIONS
    )
    expected = {"shell": [], "core": []}
    for name in held:
        case = dataset.case(name)
        label_map = segmenter.segment(read_image(dataset.image_paths(case)))
        reference = read_labels(dataset.label_path(case), dataset.labels)
        maps = [dataset.labels.to_indices(m.array) for m in (label_map, reference)]
        for structure in case.annotated or ("shell", "core"):
            expected[structure].append(score_case(*maps, dataset.labels)[structure].dice)
    assert {s: len(values) for s, values in expected.items()} == {"shell": 2, "core": 2}
    assert spread.structures == {s: pytest.approx(fmean(v)) for s, v in expected.items()}


def test_ensembles_of_the_best_models_only_are_scored_and_that_is_said(task, monkeypatch):
    monkeypatch.setattr(pipeline_selection, "MOST_TOGETHER", 1)
    selection = select_model(task, REQUEST)
    assert sorted(s.name for s in selection.standings) == [FLAT, FULL]
    assert selection.notes == ("ensembles of the 1 best models only were scored",)


def test_a_clean_up_that_pays_is_kept_with_what_it_brings(task, monkeypatch):
    rule = CleanUp(structure="core", smallest_ml=1e6)
    effect = CleanUpEffect(rule=rule, before=0.1, after=0.2, interval=(0.05, 0.15))
    monkeypatch.setattr(pipeline_selection, "choose_clean_up", lambda *_: (effect,))
    selection = select_model(task, REQUEST)
    assert selection.clean_up == (rule,)
    assert selection.effects == (effect,)
    assert selection.dice < selection.dice_before  # all of the core is gone
    assert (
        "Clean-up that pays beyond noise: core: components below 1e+06 ml removed "
        "(Dice 0.100 to 0.200); with it the mean Dice is "
        f"{selection.dice:.3f} instead of {selection.dice_before:.3f}." in selection.summary
    )
