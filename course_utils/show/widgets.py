"""Two interactive panels: try a query on base and adapted model, slide the boundary of what trains.

A panel is shown by being the last line of a cell. With ipywidgets 7.7 or 8 and a live front end it can be used, from the
keyboard too. Everywhere else (an executed copy, GitHub, no ipywidgets) the same output shows a table and a picture of how it
starts: both are in the output, and the viewer takes the one that it can show. Functions named ``..._html`` make the text;
the panels only move values between controls and them.
"""

import html
from contextlib import contextmanager
from dataclasses import dataclass, field

from course_utils.data.groups import subset
from course_utils.domains.delta import Delta, swapped
from course_utils.errors import InputError
from course_utils.model.reranker import Reranker
from course_utils.show import plots
from course_utils.training import cost
from course_utils.training.freezing import decoder_layers

WIDGET = "application/vnd.jupyter.widget-view+json"
BASE, ADAPTED = plots.ORANGE, plots.BLUE


@dataclass
class Panel:
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
        bundle = {"text/html": self.static, "text/plain": "An interactive panel; run the cell in JupyterLab or Colab."}
        if self.box is not None:
            bundle[WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        return bundle


def playground(base, adapted, examples=None):
    """Return a Panel in which a learner edits a query and its documents and sees base and adapted side by side.

    Args:
        base: the Reranker before adaptation. Where it has a delta attached, the base below it is meant.
        adapted: {domain: Delta or Reranker}, or one of these.
        examples: {domain: {name: (query, [document, ...])}}; default: see ``domain_examples``.

    Raises:
        InputError: ``adapted`` is empty, is the base itself, or is something else.
    """
    if not isinstance(adapted, dict):
        adapted = {getattr(adapted, "name", "") or "adapted": adapted}
    _check_adapted(base, adapted)
    examples = examples or {domain: domain_examples(domain) for domain in adapted}
    missing = [d for d in adapted if not examples.get(d)]
    if missing:
        raise InputError(
            f'There is no example for "{missing[0]}"; give examples={{"{missing[0]}": {{name: (query, documents)}}}}.'
        )
    domain = next(iter(adapted))
    query, documents = next(iter(examples[domain].values()))

    def result(domain, query, text):
        documents = [line.strip() for line in text.splitlines() if line.strip()]
        try:
            return playground_html(query, *score_both(base, adapted[domain], query, documents), domain)
        except InputError as error:
            return message_html(error)

    start = result(domain, query, "\n\n".join(documents))
    before, after = score_both(base, adapted[domain], query, documents)
    picture = plots.rank_changes(before, after, title=f"Base (left) and {domain} (right)")
    panel = Panel(start + plots.image_html(picture) + _static_note("change the query and the documents"))
    widgets = _ipywidgets()
    if widgets is None:
        return panel

    wide = widgets.Layout(width="98%")
    labels = {"description_width": "6em"}
    c = {
        "domain": widgets.Dropdown(options=list(adapted), description="Adapted to", style=labels),
        "example": widgets.Dropdown(options=list(examples[domain]), description="Example", style=labels, layout=wide),
        "query": widgets.Text(value=query, description="Query", continuous_update=False, style=labels, layout=wide),
        "documents": widgets.Textarea(value="\n\n".join(documents), description="Documents", continuous_update=False, style=labels,
                                      rows=14, layout=wide, placeholder="one document a line"),
        "rank": widgets.Button(description="Rank", button_style="primary", tooltip="Rank the documents with both models"),
        "result": widgets.HTML(value=start, layout=wide),
    }  # fmt: skip
    held = {"quiet": False}

    def show(_=None):
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

    def fill(_=None):
        chosen = examples[c["domain"].value].get(c["example"].value)
        if held["quiet"] or chosen is None:
            return
        with at_once():
            c["query"].value, c["documents"].value = chosen[0], "\n\n".join(chosen[1])

    def change_domain(_):
        held["quiet"] = True
        c["example"].options = list(examples[c["domain"].value])
        held["quiet"] = False
        fill()

    c["domain"].observe(change_domain, names="value")
    c["example"].observe(fill, names="value")
    c["query"].observe(show, names="value")
    c["documents"].observe(show, names="value")
    c["rank"].on_click(show)
    hint = widgets.HTML(
        '<p style="line-height:1.4">One document a line; empty lines do not count. Add a line to add a document, delete it '
        "to remove one. Rank shows the result; so does Enter in the query. From the keyboard: Tab goes on; in a list press Space, "
        "choose with the arrow keys, press Enter.</p>",
        layout=wide,
    )
    order = ["domain", "example", "query", "documents"]
    panel.box = widgets.VBox([*(c[name] for name in order), hint, c["rank"], c["result"]])
    panel.controls = c
    return panel


def domain_examples(domain):
    """Return {name: (query, documents)} from the course's test queries of ``domain`` and of general life.

    Two of the domain and one general one in each language, with the right documents and others, five in all. A domain that
    the course does not have gets the general ones.
    """
    from course_utils.data.grid import DOMAINS, load_domain

    out = {}
    for source in dict.fromkeys([domain, "general"]):
        if source not in DOMAINS:
            continue
        for language, word in (("en", "English"), ("zh", "Chinese")):
            for g in subset(load_domain(source, language, "test"), 2 if source == domain else 1):
                wrong = [d for d in g.documents if d not in g.positives][: 5 - len(g.positives)]
                chosen = [d for d in g.documents if d in g.positives or d in wrong]
                out[f"{source}, {word}: {g.query}"] = (g.query, chosen)
    return out


def score_both(base, adapted, query, documents):
    """Return two rankings (lists of Ranked) of the same documents: by the base, and by a Delta on it or another Reranker."""
    with swapped(base):
        before = base.rank(query, documents)
    if isinstance(adapted, Reranker):
        return before, adapted.rank(query, documents)
    with swapped(base, adapted):
        return before, base.rank(query, documents)


def freezing_panel(reranker, groups, queries=8, batch_queries=4):
    """Return a Panel with a slider for the boundary and what it costs: predicted at once, measured on a button.

    The prediction is ``cost.estimate``: parameters and states are counted, memory is counted on one batch, seconds are timed
    on a few queries at two boundaries and scaled. The button runs real training steps at the chosen boundary
    (``cost.measure``) on copies of the weights; the reranker stays as it is.

    Args:
        reranker: the Reranker.
        groups: list of Group that an epoch goes over.
        queries: queries that are run to time it.
        batch_queries: queries in a training step.

    Raises:
        InputError: too few queries, or a model whose layers cannot be timed.
    """
    costs = cost.estimate(reranker, groups, batch_queries, queries)
    count, queries_in_all = len(decoder_layers(reranker.model)[1]), len(groups)
    start = min(3, count)
    xs = list(range(1, count + 1))
    series = {
        "states kept": (xs, [costs[k].seconds for k in xs]),
        "frozen layers run each time": (xs, [costs[k].seconds_without for k in xs]),
    }
    picture = plots.lines(series, "last layers that train", "seconds an epoch", "Predicted time of an epoch")
    panel = Panel(
        costs_html(costs, queries_in_all) + plots.image_html(picture) + _static_note("slide the boundary and measure")
    )
    widgets = _ipywidgets()
    if widgets is None:
        return panel

    options = [("0, nothing", 0), *((f"last {k}", k) for k in xs), ("everything", "all")]
    wide = widgets.Layout(width="98%")
    c = {
        "layers": widgets.SelectionSlider(options=options, value=start, description="Layers that train", layout=wide,
                                          style={"description_width": "9em"}),
        "measure": widgets.Button(description="Measure", button_style="primary",
                                  tooltip=f"Run training steps on {queries} queries with this boundary"),
        "result": widgets.HTML(value=freezing_html(costs[start], count, queries_in_all), layout=wide),
    }  # fmt: skip
    measured = {}

    def show(_=None):
        k = c["layers"].value
        if k == 0:
            text = message_html("Nothing would train: every parameter is frozen. Move the slider to the right.")
        else:
            text = freezing_html(costs[k], count, queries_in_all, measured.get(k))
        c["result"].value = text

    def run(_):
        k = c["layers"].value
        if k == 0:
            return
        c["measure"].description = "Measuring"  # not disabled: a disabled button would lose the keyboard's focus
        try:
            measured[k] = cost.measure(reranker, groups, k, batch_queries, queries)
            show()
        except InputError as error:
            c["result"].value = message_html(error)
        finally:
            c["measure"].description = "Measure"

    c["layers"].observe(show, names="value")
    c["measure"].on_click(run)
    panel.box, panel.controls = widgets.VBox([c["layers"], c["measure"], c["result"]]), c
    return panel


def playground_html(query, before, after, domain="adapted"):
    """Return a table of one query's documents under both models, in the adapted model's order.

    Args:
        query: the query text.
        before: the base's ranking, list of Ranked.
        after: the adapted model's ranking of the same documents.
        domain: what the second model is called.
    """
    old = {r.index: (place, r) for place, r in enumerate(before, 1)}
    rows = []
    for place, r in enumerate(after, 1):
        was, own = old[r.index]
        rows.append(
            [_text(r.document), was, _bar(own.probability, BASE), place, _bar(r.probability, ADAPTED), move(was, place)]
        )
    name = _text(domain)
    head = ["Document", "Rank, base", "Probability, base", f"Rank, {name}", f"Probability, {name}", "Move"]
    moved = sum(old[r.index][0] != place for place, r in enumerate(after, 1))
    first = (
        "Both put the same document first."
        if before[0].index == after[0].index
        else "They put different documents first."
    )
    said = f"{moved} of {len(after)} documents change their rank. {first}"
    return f'<p role="status">{said}</p>' + table_html(f"“{_text(query)}”: base and {name}", head, rows)


def move(before, after):
    """Return the change from rank ``before`` to rank ``after`` as an arrow and words."""
    if before == after:
        return "= stays"
    return f"▲ up {before - after}" if after < before else f"▼ down {after - before}"


def freezing_html(predicted, count, queries, measured=None):
    """Return a table of what one boundary costs.

    Args:
        predicted: Cost by ``cost.estimate``.
        count: layers of the model.
        queries: queries in an epoch.
        measured: Cost by ``cost.measure``, where it was measured.
    """
    both = [predicted] + ([measured] if measured else [])
    rows = [
        ["Parameters that train", *(f"{c.trained:,} of {c.total:,} ({c.trained / c.total:.1%})" for c in both)],
        ["Memory for weights, gradients, AdamW", *(f"{c.weights_mb:,.1f} MB" for c in both)],
        ["Memory for activations of one batch", *(f"{c.activations_mb:,.1f} MB" for c in both)],
        ["Memory together", *(f"{c.memory_mb:,.1f} MB" for c in both)],
        ["Seconds an epoch, states kept", *(_seconds(c.seconds) for c in both)],
        ["Seconds an epoch, frozen layers run each time", *(_seconds(c.seconds_without) for c in both)],
        ["Kept states on disk", *(f"{c.states_mb:,.1f} MB" if c.states_mb else "no frozen layer" for c in both)],
    ]
    caption = f"{boundary(predicted.layers, count)}; an epoch of {queries} queries"
    return table_html(caption, ["", "Predicted", "Measured"][: 1 + len(both)], rows)


def costs_html(costs, queries):
    """Return a table of the predicted cost of every boundary, {layers: Cost}, for an epoch of ``queries`` queries."""
    rows = [
        ["everything" if k == "all" else f"last {k}", f"{c.trained:,}", f"{c.trained / c.total:.1%}", f"{c.memory_mb:,.1f}",
         _seconds(c.seconds), _seconds(c.seconds_without)]
        for k, c in costs.items()
    ]  # fmt: skip
    head = ["Layers that train", "Parameters", "Share", "Memory, MB", "Seconds, states kept", "Seconds, run each time"]
    return table_html(f"Predicted cost of each boundary; an epoch of {queries} queries", head, rows)


def boundary(layers, count):
    """Return a boundary in words."""
    if layers == "all":
        return "Everything trains, embeddings too"
    return f"The last {layers} of {count} layers train" if layers < count else f"All {count} layers train"


def table_html(caption, head, rows):
    """Return an HTML table with a caption and scoped headings; the first cell of a row is its heading.

    Cells are HTML already: text from people goes through ``html.escape`` first.
    """
    edge = "padding:.25em .7em;border-bottom:1px solid #999;vertical-align:top;"
    left, number = edge + "text-align:left;", edge + "text-align:left;white-space:nowrap;line-height:1.4;"
    top = "".join(f'<th scope="col" style="{left}">{h}</th>' if h else f'<td style="{left}"></td>' for h in head)
    body = "".join(
        f'<tr><th scope="row" style="{left}font-weight:normal;max-width:34em;white-space:normal;line-height:1.4">{first}</th>'
        + "".join(f'<td style="{number}">{cell}</td>' for cell in others)
        + "</tr>"
        for first, *others in rows
    )
    return (
        '<table style="border-collapse:collapse;font-size:14px;line-height:1.4">'
        f'<caption style="text-align:left;padding:.5em 0;font-weight:bold;caption-side:top">{caption}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    )


def message_html(message):
    """Return a sentence for the reader in place of a result."""
    return f'<p role="status"><strong>Nothing to show yet.</strong> {_text(message)}</p>'


def _text(value):
    return html.escape(str(value), quote=True)


def _bar(probability, colour):
    """Return a probability as a number and a bar; the bar is for the eye only."""
    return (
        f'{probability:.3f}<span aria-hidden="true" style="display:block;width:7em;border:1px solid #888;margin-top:.2em">'
        f'<span style="display:block;height:.6em;width:{100 * probability:.1f}%;background:{colour}"></span></span>'
    )


def _seconds(value):
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f} s"


def _static_note(what):
    return f"<p>This is a still copy. Run the cell in JupyterLab or Colab with ipywidgets installed to {what}.</p>"


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
                f'"{name}" is the base itself, so both sides would be the same; load the base again, or give a delta.'
            )
        if not isinstance(model, Delta | Reranker):
            raise InputError(f'"{name}" is a {type(model).__name__}; give a Delta or a Reranker.')
