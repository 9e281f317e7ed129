import hashlib
import json
import stat
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from small_models import REGIONS, pack, write_cascade, write_fold

from autoseg.core.model_file import FoldScores
from autoseg.core.selection import CleanUp
from autoseg.errors import ArtifactError, AutosegError
from autoseg.io import bundle
from autoseg.io.model_file import (
    MANIFEST,
    OpenedModel,
    PackedGroup,
    open_groups,
    write_model_file,
)
from autoseg.io.stored_zip import ALIGNMENT, read_entries, write_entries
from autoseg.networks.from_weights import network_of


@pytest.fixture
def bundles(tmp_path):
    return write_fold(tmp_path / "0"), write_fold(tmp_path / "1", fold="fold1", seed=1)


@pytest.fixture
def file(tmp_path, bundles):
    return pack(tmp_path / "m.autoseg", bundles).path


def contents(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sealed(file, entries, change_manifest=None):
    """Write entries with a first one whose hashes fit them, as an attacker would."""
    entries = dict(entries)
    manifest = json.loads(entries.pop(MANIFEST))
    manifest["entries"] = [
        {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in entries.items()
    ]
    if change_manifest is not None:
        change_manifest(manifest)
    write_entries(file, [(MANIFEST, json.dumps(manifest).encode()), *entries.items()])
    return file


def with_model(file, change, name="models/0.json"):
    """The file with something changed in the description of a model."""
    entries = contents(file)
    model = json.loads(entries[name])
    change(model)
    return sealed(file, entries | {name: json.dumps(model).encode()})


def with_header(file, change):
    """The file with something changed in the header of its first weights."""
    entries = contents(file)
    weights = entries["models/0.safetensors"]
    (length,) = struct.unpack("<Q", weights[:8])
    header = json.loads(weights[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    changed = struct.pack("<Q", len(text)) + text + weights[8 + length :]
    return sealed(file, entries | {"models/0.safetensors": changed})


def refusal(file):
    with pytest.raises(ArtifactError) as caught:
        OpenedModel(file)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message


# What is written


def test_a_single_fold_is_the_first_of_the_configuration_with_the_best_scores(tmp_path, bundles):
    def group(path, *scores):
        named = [
            FoldScores(fold=f"fold{n}", num_cases=cases, mean_dice=dice, dice={})
            for n, (cases, dice) in enumerate(scores)
        ]
        return PackedGroup(bundles=path, held_out=tuple(named))

    # Over cases the second has 0.72, over folds only 0.5.
    other = (write_fold(tmp_path / "2", fold="fold2", seed=2),)
    groups = [group(other, (4, 0.7)), group(bundles, (9, 0.8), (1, 0.0), (0, None))]
    file = write_model_file(tmp_path / "both.autoseg", groups, versions={}).path
    ((only,),), _ = open_groups([[file]], single=True)
    assert only.model.members[0].fold == "fold0"
    assert [len(group) for group in open_groups([[file]])[0]] == [1, 2]
    unscored = [group(other), group(bundles)]
    file = write_model_file(tmp_path / "unscored.autoseg", unscored, versions={}).path
    ((only,),), _ = open_groups([[file]], single=True)
    assert only.model.members[0].fold == "fold2"


def test_models_come_back_with_weights_that_lie_in_the_file(file, bundles):
    (group,) = OpenedModel(file).groups()
    for path, trained in zip(bundles, group, strict=True):
        kept, written = trained.model, bundle.load_model(path)
        assert (kept.plan, kept.labels, kept.training) == (
            written.plan,
            written.labels,
            written.training,
        )
        found, expected = (
            trained.weights(),
            bundle.load_weights(path.with_name("weights.safetensors")),
        )
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_what_is_written_to_a_mapped_weight_stays_in_memory(file):
    before = file.read_bytes()
    ((trained, _),) = OpenedModel(file).groups()
    for tensor in trained.weights().values():
        tensor.zero_()
    assert file.read_bytes() == before


def test_entries_lie_aligned_and_uncompressed(file):
    content = file.read_bytes()
    unpacked = contents(file)
    for entry in read_entries(file):
        assert entry.start % ALIGNMENT == 0
        assert content[entry.start : entry.start + entry.size] == unpacked[entry.name]


def test_equal_models_give_equal_files(tmp_path):
    first, second = (
        pack(tmp_path / f"{name}.autoseg", (write_fold(tmp_path / name),)) for name in "ab"
    )
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.identity == second.identity
    other = pack(tmp_path / "c.autoseg", (write_fold(tmp_path / "c", seed=1),))
    assert other.identity != first.identity


def test_no_name_of_a_case_is_written(tmp_path):
    opened = pack(tmp_path / "m.autoseg", (write_cascade(tmp_path / "0"),))
    assert b"Miller" not in opened.path.read_bytes()
    assert str(tmp_path).encode() not in opened.path.read_bytes()


def test_folds_of_a_cascade_share_their_previous_stage(tmp_path):
    folds = tuple(write_cascade(tmp_path / fold, fold) for fold in ("fold0", "fold1"))
    lowres = tuple(folds[0].parent / f"previous/fold{n}/bundle.json" for n in (0, 1))
    opened = pack(tmp_path / "m.autoseg", folds, lowres)
    assert len(opened.manifest.entries) == 2 * 4
    cascade, alone = opened.groups()
    assert [len(one.previous) for one in cascade] == [2, 2]
    assert [one.place for one in cascade[1].previous] == [one.place for one in alone]


def test_scores_clean_up_and_summary_are_there_without_the_models(tmp_path, bundles):
    scores = FoldScores(fold="fold0", num_cases=4, mean_dice=0.9, dice={"rim": 0.8})
    group = PackedGroup(bundles=bundles, held_out=(scores,))
    rule = CleanUp(structure="rim", largest_only=True)
    write_model_file(
        tmp_path / "m.autoseg", [group], clean_up=[rule], summary="Best.", versions={"autoseg": "7"}
    )
    found = json.loads(contents(tmp_path / "m.autoseg")[MANIFEST])
    assert found["groups"][0]["held_out"] == [scores.model_dump()]
    assert found["clean_up"] == [rule.model_dump()]
    assert (found["summary"], found["versions"]) == ("Best.", {"autoseg": "7"})


def test_a_file_that_is_not_sound_never_appears(tmp_path, bundles):
    def refuse(opened):
        raise AutosegError("not good enough")

    with pytest.raises(AutosegError, match="not good enough"):
        pack(tmp_path / "out" / "m.autoseg", bundles, check=refuse)
    assert list((tmp_path / "out").iterdir()) == []


def maps_of(file):
    """Whether this process has a file mapped."""
    return str(file) in Path("/proc/self/maps").read_text()


def build(opened):
    """Build every network on its weights, as ``export`` does."""
    for trained in (one for group in opened.groups() for one in group):
        network_of(trained.model, trained.weights(), trained.place)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell")
def test_a_file_is_closed_before_it_is_moved_to_its_place(tmp_path, bundles, monkeypatch):
    mapped = []
    replace = Path.replace

    def watched(path, target):
        if target == tmp_path / "m.autoseg":
            mapped.append(maps_of(path))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    opened = pack(tmp_path / "m.autoseg", bundles, check=build)
    assert mapped == [False]
    assert maps_of(opened.path)


def test_weights_of_a_file_that_is_closed_stay_where_they_are_in_use(file):
    with OpenedModel(file) as opened:
        ((first, second),) = opened.groups()
        weights = first.weights()
    assert sum(float(tensor.sum()) for tensor in weights.values()) != 0
    del weights
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        second.weights()


def test_regions_are_kept(tmp_path):
    opened = pack(tmp_path / "m.autoseg", (write_fold(tmp_path / "0", labels=REGIONS),))
    assert opened.manifest.labels == REGIONS


# What is damaged


def test_every_flipped_bit_of_a_content_is_noticed(file):
    content = bytearray(file.read_bytes())
    for entry in read_entries(file):
        middle = entry.start + entry.size // 2
        content[middle] ^= 1
        file.write_bytes(content)
        assert "damaged" in refusal(file)
        content[middle] ^= 1


@pytest.mark.parametrize("kept", [0, 10, 100, 2000, -1, -30])
def test_a_file_that_is_cut_off_is_refused(file, kept):
    file.write_bytes(file.read_bytes()[:kept])
    assert "cut off, or not a model file; get it anew" in refusal(file)


def test_what_is_no_zip_file_is_refused(tmp_path):
    (tmp_path / "m.autoseg").write_bytes(b"x" * 5000)
    assert "cut off, or not a model file" in refusal(tmp_path / "m.autoseg")
    with pytest.raises(ArtifactError, match="there is no model here"):
        OpenedModel(tmp_path / "none.autoseg")


@pytest.mark.parametrize("name", ["m.zip", "m", "m.json"])
def test_a_model_file_is_known_by_its_content(file, name):
    ((first, second),), _ = open_groups([[file.rename(file.with_name(name))]])
    assert (first.model.members[0].fold, second.model.members[0].fold) == ("fold0", "fold1")


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08\0\xff", b"\x89PNG", b""])
def test_something_else_is_said_to_be_no_model(tmp_path, content):
    image, described = tmp_path / "a.nii.gz", tmp_path / "bundle.json"
    for path in (image, described):
        path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        open_groups([[image]])
    assert str(caught.value) == (
        f"{image}: is no model file; name a file that autoseg export wrote, or a bundle.json"
    )
    with pytest.raises(ArtifactError, match=r"bundle\.json: not valid JSON: "):
        open_groups([[described]])


def test_a_described_model_may_be_called_otherwise(bundles):
    path = bundles[0].rename(bundles[0].with_name("ours.txt"))
    ((trained,),), _ = open_groups([[path]])
    assert trained.description == path


def test_a_file_of_a_newer_version_is_refused(file):
    entries = contents(file)
    sealed(file, entries, lambda manifest: manifest.update(format=99, other_key=1))
    assert "written by a newer autoseg (format 99; this version reads up to 1)" in refusal(file)


# What is made to do harm


@pytest.mark.parametrize(
    "name", ["../w.json", "/w.json", "models/../../w.json", "\\w.json", "a\\..\\w.json", "C:w.json"]
)
def test_names_that_lead_elsewhere_are_refused(file, name):
    write_entries(file, [*contents(file).items(), (name, b"{}")])
    assert "would lie outside the file's own folder" in refusal(file)


@pytest.mark.parametrize("name", ["data.pkl", "archive/data.PKL", "w.pth", "w.pt"])
def test_pickles_are_refused(file, name):
    write_entries(file, [*contents(file).items(), (name, b"cos\nsystem\n")])
    assert "is a pickle, which could run code" in refusal(file)


@pytest.mark.parametrize("name", ["run.py", "models/", "weights", "ä.json", "a b.json", ".json"])
def test_other_kinds_of_entries_are_refused(file, name):
    write_entries(file, [*contents(file).items(), (name, b"")])
    assert "is neither JSON nor safetensors" in refusal(file)


def raw_zip(file, *infos, content=b"{}"):
    with zipfile.ZipFile(file, "w") as archive:
        for info in infos:
            archive.writestr(info, content)


def test_links_are_refused(file):
    info = zipfile.ZipInfo("a.json")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    raw_zip(file, info)
    assert "is a link" in refusal(file)


def test_entries_of_one_name_are_refused(file):
    with pytest.warns(UserWarning, match="Duplicate"):
        raw_zip(file, zipfile.ZipInfo("a.json"), zipfile.ZipInfo("a.json"))
    assert "is there twice" in refusal(file)


def test_compressed_entries_are_refused_before_they_are_unpacked(file):
    info = zipfile.ZipInfo("bomb.json")
    info.compress_type = zipfile.ZIP_DEFLATED
    raw_zip(file, info, content=bytes(10_000_000))
    assert file.stat().st_size < 20_000
    assert "is compressed" in refusal(file)


def directory_entry(content, name):
    return content.rindex(name.encode()) - 46


def test_sizes_beyond_the_file_and_entries_over_each_other_are_refused(file):
    content = bytearray(file.read_bytes())
    place = directory_entry(content, "models/1.safetensors")
    content[place + 20 : place + 28] = struct.pack("<2L", 10**9, 10**9)
    file.write_bytes(content)
    assert "holds bytes that belong to no entry" in refusal(file)
    content[place + 20 : place + 28] = struct.pack("<2L", 8, 8)
    file.write_bytes(content)
    assert "holds bytes that belong to no entry" in refusal(file)
    content[place + 42 : place + 46] = struct.pack("<L", 0)
    file.write_bytes(content)
    assert "does not follow the one before" in refusal(file)


def test_positions_beyond_any_file_are_refused(file):
    first = read_entries(file)[1]
    with zipfile.ZipFile(file, "a") as archive:
        _, large, after = archive.filelist[:3]
        large.file_size = large.compress_size = 1 << 63
        after.header_offset = first.start + (1 << 63)
        archive.comment = b""  # so that the table of contents is written anew
    assert refusal(file) == (
        f"{file}: damaged, or not a model file; get it anew from where it was made"
    )


def test_an_encrypted_entry_is_refused(file):
    content = bytearray(file.read_bytes())
    content[directory_entry(content, "models/0.json") + 8] |= 1
    file.write_bytes(content)
    assert "is encrypted or of unknown size" in refusal(file)


def test_an_entry_with_two_names_is_refused(file):
    content = bytearray(file.read_bytes())
    place = next(
        i
        for i in range(len(content))
        if content[i : i + 4] == b"PK\3\4" and b"0.json" in content[i : i + 60]
    )
    content[place + 30 : place + 36] = b"folder"
    file.write_bytes(content)
    assert "is called otherwise where its content lies" in refusal(file)


def test_a_table_of_contents_that_would_fill_the_memory_is_refused(file):
    write_entries(file, [(f"{'n' * 60_000}{number}.json", b"") for number in range(80)])
    assert "its table of contents has" in refusal(file)


def test_too_many_entries_are_refused(file):
    entries = contents(file)
    write_entries(file, [*entries.items(), *((f"{n}.json", b"{}") for n in range(4096))])
    assert "begins not with model.json, or is too long" in refusal(file)


def test_entries_that_are_not_listed_are_refused(file):
    write_entries(file, [*contents(file).items(), ("more.json", b"{}")])
    assert "model.json: its entries are not those it lists" in refusal(file)


def test_json_that_is_too_large_too_deep_or_no_json_is_refused(file):
    entries = contents(file)

    def refused(content):
        sealed(file, entries | {"models/0.json": content})
        return refusal(file)

    assert "bytes of JSON are too many" in refused(b" " * (8 << 20) + b" ")
    assert "nested too deeply" in refused(b"[" * 2_000_000)
    assert "models/0.json: not valid JSON" in refused(b"\xff\xfe")
    assert "models/0.json: not valid JSON" in refused(b'{"format": ' + b"9" * 5000 + b"}")
    assert "unknown key 'evil'" in refused(b'{"format": 1, "evil": 1}')


def test_a_header_of_weights_is_not_believed(file):
    entries = contents(file)

    def refused(content):
        sealed(file, entries | {"models/0.safetensors": content})
        return refusal(file)

    assert f"a header of {1 << 60} bytes" in refused(struct.pack("<Q", 1 << 60) + b"{}")
    assert "a header of 100 bytes" in refused(struct.pack("<Q", 100) + b"{}")
    assert "too short" in refused(b"abc")
    assert "the header is not JSON" in refused(struct.pack("<Q", 4) + b"\x80\x04].")
    assert "the header is not JSON" in refused(struct.pack("<Q", 1 << 20) + b"[" * (1 << 20))
    assert "the header is not a JSON object" in refused(struct.pack("<Q", 2) + b"[]")


def set_first(header, **values):
    first = next(name for name in header if name != "__metadata__")
    header[first] = header[first] | values


@pytest.mark.parametrize(
    "values",
    [
        {"data_offsets": [0, 1 << 40]},
        {"data_offsets": [-16, 0]},
        {"data_offsets": [0]},
        {"shape": [1 << 62, 1 << 62]},
        {"shape": [True]},
        {"shape": [1] * 1000},
        {"dtype": "OBJECT"},
        {"dtype": ["F32"]},
    ],
)
def test_tensors_that_do_not_fit_their_bytes_are_refused(file, values):
    assert "the header is wrong about" in refusal(
        with_header(file, lambda header: set_first(header, **values))
    )


def test_tensors_over_each_other_and_bytes_of_none_are_refused(file):
    def shared(header):
        first, second = [name for name in header if name != "__metadata__"][:2]
        header[second] = header[first]

    entries = file.read_bytes()
    assert "tensors overlap, or leave bytes between them" in refusal(with_header(file, shared))
    file.write_bytes(entries)
    last = with_header(
        file,
        lambda header: header.pop(max(header, key=lambda n: header[n].get("data_offsets", [0]))),
    )
    assert "the header does not fit the number of bytes" in refusal(last)


def test_models_that_lead_out_of_the_file_are_refused(file):
    def elsewhere(model):
        model["members"][0]["weights"] = "../../etc/weights.safetensors"

    assert "one set of weights must belong to it" in refusal(with_model(file, elsewhere))


def test_models_that_do_not_hang_together_are_refused(tmp_path, file):
    whole = file.read_bytes()

    def refused(change, name="models/0.json"):
        file.write_bytes(whole)
        return refusal(with_model(file, change, name))

    assert "its configuration is not in its plan" in refused(
        lambda model: model["members"][0].update(configuration="4d")
    )
    assert "labels or channels are not those of the file" in refused(
        lambda model: model.update(channels=["CT"])
    )
    assert "its previous stage does not come before it" in refused(
        lambda model: model.update(previous=["1.json"])
    )
    assert "holds entries that belong to no model" in refused(
        lambda model: model["members"][0].update(weights="1.safetensors")
    )
    file.write_bytes(whole)
    entries = contents(file)
    sealed(file, entries, lambda m: m["groups"][0].update(models=["models/0.json"] * 2))
    assert "is no model, or named twice" in refusal(file)
    sealed(file, entries, lambda m: m["groups"][0].update(models=["models/0.json"]))
    assert "holds entries that belong to no model" in refusal(file)


def test_a_cascade_that_builds_on_itself_is_refused(tmp_path):
    file = pack(tmp_path / "m.autoseg", (write_cascade(tmp_path / "0"),)).path
    itself = with_model(file, lambda m: m.update(previous=["2.json"]), "models/2.json")
    assert "its previous stage does not come before it" in refusal(itself)


def planned(model):
    return model["plan"]["configurations"]["2d"]


@pytest.mark.parametrize(
    ("patch", "features"),
    [([1 << 20, 1 << 20], [4, 6]), ([1 << 15, 1 << 15], [32, 64]), ([12, 16], [1 << 40, 1 << 99])],
)
def test_a_patch_or_network_beyond_any_memory_is_refused(file, patch, features):
    def change(model):
        planned(model)["patch_size"] = patch
        planned(model)["network"]["features_per_stage"] = features

    assert "2d: patch and features are beyond any memory" in refusal(with_model(file, change))


@pytest.mark.parametrize("axes", [[0, 1] * 18, [9], [-1], [2], [1, 1]])
def test_axes_that_cannot_be_mirrored_are_refused(file, axes):
    found = refusal(with_model(file, lambda model: model["training"].update(mirror_axes=axes)))
    assert found.endswith("0.json: training.mirror_axes: must be different and below 2")


def test_a_spacing_far_from_that_of_the_training_is_refused(file):
    whole = file.read_bytes()

    # The training data had 1 to 3, 1 to 2 and 1 to 2 mm, the plan's axes are (y, z, x).
    def changed(z, x):
        file.write_bytes(whole)
        return with_model(file, lambda model: planned(model).update(spacing=[z, x]))

    assert refusal(changed(1e-4, 1.0)).endswith(
        "2d.spacing: 0.0001 mm is more than 100 times away from the training data's 1 to 3 mm"
    )
    assert "2d.spacing: 250 mm" in refusal(changed(1.0, 250.0))
    OpenedModel(changed(250.0, 0.02))


@pytest.mark.parametrize(
    ("low", "high"), [([0, 1, 1], [3, 2, 2]), ([1, -1, 1], [3, 2, 2]), ([1, 1, 3], [3, 2, 2])]
)
def test_spacings_that_no_data_have_are_refused(file, low, high):
    changed = with_model(file, lambda model: model.update(min_spacing=low, max_spacing=high))
    assert "'min_spacing' must be positive and at most 'max_spacing'" in refusal(changed)


@pytest.mark.parametrize("values", [(1 << 64, 1), (-(1 << 63) - 1, 1), (-1, 1 << 63)])
def test_label_values_of_more_than_64_bits_are_refused(file, values):
    def change(model):
        for structure, value in zip(model["labels"]["structures"], values, strict=True):
            structure["values"] = [value]

    assert "labels: values must fit into 64 bits" in refusal(with_model(file, change))


@pytest.mark.parametrize(
    "network",
    [
        {"features_per_stage": [1 << 20, 1 << 20]},
        {"blocks_per_stage": [1 << 60, 1]},
        {"decoder_blocks_per_stage": [1 << 60]},
        {"kernel_sizes": [[3, 3], [(1 << 50) + 1, 3]]},
        {"features_per_stage": [4, 8]},
        {"architecture": "residual_unet"},
    ],
)
def test_a_network_larger_than_its_weights_is_never_built(file, network):
    def change(model):
        planned(model)["network"].update(network)

    ((trained, _),) = OpenedModel(with_model(file, change)).groups()
    with pytest.raises(ArtifactError, match=r"0\.safetensors: the weights do not fit the network"):
        network_of(trained.model, trained.weights(), trained.place)


def test_a_bundle_of_several_sets_of_weights_is_not_packed(tmp_path, bundles):
    model = bundle.load_model(bundles[0])
    twice = model.model_copy(update={"members": model.members * 2})
    bundle.save_model(bundles[0], twice)
    with pytest.raises(ArtifactError, match="holds several sets of weights, where one is wanted"):
        pack(tmp_path / "m.autoseg", bundles)
