"""Two interactive panels: try a query on base and adapted model, slide the boundary of what trains.

A panel is shown by being the last line of a cell. With ipywidgets 7.7 or 8 and a live front end it can be used, from the
keyboard too. Everywhere else (an executed copy, GitHub, no ipywidgets) the same output shows a table and a picture of how it
starts: both are in the output, and the viewer takes the one that it can show. Tables are made in tables.py;
the panels only move values between controls and them.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field

from course_utils.data.groups import subset
from course_utils.domains.delta import Delta, swapped
from course_utils.errors import InputError
from course_utils.language import _, _later
from course_utils.model.reranker import Reranker
from course_utils.show import plots
from course_utils.show.tables import _costs_html, _freezing_html, _message_html, _playground_html
from course_utils.training import cost
from course_utils.training.freezing import decoder_layers

_WIDGET = "application/vnd.jupyter.widget-view+json"
_HINT = _later(
    "One document a line; empty lines do not count. Add a line to add a document, delete it to remove one. Rank shows the "
    "result; so does Enter in the query. From the keyboard: Tab goes on; in a list press Space, choose with the arrow "
    "keys, press Enter."
)


@dataclass
class _Panel:
    """What a panel shows.

    Attributes:
        static: HTML of the first state, for viewers without widgets.
        box: the widget, or None without ipywidgets.
        controls: {name: widget}, to use the panel from Python.
    """

    static: str
    box: object = None
    controls: dict = field(default_factory=dict)

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {
            "text/html": self.static,
            "text/plain": _("An interactive panel; run the cell in JupyterLab or Colab."),
        }
        if self.box is not None:
            bundle[_WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        return bundle


def playground(base, adapted, examples=None):
    """Return a panel in which a learner edits a query and its documents and sees base and adapted side by side.

    Args:
        base: the Reranker before adaptation. Where it has a delta attached, the base below it is meant.
        adapted: {domain: Delta or Reranker}, or one of these.
        examples: {domain: {name: (query, [document, ...])}}; default: the course's test queries.

    Raises:
        InputError: ``adapted`` is empty, is the base itself, or is something else.
    """
    if not isinstance(adapted, dict):
        adapted = {getattr(adapted, "name", "") or "adapted": adapted}
    _check_adapted(base, adapted)
    examples = examples or {domain: _domain_examples(domain) for domain in adapted}
    missing = [d for d in adapted if not examples.get(d)]
    if missing:
        raise InputError(
            'There is no example for "{name}"; give examples={{"{name}": {{name: (query, documents)}}}}.',
            name=missing[0],
        )
    examples = {d: examples[d] for d in adapted}

    def result(domain, query, text):
        documents = [line.strip() for line in text.splitlines() if line.strip()]
        try:
            return _playground_html(query, *_score_both(base, adapted[domain], query, documents), domain)
        except InputError as error:
            return _message_html(error)

    domain = next(iter(adapted))
    query, documents = next(iter(examples[domain].values()))
    start = result(domain, query, "\n\n".join(documents))
    before, after = _score_both(base, adapted[domain], query, documents)
    picture = plots.rank_changes(before, after, title=_("Base (left) and {domain} (right)").format(domain=domain))
    panel = _Panel(start + plots.image_html(picture) + _static_note(_("change the query and the documents")))
    if widgets := _ipywidgets():
        _playground_controls(widgets, panel, examples, result, start)
    return panel


def _playground_controls(widgets, panel, examples, result, start):
    # Give the panel its controls: a change of domain or example fills the texts, a change of texts ranks again.
    domain = next(iter(examples))
    query, documents = next(iter(examples[domain].values()))
    wide = widgets.Layout(width="98%")
    labels = {"description_width": "6em"}
    c = {
        "domain": widgets.Dropdown(options=list(examples), description=_('Adapted to'), style=labels),
        "example": widgets.Dropdown(options=list(examples[domain]), description=_('Example'), style=labels, layout=wide),
        "query": widgets.Text(value=query, description=_('Query'), continuous_update=False, style=labels, layout=wide),
        "documents": widgets.Textarea(value="\n\n".join(documents), description=_('Documents'), continuous_update=False, style=labels,
                                      rows=14, layout=wide, placeholder=_('one document a line')),
        "rank": widgets.Button(description=_('Rank'), button_style="primary", tooltip=_('Rank the documents with both models')),
        "result": widgets.HTML(value=start, layout=wide),
    }  # fmt: skip
    held = {"quiet": False}

    def show(change=None):
        if not held["quiet"]:
            c["result"].value = result(c["domain"].value, c["query"].value, c["documents"].value)

    @contextmanager
    def at_once():
        """Change several controls and show the result once, at the end."""
        held["quiet"] = True
        try:
            yield
        finally:
            held["quiet"] = False
            show()

    def fill(change=None):
        chosen = examples[c["domain"].value].get(c["example"].value)
        if held["quiet"] or chosen is None:
            return
        with at_once():
            c["query"].value, c["documents"].value = chosen[0], "\n\n".join(chosen[1])

    def change_domain(change):
        held["quiet"] = True
        c["example"].options = list(examples[c["domain"].value])
        held["quiet"] = False
        fill()

    c["domain"].observe(change_domain, names="value")
    c["example"].observe(fill, names="value")
    c["query"].observe(show, names="value")
    c["documents"].observe(show, names="value")
    c["rank"].on_click(show)
    hint = widgets.HTML(f'<p style="line-height:1.4">{_(_HINT)}</p>', layout=wide)
    order = ["domain", "example", "query", "documents"]
    panel.box = widgets.VBox([*(c[name] for name in order), hint, c["rank"], c["result"]])
    panel.controls = c


def _domain_examples(domain):
    """Return {name: (query, documents)} from the course's test queries of ``domain`` and of general life.

    Two of the domain and one general one in each language, with the right documents and others, five in all. A domain that
    the course does not have gets the general ones.
    """
    from course_utils.data import DOMAINS, load_domain

    out = {}
    for source in dict.fromkeys([domain, "general"]):
        if source not in DOMAINS:
            continue
        for language, word in (("en", _("English")), ("zh", _("Chinese"))):
            for g in subset(load_domain(source, language, "test"), 2 if source == domain else 1):
                wrong = [d for d in g.documents if d not in g.positives][: 5 - len(g.positives)]
                chosen = [d for d in g.documents if d in g.positives or d in wrong]
                out[f"{source}, {word}: {g.query}"] = (g.query, chosen)
    return out


def _score_both(base, adapted, query, documents):
    """Return two rankings (lists of Ranked) of the same documents: by the base, and by a Delta on it or another Reranker."""
    with swapped(base):
        before = base.rank(query, documents)
    if isinstance(adapted, Reranker):
        return before, adapted.rank(query, documents)
    with swapped(base, adapted):
        return before, base.rank(query, documents)


def freezing_panel(reranker, groups, queries=8):
    """Return a panel with a slider for the boundary and what it costs: predicted at once, measured on a button.

    The prediction is ``cost.estimate``: parameters and states are counted, memory is counted on one batch, seconds are timed
    on a few queries at two boundaries and scaled. The button runs real training steps at the chosen boundary
    (``cost.measure``) on copies of the weights; the reranker stays as it is.

    Args:
        reranker: the Reranker.
        groups: list of Group that an epoch goes over.
        queries: queries that are run to time it.

    Raises:
        InputError: too few queries, or a model whose layers cannot be timed.
    """
    costs = cost._estimate(reranker, groups, queries)
    count, queries_in_all = len(decoder_layers(reranker.model)[1]), len(groups)
    xs = list(range(1, count + 1))
    series = {
        _("states kept"): (xs, [costs[k].seconds for k in xs]),
        _("frozen layers run each time"): (xs, [costs[k].seconds_without for k in xs]),
    }
    picture = plots.lines(series, _("last layers that train"), _("seconds an epoch"), _("Predicted time of an epoch"))
    panel = _Panel(
        _costs_html(costs, queries_in_all)
        + plots.image_html(picture)
        + _static_note(_("slide the boundary and measure"))
    )
    if widgets := _ipywidgets():
        _freezing_controls(
            widgets, panel, costs, queries_in_all, lambda k: cost._measure(reranker, groups, k, queries=queries)
        )
    return panel


def _freezing_controls(widgets, panel, costs, queries_in_all, measure):
    # Give the panel its slider and its button; ``measure(k)`` runs training steps with the last k layers.
    xs = [k for k in costs if k != "all"]
    count, start = len(xs), min(3, len(xs))
    options = [(_("0, nothing"), 0), *((_("last {layers}").format(layers=k), k) for k in xs), (_("everything"), "all")]
    wide = widgets.Layout(width="98%")
    c = {
        "layers": widgets.SelectionSlider(options=options, value=start, description=_('Layers that train'), layout=wide,
                                          style={"description_width": "9em"}),
        "measure": widgets.Button(description=_('Measure'), button_style="primary",
                                  tooltip=_('Run training steps with this boundary')),
        "result": widgets.HTML(value=_freezing_html(costs[start], count, queries_in_all), layout=wide),
    }  # fmt: skip
    measured = {}

    def show(change=None):
        k = c["layers"].value
        if k == 0:
            text = _message_html(_("Nothing would train: every parameter is frozen. Move the slider to the right."))
        else:
            text = _freezing_html(costs[k], count, queries_in_all, measured.get(k))
        c["result"].value = text

    def run(button):
        k = c["layers"].value
        if k == 0:
            return
        c["measure"].description = _("Measuring")  # not disabled: a disabled button would lose the keyboard's focus
        try:
            measured[k] = measure(k)
            show()
        except InputError as error:
            c["result"].value = _message_html(error)
        finally:
            c["measure"].description = _("Measure")

    c["layers"].observe(show, names="value")
    c["measure"].on_click(run)
    panel.box, panel.controls = widgets.VBox([c["layers"], c["measure"], c["result"]]), c


def _static_note(what):
    said = _("This is a still copy. Run the cell in JupyterLab or Colab with ipywidgets installed to {what}.")
    return f"<p>{said.format(what=what)}</p>"


def _ipywidgets():
    """Return the module ipywidgets, or None where it is not installed."""
    try:
        import ipywidgets
    except ImportError:
        return None
    return ipywidgets


def _check_adapted(base, adapted):
    if not adapted:
        raise InputError("There is no adapted model; give a Delta, a Reranker or a dict of them.")
    for name, model in adapted.items():
        if model is base or (isinstance(model, Reranker) and model.model is base.model):
            raise InputError(
                '"{name}" is the base itself, so both sides would be the same; load the base again, or give a delta.',
                name=name,
            )
        if not isinstance(model, Delta | Reranker):
            raise InputError('"{name}" is a {kind}; give a Delta or a Reranker.', name=name, kind=type(model).__name__)
