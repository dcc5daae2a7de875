"""What the panels show, as HTML: tables with captions and scoped headings, from rankings and costs."""

import html

from course_utils.language import _
from course_utils.show.style import BLUE, ORANGE

_BASE, _ADAPTED = ORANGE, BLUE


def _playground_html(query, before, after, domain="adapted"):
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
            [
                _text(r.document),
                was,
                _bar(own.probability, _BASE),
                place,
                _bar(r.probability, _ADAPTED),
                _move(was, place),
            ]
        )
    name = _text(domain)
    head = [
        _("Document"),
        _("Rank, base"),
        _("Probability, base"),
        _("Rank, {name}").format(name=name),
        _("Probability, {name}").format(name=name),
        _("Move"),
    ]
    moved = sum(old[r.index][0] != place for place, r in enumerate(after, 1))
    first = (
        _("Both put the same document first.")
        if before[0].index == after[0].index
        else _("They put different documents first.")
    )
    said = _("{moved} of {n_after} documents change their rank. {first}").format(
        moved=moved, n_after=len(after), first=first
    )
    return f'<p role="status">{said}</p>' + _table_html(
        _("“{query}”: base and {name}").format(query=_text(query), name=name), head, rows
    )


def _move(before, after):
    """Return the change from rank ``before`` to rank ``after`` as an arrow and words."""
    if before == after:
        return _("= stays")
    return (
        _("▲ up {places}").format(places=before - after)
        if after < before
        else _("▼ down {places}").format(places=after - before)
    )


def _freezing_html(predicted, count, queries, measured=None):
    """Return a table of what one boundary costs.

    Args:
        predicted: Cost by ``cost.estimate``.
        count: layers of the model.
        queries: queries in an epoch.
        measured: Cost by ``cost.measure``, where it was measured.
    """
    both = [predicted] + ([measured] if measured else [])
    rows = [
        [
            _("Parameters that train"),
            *(
                _("{trained:,} of {total:,} ({share:.1%})").format(
                    trained=c.trained, total=c.total, share=c.trained / c.total
                )
                for c in both
            ),
        ],
        [_("Memory for weights, gradients, AdamW"), *(f"{c.weights_mb:,.1f} MB" for c in both)],
        [_("Memory for activations of one batch"), *(f"{c.activations_mb:,.1f} MB" for c in both)],
        [_("Memory together"), *(f"{c.memory_mb:,.1f} MB" for c in both)],
        [_("Seconds an epoch, states kept"), *(_seconds(c.seconds) for c in both)],
        [_("Seconds an epoch, frozen layers run each time"), *(_seconds(c.seconds_without) for c in both)],
        [_("Kept states on disk"), *(f"{c.states_mb:,.1f} MB" if c.states_mb else _("no frozen layer") for c in both)],
    ]
    caption = _("{boundary}; an epoch of {queries} queries").format(
        boundary=_boundary(predicted.layers, count), queries=queries
    )
    return _table_html(caption, ["", _("Predicted"), _("Measured")][: 1 + len(both)], rows)


def _costs_html(costs, queries):
    """Return a table of the predicted cost of every boundary, {layers: Cost}, for an epoch of ``queries`` queries."""
    rows = [
        [_('everything') if k == "all" else _("last {layers}").format(layers=k), f"{c.trained:,}", f"{c.trained / c.total:.1%}", f"{c.memory_mb:,.1f}",
         _seconds(c.seconds), _seconds(c.seconds_without)]
        for k, c in costs.items()
    ]  # fmt: skip
    head = [
        _("Layers that train"),
        _("Parameters"),
        _("Share"),
        _("Memory, MB"),
        _("Seconds, states kept"),
        _("Seconds, run each time"),
    ]
    return _table_html(
        _("Predicted cost of each boundary; an epoch of {queries} queries").format(queries=queries), head, rows
    )


def _boundary(layers, count):
    """Return a boundary in words."""
    if layers == "all":
        return _("Everything trains, embeddings too")
    return (
        _("The last {layers} of {count} layers train").format(layers=layers, count=count)
        if layers < count
        else _("All {count} layers train").format(count=count)
    )


def _table_html(caption, head, rows):
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


def _message_html(message):
    """Return a sentence for the reader in place of a result."""
    return f'<p role="status"><strong>{_("Nothing to show yet.")}</strong> {_text(message)}</p>'


def _text(value):
    return html.escape(str(value), quote=True)


def _bar(probability, colour):
    """Return a probability as a number and a bar; the bar is for the eye only."""
    return (
        f'{probability:.3f}<span aria-hidden="true" style="display:block;width:7em;border:1px solid #888;margin-top:.2em">'
        f'<span style="display:block;height:.6em;width:{100 * probability:.1f}%;background:{colour}"></span></span>'
    )


def _seconds(value):
    return _("{seconds} s").format(seconds=f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}")
