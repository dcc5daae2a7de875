"""The choices of a training run and their defaults."""

REPLAY_SHARE = 0.25

EPOCHS = 3

NEGATIVES = 4

EMA_DECAY = 0.99

LARGER_STEPS_FROM = 200


def default_learning_rate(model, batch_queries=4, layers=3):
    """Return 2e-5 for a pretrained model; for one below 50 million parameters 2e-3 with 4 queries a step, 4e-3 with 8.

    The rate grows with the batch as in Goyal et al., arXiv 1706.02677, up to 8 queries: with 32 at 1e-2 the small model lost.
    When everything trains, ``layers`` "all", a small model takes a quarter: the rate of the last layers wrecks it
    (figures in the card of the bundled model).
    """
    if is_large(model):
        return 2e-5
    return 5e-4 * min(8, max(4, batch_queries)) * (0.25 if layers == "all" else 1)


def default_batch(model, queries):
    """Return the queries in an optimiser step: 8 for a small model from LARGER_STEPS_FROM training queries on, else 4.

    Larger steps cost a small model less time for the same result; few queries need the steps (figures in the card of the bundled
    model).
    """
    return 8 if queries >= LARGER_STEPS_FROM and not is_large(model) else 4


def is_large(model):
    """Return whether a model has more than 50 million parameters; small ones bear, and need, far higher rates."""
    return sum(p.numel() for p in model.parameters()) > 50e6
