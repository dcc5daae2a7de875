"""The package's messages in Chinese: a complete catalogue, the choice of the language, and figures that can draw it."""

import ast
import sys
import warnings

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import messages

from course_utils.errors import InputError
from course_utils.language import _, _language

PACKAGE = ROOT / "course_utils"


def test_the_catalogue_is_complete():
    assert messages.faults() == [], "run: python scripts/messages.py, then translate what is empty in course_utils.po"


def scopes(node):
    """Yield every function of a tree."""
    return [n for n in ast.walk(node) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]


def binds(function):
    """Return whether a function binds ``_`` itself, in its arguments or its own lines."""
    arguments = function.args
    if any(a.arg == "_" for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)):
        return True
    waiting = function.body if isinstance(function.body, list) else [function.body]
    waiting = list(waiting)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and node.id == "_" and isinstance(node.ctx, ast.Store):
            return True
        own = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
        if not isinstance(node, own):
            waiting += ast.iter_child_nodes(node)
    return False


def test_no_function_hides_the_translator_behind_a_variable():
    hidden = []
    comprehensions = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        blocks = [f for f in scopes(tree) if binds(f)]
        blocks += [
            n
            for n in ast.walk(tree)
            if isinstance(n, comprehensions)
            and any(isinstance(t, ast.Name) and t.id == "_" for g in n.generators for t in ast.walk(g.target))
        ]
        for block in blocks:
            calls = [n for n in ast.walk(block) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "_"]
            hidden += [f"{path.relative_to(ROOT)}:{n.lineno}" for n in calls]
    assert sorted(set(hidden)) == [], "name the other variable, not _"


SYSTEM = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"COURSE_LANGUAGE": "zh"}, "zh"),
        ({"COURSE_LANGUAGE": "en", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW.Big5"}, "zh"),
        ({"LC_ALL": "C.UTF-8", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"COURSE_LANGUAGE": ""}, "en"),
    ],
)
def test_the_language_is_the_one_that_was_asked_for_else_the_system_s(environment, wanted, monkeypatch):
    for name in (*SYSTEM, "COURSE_LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("locale.getlocale", lambda: (None, None))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _language() == wanted


def test_windows_tells_its_language_by_its_locale(monkeypatch):
    for name in (*SYSTEM, "COURSE_LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("locale.getlocale", lambda: ("Chinese (Simplified)_China", "936"))
    assert _language() == "zh"


def test_messages_are_in_the_language_of_the_reader(monkeypatch):
    assert _("before") == "before"
    assert str(InputError('"{name}" is a {kind}; give a Delta or a Reranker.', name="a", kind="str")) == (
        '"a" is a str; give a Delta or a Reranker.'
    )
    monkeypatch.setenv("COURSE_LANGUAGE", "zh")
    assert _("before") == "之前"
    assert _("a text that nobody translated {x}") == "a text that nobody translated {x}"
    assert _("") == ""
    assert str(InputError('"{name}" is a {kind}; give a Delta or a Reranker.', name="a", kind="str")) == (
        "“a”是 str；请给 Delta 或 Reranker。"
    )
    assert str(InputError("made of {what the user typed}")) == "made of {what the user typed}"


def test_a_check_speaks_chinese(monkeypatch, capsys):
    from course_utils.checks import NotYet, lesson08

    monkeypatch.setenv("COURSE_LANGUAGE", "zh")
    with pytest.raises(NotYet, match="你的函数什么也没有返回"):
        lesson08.check_batches(lambda lengths, budget: None)
    with pytest.raises(NotYet, match=r"你的函数出错停下了：ZeroDivisionError.*传给它的是 lengths = \[5\]"):
        lesson08.check_batches(lambda lengths, budget: 1 / 0)
    lesson08.check_same_scores(lambda a, b, tolerance: (all(abs(a - b) <= tolerance), int(abs(a - b).argmax())))
    assert "答对了：相等的列表" in capsys.readouterr().out


def test_figures_show_chinese(monkeypatch):
    import matplotlib.pyplot as plt

    from course_utils.show import plots
    from course_utils.show.style import _has_cjk_font, image_html

    if not _has_cjk_font():
        pytest.skip("no font with Chinese characters here: install fonts-noto-cjk or fonts-wqy-microhei")
    monkeypatch.setenv("COURSE_LANGUAGE", "zh")
    figure = plots.bars(["重排序模型", "基座"], [0.6, 0.4], "验证集 nDCG@10", "适配之前与之后")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "Glyph ... missing from font" is a warning
        assert "条形图" in image_html(figure)
    plt.close("all")


def test_every_message_is_given_the_fields_that_it_names():
    """What a raise or a check would show when it happens: no field missing, none without a place, no f-string."""
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            call, given = node, {k.arg for k in node.keywords}
            if getattr(node.func, "attr", "") == "format" and isinstance(node.func.value, ast.Call):
                call = node.func.value
            name = getattr(call.func, "id", "")
            if name not in messages.CALLS or len(call.args) <= messages.CALLS[name] or (name == "_" and call is node):
                continue
            text = call.args[messages.CALLS[name]]
            where = f"{path.relative_to(ROOT)}:{text.lineno}"
            if isinstance(text, ast.JoinedStr):
                wrong.append(f"{where} is an f-string")
            elif isinstance(text, ast.Constant) and given - {None}:
                named = {f.split(".")[0].split("[")[0] for f, _conversion, _spec in messages.fields(text.value)}
                wrong += [where] if named != given else []
    assert wrong == []
