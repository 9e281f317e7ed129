"""``autoseg preprocess`` seen from outside: whatever happens to it, no case is lost or wrong."""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import toy_case, write_toy_dataset

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image, LabelMap
from autoseg.io.images import write_image, write_labels
from autoseg.io.workspace import Workspace
from autoseg.pipeline.data import plan_folder
from autoseg.plan.planner import PlanRequest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="kills processes found in /proc"),
]

CONFIGURATION = "3d_fullres"
PATIENCE_S = 600.0
NUM_KILLS = 20
NUM_LONG = 14
BIG = "long_13"


# The task -------------------------------------------------------------------------------------


def long_case(number, shape):
    """Noise with a ball, oblique, anisotropic, off-origin; takes a while to prepare."""
    cos, sin = np.cos(0.1), np.sin(0.1)
    geometry = Geometry(
        shape=shape,
        spacing=(2.0, 1.0, 1.25 + 0.125 * (number % 3)),
        origin=(-40.0 + number, 12.5, 7.0),
        direction=((1.0, 0.0, 0.0), (0.0, cos, -sin), (0.0, sin, cos)),
    )
    rng = np.random.default_rng(number)
    grid = np.meshgrid(*(np.arange(n) - n / 2 for n in shape), indexing="ij", sparse=True)
    inside = sum(axis**2 for axis in grid) < (8 + number % 3) ** 2
    array = np.round(100 + 80 * inside + rng.normal(0, 20, shape)).astype(np.float32)
    labels = LabelMap(array=inside.astype(np.uint8), geometry=geometry)
    return Image(array=array[np.newaxis], geometry=geometry), labels


def write_long_dataset(folder):
    """Fourteen cases, the last one three times as large as the others."""
    names = [f"long_{number:02d}" for number in range(NUM_LONG)]
    for number, name in enumerate(names):
        shape = (40, 90 + number, 80) if name != BIG else (40, 150, 150)
        image, labels = long_case(number, shape)
        write_image(folder / "imagesTr" / f"{name}.nii.gz", image)
        write_labels(folder / "labelsTr" / f"{name}.nii.gz", labels)
    description = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "ball"},
        "training": [
            {"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"}
            for name in names
        ],
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


class Planned:
    """A planned task, its raw files and the store that commands make of it."""

    def __init__(self, root, raw):
        self.root = root
        self.raw = raw

    @classmethod
    def make(cls, root, raw):
        plan_folder(Workspace(root), raw, PlanRequest(), workers=0)
        return cls(root, raw)

    def copy(self, root):
        shutil.copytree(self.root, root)
        return Planned(root, self.raw)

    @property
    def prepared(self):
        return self.root / self.raw.name / "prepared"

    @property
    def store(self):
        (folder,) = self.prepared.glob(f"{CONFIGURATION}-*")
        return folder

    def cases(self):
        """Finished cases, with the time at which their files were last written."""
        return {
            file.parent.name: file.stat().st_mtime_ns
            for file in self.prepared.glob(f"{CONFIGURATION}-*/*/case.json")
            if not file.parent.name.startswith(".")
        }

    def files(self):
        """Every file of the store, byte for byte."""
        store = self.store
        return {
            path.relative_to(store).as_posix(): path.read_bytes()
            for path in store.rglob("*")
            if path.is_file()
        }

    def leftovers(self):
        hidden = [path for path in self.prepared.rglob("*") if path.name.startswith(".")]
        return [path for path in hidden if not (path.is_file() and path.name.endswith(".lock"))]


@pytest.fixture(scope="module")
def long_task(tmp_path_factory):
    """Planned, nothing prepared; every test takes a copy of the workspace."""
    folder = tmp_path_factory.mktemp("long")
    return Planned.make(folder / "workspace", write_long_dataset(folder / "Task01_Long"))


@pytest.fixture(scope="module")
def undisturbed(long_task, tmp_path_factory):
    planned = long_task.copy(tmp_path_factory.mktemp("undisturbed") / "workspace")
    assert_done(run(planned))
    assert len(planned.cases()) == NUM_LONG
    assert planned.leftovers() == []
    return planned


@pytest.fixture
def small_task(tmp_path):
    """Five small cases whose raw files a test may change."""
    return Planned.make(tmp_path / "workspace", write_toy_dataset(tmp_path / "Task01_Ball", 5))


# The command ----------------------------------------------------------------------------------


def start(planned, *words, command=("-m", "autoseg"), **options):
    words = words or (CONFIGURATION, "--workers", "2")
    return subprocess.Popen(
        [sys.executable, *command, "preprocess", *words, "-w", planned.root],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"} | options.pop("env", {}),
        **options,
    )


def finish(process):
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def run(planned, *words, **options):
    return finish(start(planned, *words, **options))


def assert_done(result):
    code, _, err = result
    assert (code, [line for line in err.splitlines() if "preparing cases:" not in line]) == (0, [])


def failures(result):
    """Names and reasons of the cases that a command which ended with 1 calls failed."""
    code, _, err = result
    assert code == 1
    assert "Traceback" not in err
    return dict(re.findall(r"^failed: (\S+): (.*)$", err, flags=re.MULTILINE))


def wait_for(condition, process):
    """Wait until a condition holds; whether it did while the process was running."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if process.poll() is not None or time.monotonic() > deadline:
            return condition()
        time.sleep(0.002)
    return found


def writers_of(planned):
    """Process ids of the workers that are writing a case at this moment."""
    folders = planned.prepared.glob(f"{CONFIGURATION}-*/.partial-*-long_*")
    return [int(folder.name.split("-")[1]) for folder in folders]


def workers_of(process):
    """Process ids of what a command has started to do its work."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_text()
        except (OSError, IndexError):
            continue
        if parent == process.pid and command and "resource_tracker" not in command:
            found.append(int(folder.name))
    return sorted(found)


def is_running(pid):
    """Whether a process exists and is no zombie that only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_only_made(planned, before, *names):
    """All cases are prepared, and of those that were before only the named were made anew."""
    after = planned.cases()
    assert {name for name in after if after[name] != before.get(name)} == set(names)
    assert planned.leftovers() == []


# Killed ---------------------------------------------------------------------------------------


def test_killed_at_twenty_random_moments_it_ends_with_the_same_store(
    long_task, undisturbed, tmp_path
):
    planned = long_task.copy(tmp_path / "workspace")
    rng = random.Random(20)
    finished = {}
    for number in range(NUM_KILLS):
        if len(finished) > NUM_LONG // 2:  # so that there is something to be killed at
            for name in rng.sample(sorted(finished), NUM_LONG // 2):
                shutil.rmtree(planned.store / name)
                del finished[name]
        process = start(planned)
        if number % 4:  # at work; else wherever it is, at its start most likely
            known = set(planned.prepared.glob("*/*"))
            wait_for(lambda known=known: set(planned.prepared.glob("*/*")) - known, process)
            time.sleep(rng.uniform(0, 0.15))
        else:
            time.sleep(rng.uniform(0, 1))
        if number % 2:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        finish(process)
        now = planned.cases()
        assert {name: now.get(name) for name in finished} == finished
        finished = now
    assert_done(run(planned))
    assert_only_made(planned, finished, *undisturbed.cases().keys() - finished.keys())
    assert planned.files() == undisturbed.files()


def test_workers_end_with_the_command_that_was_killed(long_task, tmp_path):
    planned = long_task.copy(tmp_path / "workspace")
    process = start(planned)
    assert wait_for(planned.cases, process)
    process.send_signal(signal.SIGSTOP)  # so that it is still there when it is killed
    started = workers_of(process)
    assert len(started) == 2
    process.kill()
    finish(process)
    deadline = time.monotonic() + PATIENCE_S
    while any(map(is_running, started)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_running, started))


# Full disk ------------------------------------------------------------------------------------


def test_a_full_disk_is_named_and_the_next_run_makes_only_what_is_missing(
    long_task, undisturbed, tmp_path
):
    planned = long_task.copy(tmp_path / "workspace")
    sizes = {
        name: max(file.stat().st_size for file in (undisturbed.store / name).iterdir())
        for name in undisturbed.cases()
    }
    limit = (max(size for name, size in sizes.items() if name != BIG) + sizes[BIG]) // 2
    full = run(
        planned,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    (name, reason), *others = failures(full).items()
    assert (name, others) == (BIG, [])
    assert re.search("no space left|disk", reason)
    assert planned.leftovers() == []
    before = planned.cases()
    assert before.keys() == sizes.keys() - {BIG}
    assert_done(run(planned))
    assert_only_made(planned, before, BIG)
    assert planned.files() == undisturbed.files()


# Bad or changed files -------------------------------------------------------------------------


def test_an_image_that_was_damaged_is_named_and_made_when_it_is_repaired(small_task):
    image = small_task.raw / "imagesTr" / "ball_01.nii.gz"
    shutil.copy2(image, small_task.root / "kept")
    image.write_bytes(image.read_bytes()[:500])
    reasons = failures(run(small_task))
    assert reasons.keys() == {"ball_01"}
    assert "ball_01.nii.gz" in reasons["ball_01"]
    before = small_task.cases()
    assert before.keys() == {"ball_00", "ball_02", "ball_03", "ball_04"}
    shutil.copy2(small_task.root / "kept", image)
    assert_done(run(small_task))
    assert_only_made(small_task, before, "ball_01")


@pytest.mark.parametrize("kind", ["image", "labels"])
def test_a_file_that_changed_since_the_plan_is_never_taken_for_the_old_one(small_task, kind):
    image, labels = toy_case(2)
    folder = "imagesTr" if kind == "image" else "labelsTr"
    path = small_task.raw / folder / "ball_02.nii.gz"
    shutil.copy2(path, small_task.root / "kept")
    if kind == "image":
        write_image(path, Image(array=image.array + 7, geometry=image.geometry))
    else:
        write_labels(path, LabelMap(array=labels.array // 2, geometry=labels.geometry))
    reasons = failures(run(small_task))
    assert reasons.keys() == {"ball_02"}
    assert "autoseg plan" in reasons["ball_02"]
    before = small_task.cases()
    assert before.keys() == {"ball_00", "ball_01", "ball_03", "ball_04"}
    shutil.copy2(small_task.root / "kept", path)
    assert_done(run(small_task))
    assert_only_made(small_task, before, "ball_02")


# Workers that die -----------------------------------------------------------------------------


def test_it_goes_on_with_fewer_when_a_worker_is_killed(long_task, undisturbed, tmp_path):
    planned = long_task.copy(tmp_path / "workspace")
    process = start(planned)
    writers = wait_for(lambda: writers_of(planned), process)
    os.kill(writers[0], signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 0
    assert re.search(r"warning: long_\d\d: worker was killed .* fewer workers \(1\)", err)
    assert planned.leftovers() == []
    assert planned.files() == undisturbed.files()


DEADLY = """
    import os
    import signal
    import sys
    from functools import partial

    from autoseg.cli.main import main
    from autoseg.preprocess import stage


    def die_at(victim, function, named):
        name, job = named
        if name == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(job)


    def deadly(function, items, *arguments, **options):
        import deadly

        wrapped = partial(deadly.die_at, "ball_03", function)
        named = [(name, (name, job)) for name, job in items]
        return original(wrapped, named, *arguments, **options)


    if __name__ == "__main__":
        original, stage.map_cases = stage.map_cases, deadly
        main(sys.argv[1:])
"""


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_case_that_always_kills_its_worker_is_named_and_the_others_finish(
    small_task, tmp_path, count
):
    script = tmp_path / "deadly.py"
    script.write_text(textwrap.dedent(DEADLY))
    words = (CONFIGURATION, "--workers", count)
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    reasons = failures(run(small_task, *words, command=(script,), env={"PYTHONPATH": paths}))
    assert reasons == {
        "ball_03": "worker was killed (SIGKILL; out of memory?) with no case beside it; "
        "make room, or use a machine with more memory"
    }
    before = small_task.cases()
    assert before.keys() == {"ball_00", "ball_01", "ball_02", "ball_04"}
    assert_done(run(small_task))
    assert_only_made(small_task, before, "ball_03")


# Two at once ----------------------------------------------------------------------------------


def test_a_second_command_refuses_and_does_not_hurt_the_first(long_task, undisturbed, tmp_path):
    planned = long_task.copy(tmp_path / "workspace")
    first = start(planned)
    assert wait_for(planned.cases, first)
    first.send_signal(signal.SIGSTOP)  # so that it is still there when the second comes
    try:
        code, _, err = run(planned)
    finally:
        first.send_signal(signal.SIGCONT)
    assert code == 2
    assert f"in use by process {first.pid} " in err
    assert_done(finish(first))
    assert planned.files() == undisturbed.files()


def test_two_configurations_are_prepared_at_once(long_task, undisturbed, tmp_path):
    planned = long_task.copy(tmp_path / "workspace")
    commands = [start(planned, name, "--workers", "1") for name in ("2d", CONFIGURATION)]
    for command in commands:
        assert_done(finish(command))
    assert planned.files() == undisturbed.files()
    assert len(list(planned.prepared.glob("2d-*/*/case.json"))) == NUM_LONG
    assert planned.leftovers() == []
