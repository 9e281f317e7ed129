"""The page for users of nnU-Net names commands and flags that exist."""

import re
from pathlib import Path

import pytest
import typer

from autoseg.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "coming-from-nnunet.md"
COMMANDS = (
    *("extract_fingerprint", "plan_experiment", "preprocess", "plan_and_preprocess", "train"),
    *("predict", "predict_from_modelfolder", "find_best_configuration"),
    *("accumulate_crossval_results", "determine_postprocessing", "apply_postprocessing"),
    *("ensemble", "evaluate_folder", "evaluate_simple", "plot_overlay_pngs"),
    *("export_model_to_zip", "install_pretrained_model_from_zip"),
    *("download_pretrained_model_by_url", "move_plans_between_datasets"),
    *("convert_MSD_dataset", "convert_old_nnUNet_dataset"),
)
_SPAN = re.compile(r"`([^`]+)`")
_HEADER = re.compile(r"\|[^|]+\| `autoseg (\w+)` \|")


def known():
    """Flags of every command of autoseg, by its name."""
    group = typer.main.get_command(app)
    return {
        name: {flag for option in command.params for flag in option.opts} | {"--help"}
        for name, command in group.commands.items()
    }


def quoted(text):
    """What the page tells users to type: indented lines, and spans of code."""
    for line in text.splitlines():
        if line.startswith("    "):
            yield line.partition("#")[0]
    yield from _SPAN.findall(text.replace("\n", " "))


def written_commands(text):
    for words in (line.split() for line in quoted(text)):
        if "autoseg" in words[:6] and len(words) > words.index("autoseg") + 1:
            name, *rest = words[words.index("autoseg") + 1 :]
            yield name, {word for word in rest if word.startswith("-")}


def flags_of_tables(text):
    """Flags in the second column of tables that put a command of ours at their head."""
    command = None
    for line in text.splitlines():
        header = _HEADER.fullmatch(line)
        command = header[1] if header else command if line.startswith("|") else None
        if command and not header:
            cell = line.split("|")[2]
            spans = (span.split() for span in _SPAN.findall(cell))
            flags = {word for words in spans if words[0][0] == "-" for word in words}
            yield command, {flag for flag in flags if flag.startswith("-")}


@pytest.fixture(scope="module")
def text():
    return PAGE.read_text(encoding="utf-8")


def test_the_page_names_commands_and_flags_that_exist(text):
    flags = known()
    named = [*written_commands(text), *flags_of_tables(text)]
    assert len(named) > 60
    unknown = [
        f"{name} {' '.join(sorted(used - flags.get(name, set())))}"
        for name, used in named
        if name not in flags or used - flags[name]
    ]
    assert not unknown, "\n".join(unknown)


def test_the_page_tells_of_every_command_of_nnunet(text):
    missing = [name for name in COMMANDS if f"nnUNetv2_{name}" not in text]
    assert missing == []


def test_the_page_leads_to_pages_that_exist(text):
    targets = re.findall(r"\]\(([^)#]+\.md)", text)
    assert targets
    assert [t for t in targets if not (PAGE.parent / t).is_file()] == []
