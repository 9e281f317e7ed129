from commands import assert_done, assert_refused, call


def test_report_writes_a_page_and_says_where(toy, tmp_path):
    page = tmp_path / "shown" / "page.html"
    called = call("report", "-w", toy.workspace.root, "-t", "Task01_Ball", "-o", page)
    assert_done(called)
    assert called.out == f"report: {page}\n"
    assert "<title>Task01_Ball: autoseg report</title>" in page.read_text(encoding="utf-8")


def test_report_of_an_unknown_plan_is_refused(toy, tmp_path):
    called = call("report", "-w", toy.workspace.root, "--plan", "mine", "-o", tmp_path / "p.html")
    assert_refused(called, "no plan named 'mine'", "available: default")


def test_report_without_a_task_is_refused(tmp_path):
    assert_refused(call("report", "-w", tmp_path / "none"), "no task planned yet", "autoseg plan")
