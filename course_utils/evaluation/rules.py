"""Rules that cannot know the answer: what a list gives away without its query."""

import numpy as np

from course_utils.data.groups import subset
from course_utils.data.negatives import bm25_tokens
from course_utils.errors import InputError
from course_utils.evaluation.measure import compare, evaluate_scores, paired_bootstrap
from course_utils.evaluation.slices import add_rule

BLIND = 2000  # queries that the rule learns from where nobody asked for it
TELLS = 0.02  # nDCG@10 that the rule gains over random order where documents betray their label
WEIGHTS = (0.0, 0.1, 0.2, 0.4, 0.8)  # of the rule beside a model


def _surface(texts):
    """Return one row of plain figures a text: length, question marks, other marks, digits, capitals, lines, last character."""
    rows = []
    for text in texts:
        n = max(1, len(text))
        questions = sum(text.count(mark) for mark in "?？")
        marks = sum(not (c.isalnum() or c.isspace()) for c in text)
        rows.append(
            [
                np.log1p(len(text)),
                questions > 0,
                questions / n,
                marks / n,
                sum(c.isdigit() for c in text) / n,
                sum(c.isupper() for c in text) / n,
                text.count("\n"),
                text.rstrip().endswith(("?", "？")),
                text.rstrip().endswith((".", "。", "!", "！")),
            ]
        )
    return np.array(rows, dtype=np.float64)


def _classifier():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    features = make_union(
        TfidfVectorizer(analyzer=bm25_tokens, sublinear_tf=True),
        TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, max_features=50_000),
        make_pipeline(FunctionTransformer(_surface), StandardScaler()),
    )
    return make_pipeline(features, LogisticRegression(max_iter=1000, class_weight="balanced"))


def document_alone(train, test):
    """Return scores of a rule that never sees the query: how far a document looks like a right answer by itself.

    Whoever makes the negatives leaves a trace: posts with question marks that are never right, answers of another source,
    texts that are nobody's answer. A reranker trained on such lists learns the trace, and its gain says nothing about
    queries. Measured while this course was made: on lists as they come with public sets this rule lifted nDCG@10 by 0.04
    to 0.32 over random order; rebuilt so that every candidate is the right answer of some query, by 0.01 to 0.06. A gain
    from training that this rule reaches too is no evidence that queries are read.

    Words, runs of 1 to 3 characters, length, marks and digits of the document go into a logistic regression.

    Args:
        train: list of Group that the rule learns from.
        test: list of Group that it is judged on; their labels are not read.

    Returns:
        list of float arrays, one a Group of ``test``, one score a candidate; higher is more like a right answer.

    Raises:
        InputError: when ``train`` holds only right or only wrong documents, or no text at all.
    """
    seen = {}
    for g in train:
        for document, relevance in zip(g.documents, g.relevance, strict=True):
            seen.setdefault(document, [0, 0])[relevance > 0] += 1
    # A document stands in many lists: once with its number of wrong and of right places is the same, and faster.
    rows = [(d, label, n) for d, counts in seen.items() for label, n in enumerate(counts) if n]
    if len({label for _, label, _ in rows}) < 2:
        raise InputError("The training lists hold only one kind of label: a rule needs right and wrong documents.")
    texts, labels, weights = zip(*rows, strict=True)
    model = _classifier()
    try:
        model.fit(texts, labels, logisticregression__sample_weight=weights)
    except ValueError as error:  # scikit-learn's "empty vocabulary"
        raise InputError("The training documents hold no words: a rule about documents needs text.") from error
    places = {d: i for i, d in enumerate(dict.fromkeys(d for g in test for d in g.documents))}
    scores = model.decision_function(list(places)) if places else np.zeros(0)
    return [scores[[places[d] for d in g.documents]] for g in test]


def betrayed(train, test=None):
    """Return (nDCG@10 of random order, nDCG@10 of ``document_alone``, their Difference) on lists.

    Args:
        train: list of Group.
        test: list of Group to judge on; None: each half of ``train`` is judged by a rule from the other.

    Raises:
        InputError: no list that can be ranked wrongly, or only one kind of label to learn from.
    """
    if test is None:
        halves = train[::2], train[1::2]
        scores, test = document_alone(halves[1], halves[0]) + document_alone(*halves), halves[0] + halves[1]
    else:
        scores = document_alone(train, test)
    chance = evaluate_scores([np.zeros(len(g.documents)) for g in test], test)
    rule = evaluate_scores(scores, test)
    return chance.summary["ndcg@10"], rule.summary["ndcg@10"], compare(chance, rule)


def _tells(gain):
    """Return whether the Difference of ``betrayed`` says that documents betray their label."""
    return gain.low > 0 and gain.mean >= TELLS


def _beside_rule(train, test, before, after, seed=0):
    """Return what a rule that never reads the query makes of test lists, beside a model before and after training.

    The control that a gain has to pass: the model before training plus the rule. For each half of the test queries the
    weight of the rule is the one that is best on the other half.

    Args:
        train: list of Group that the rule learns from; of very many, some.
        test: list of Group, as measured.
        before, after: Evaluations of ``test``.
        seed: of the interval.

    Returns:
        {"random", "document_alone", "base_and_rule": nDCG@10; "above": Difference of ``after`` to the base plus the rule};
        None where the training lists teach no rule.
    """
    try:
        rule = document_alone(subset(train, BLIND), test)
    except InputError:
        return None
    tried = {w: evaluate_scores(add_rule(before.scores, rule, w), test).per_query() for w in WEIGHTS}
    both = tried[0.0].copy()
    for own, other in ((0, 1), (1, 0)) if len(both) > 1 else ():
        weight = max(WEIGHTS, key=lambda w: tried[w][other::2].mean())
        both[own::2] = tried[weight][own::2]
    chance = evaluate_scores([np.zeros(len(g.documents)) for g in test], test).summary["ndcg@10"]
    alone = evaluate_scores(rule, test).summary["ndcg@10"]
    above = paired_bootstrap(both, after.per_query(), seed=seed)
    return {"random": chance, "document_alone": alone, "base_and_rule": float(both.mean()), "above": above}
