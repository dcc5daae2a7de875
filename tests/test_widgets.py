"""The two panels, driven through the widgets' Python side, and the tables they show, read without a front end."""

import builtins
import re
from xml.etree import ElementTree

import pytest
from conftest import make_groups, tiny_model

from course_utils.data import load_domain
from course_utils.domains.delta import _describe
from course_utils.errors import InputError
from course_utils.model.reranker import Ranked, Reranker
from course_utils.show import tables, widgets
from course_utils.training import cost

DOCUMENTS = ["a page about fever", "a page about rent", "a page about salt"]
EXAMPLES = {
    "medical": {"English": ("what is fever", DOCUMENTS), "Chinese": ("糖尿病症状", ["糖尿病饮食管理", "租房合同"])},
    "legal": {"lease": ("what is a lease", ["a lease is a contract", "salt is a mineral"])},
}


@pytest.fixture
def delta(tiny):
    """A delta on ``tiny`` whose last layer is another random one, so that scores differ."""
    other = Reranker(tiny_model(tiny.tokenizer, seed=1), tiny.tokenizer, max_length=256)
    tensors = {n: p.detach() for n, p in other.model.named_parameters() if ".layers.3." in n}
    return _describe(tiny, tensors, {}, "medical")


@pytest.fixture
def panel(tiny, delta):
    return widgets.playground(tiny, {"medical": delta, "legal": delta}, EXAMPLES)


def table(text):
    """Return (caption, headings, rows) of the first table; the markup must be well formed."""
    tree = ElementTree.fromstring(re.search(r"<table.*?</table>", text, flags=re.S)[0])
    rows = [["".join(c.itertext()) for c in row] for row in tree.find("tbody")]
    for row in tree.find("tbody"):
        assert row[0].tag == "th"
        assert row[0].get("scope") == "row"
    assert all(h.get("scope") == "col" for h in tree.find("thead/tr") if h.tag == "th")
    return tree.find("caption").text, ["".join(h.itertext()) for h in tree.find("thead/tr")], rows


def no_ipywidgets(monkeypatch):
    real = builtins.__import__

    def fake(name, *args, **kwargs):
        if name.split(".")[0] == "ipywidgets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fake)


def test_the_table_holds_both_ranks_the_numbers_and_the_move_in_words():
    before = [Ranked("a", 2.0, 0.88, 0), Ranked("b", 1.0, 0.73, 1), Ranked("c", 0.0, 0.5, 2)]
    after = [Ranked("b", 3.0, 0.953, 1), Ranked("a", 1.0, 0.731, 0), Ranked("c", -1.0, 0.269, 2)]
    caption, head, rows = table(tables._playground_html("why", before, after, "medical"))
    assert caption == "“why”: base and medical"
    assert head[1:] == ["Rank, base", "Probability, base", "Rank, medical", "Probability, medical", "Move"]
    assert rows == [
        ["b", "2", "0.730", "1", "0.953", "▲ up 1"],
        ["a", "1", "0.880", "2", "0.731", "▼ down 1"],
        ["c", "3", "0.500", "3", "0.269", "= stays"],
    ]


def test_text_of_a_user_is_shown_and_not_run(panel):
    evil = '<script>alert("x")</script> & <b>'
    panel.controls["query"].value = evil
    panel.controls["documents"].value = f"{evil}\nanother"
    shown = panel.controls["result"].value
    assert "<script" not in shown
    assert "<b>" not in shown
    caption, _, rows = table(shown)
    assert caption.startswith(f"“{evil}”")
    assert evil in [row[0] for row in rows]


def test_the_panel_starts_with_the_first_example_ranked_as_the_models_rank(panel, tiny, delta):
    _, _, rows = table(panel.controls["result"].value)
    before, after = widgets._score_both(tiny, delta, "what is fever", DOCUMENTS)
    assert [row[0] for row in rows] == [r.document for r in after]
    assert [row[4] for row in rows] == [f"{r.probability:.3f}" for r in after]
    old = {r.document: (str(i), f"{r.probability:.3f}") for i, r in enumerate(before, 1)}
    assert [tuple(row[1:3]) for row in rows] == [old[row[0]] for row in rows]
    assert [r.probability for r in tiny.rank("what is fever", DOCUMENTS)] == [r.probability for r in before]


def test_a_changed_query_a_changed_list_and_the_button_rank_again(panel):
    c = panel.controls
    first = c["result"].value
    c["query"].value = "what is rent"
    second = c["result"].value
    assert second != first
    assert table(second)[0].startswith("“what is rent”")
    c["documents"].value = "\n".join([*DOCUMENTS, "", "  a page about loans  "])
    assert len(table(c["result"].value)[2]) == 4
    c["result"].value = ""
    c["rank"].click()
    assert len(table(c["result"].value)[2]) == 4


def test_choosing_an_example_or_a_domain_fills_query_and_documents(panel):
    c = panel.controls
    c["example"].value = "Chinese"
    assert (c["query"].value, c["documents"].value) == ("糖尿病症状", "糖尿病饮食管理\n\n租房合同")
    assert table(c["result"].value)[0] == "“糖尿病症状”: base and medical"
    c["domain"].value = "legal"
    assert c["example"].options == ("lease",)
    assert c["query"].value == "what is a lease"
    assert table(c["result"].value)[0] == "“what is a lease”: base and legal"
    c["domain"].value = "medical"
    assert c["query"].value == "what is fever"


def test_an_empty_query_and_an_empty_list_say_so_in_a_sentence(panel):
    c = panel.controls
    c["query"].value = "  "
    assert "The query is empty" in c["result"].value
    c["query"].value = "fever"
    c["documents"].value = "\n \n"
    assert "There is no document to rank" in c["result"].value
    assert "<table" not in c["result"].value
    c["documents"].value = "one"
    assert len(table(c["result"].value)[2]) == 1


def test_the_output_carries_widget_and_static_copy_together(panel):
    bundle = panel._repr_mimebundle_()
    assert bundle[widgets._WIDGET]["model_id"] == panel.box.model_id
    assert len(table(bundle["text/html"])[2]) == 3
    assert re.search(r'<img alt="Rank changes: [^"]+" src="data:image/png', bundle["text/html"])


def test_without_ipywidgets_the_same_calls_show_table_and_picture(tiny, delta, monkeypatch):
    no_ipywidgets(monkeypatch)
    for panel in (widgets.playground(tiny, delta, EXAMPLES), widgets.freezing_panel(tiny, make_groups(8))):
        bundle = panel._repr_mimebundle_()
        assert panel.box is None
        assert widgets._WIDGET not in bundle
        assert table(bundle["text/html"])[2]
        assert "<img alt=" in bundle["text/html"]


def test_the_course_has_examples_of_each_domain_in_both_languages():
    found = widgets._domain_examples("legal")
    for kind in ("legal, English", "legal, Chinese", "general, English", "general, Chinese"):
        assert any(name.startswith(kind) for name in found)
    labels = {
        g.query: g
        for source in ("legal", "general")
        for lang in ("en", "zh")
        for g in load_domain(source, lang, "test")
    }
    for query, documents in found.values():
        assert len(documents) == len(set(documents)) == 5
        assert set(labels[query].positives) < set(documents) <= set(labels[query].documents)


def test_a_comparison_with_itself_or_with_something_else_is_refused(tiny, delta):
    with pytest.raises(InputError, match="is the base itself"):
        widgets.playground(tiny, {"medical": tiny}, EXAMPLES)
    with pytest.raises(InputError, match="give a Delta or a Reranker"):
        widgets.playground(tiny, {"medical": "medical"}, EXAMPLES)
    with pytest.raises(InputError, match="no adapted model"):
        widgets.playground(tiny, {})
    with pytest.raises(InputError, match='no example for "tax"'):
        widgets.playground(tiny, {"tax": delta}, EXAMPLES)


def test_another_reranker_can_be_the_adapted_one(tiny):
    other = Reranker(tiny_model(tiny.tokenizer, seed=3), tiny.tokenizer, max_length=256)
    panel = widgets.playground(tiny, other, {"adapted": EXAMPLES["legal"]})
    assert table(panel.controls["result"].value)[0].endswith("base and adapted")


@pytest.fixture
def freezing(tiny):
    return widgets.freezing_panel(tiny, make_groups(8))


def test_the_slider_shows_the_cost_of_each_boundary(freezing, tiny):
    c = freezing.controls
    caption, head, _ = table(c["result"].value)
    assert caption == "The last 3 of 4 layers train; an epoch of 8 queries"
    assert head == ["", "Predicted"]
    seen = []
    for k in (1, 2, 4, "all"):
        c["layers"].value = k
        seen.append(int(table(c["result"].value)[2][0][1].split(" of ")[0].replace(",", "")))
    per_layer = sum(p.numel() for p in tiny.model.model.layers[0].parameters())
    norm = tiny.model.model.norm.weight.numel()
    assert seen[:3] == [per_layer + norm, 2 * per_layer + norm, 4 * per_layer + norm]
    assert seen[3] == sum(p.numel() for p in tiny.model.parameters())
    c["layers"].value = 0
    assert "Nothing would train" in c["result"].value
    c["measure"].click()
    assert "Nothing would train" in c["result"].value


def test_the_button_measures_the_chosen_boundary_and_keeps_it(freezing):
    c = freezing.controls
    c["layers"].value = 2
    c["measure"].click()
    _, head, rows = table(c["result"].value)
    assert head == ["", "Predicted", "Measured"]
    assert rows[0][1] == rows[0][2]
    assert re.fullmatch(r"[\d.]+ s", rows[4][2])
    assert not c["measure"].disabled
    c["layers"].value = 1
    assert table(c["result"].value)[1] == ["", "Predicted"]
    c["layers"].value = 2
    assert "Measured" in table(c["result"].value)[1]


def test_the_static_copy_has_a_row_for_every_boundary(freezing):
    _, _, rows = table(freezing.static)
    assert [row[0] for row in rows] == ["last 1", "last 2", "last 3", "last 4", "everything"]


def test_an_estimate_agrees_with_what_is_counted_and_leaves_the_model_as_it_was(tiny):
    state = [(p, p.clone(), p.requires_grad) for p in tiny.model.parameters()]
    groups = make_groups(8)
    predicted = cost._estimate(tiny, groups)
    for k in (1, 3, 4):
        counted = cost._measure(tiny, groups, k, repeats=1)
        assert counted.trained == predicted[k].trained
        assert counted.states_mb == predicted[k].states_mb
        assert counted.activations_mb == pytest.approx(predicted[k].activations_mb, rel=0.02)
        assert counted.seconds > 0
    assert predicted[4].states_mb == 0
    assert predicted[1].memory_mb < predicted[4].memory_mb < predicted["all"].memory_mb
    for p, value, flag in state:
        assert p.equal(value)
        assert p.requires_grad == flag
        assert p.grad is None
    assert not tiny.model.training


def test_too_few_queries_cannot_be_timed(tiny):
    with pytest.raises(InputError, match=r"2 queries .* are too few"):
        widgets.freezing_panel(tiny, make_groups(2))
