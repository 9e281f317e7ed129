from autoseg.core.selection import CleanUp, Group


def test_a_clean_up_is_said_in_words():
    both = CleanUp(structure="tumour", largest_only=True, smallest_ml=0.12)
    assert both.in_words == (
        "tumour: only the largest component kept, components below 0.12 ml removed"
    )


def test_a_group_is_called_by_its_configuration_and_what_is_not_the_default():
    names = {"plan": "default", "configuration": "2d", "run": "default", "folds": ("fold0",)}
    assert Group(**names).name == "2d"
    assert Group(**names | {"plan": "big", "run": "long"}).name == "2d (plan big, run long)"
