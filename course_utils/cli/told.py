"""What a training came to, in words: what was learned, whether it is settled, what it cost, what to do next."""

from math import ceil

FALL = 0.01  # nDCG@10 on general data that is worth a word
MANY = 2000  # test queries beyond which nobody labels


def paragraph(done, train, test, difference, general=None):
    """Return the closing paragraph of ``adapt``.

    Args:
        done: the Adaptation.
        train: number of training queries.
        test: number of test queries.
        difference: Difference in nDCG@10 on the test queries.
        general: Difference on the general set, or None.
    """
    parts = [_learned(done, train, test, difference), _settled(done, test, difference), _cost(general)]
    return " ".join([part for part in parts if part] + _next(done, train, difference, general))


def _learned(done, train, test, d):
    recipe = done.recipe
    if done.best_epoch == 0:
        return f"Nothing was learned from {train} queries: no epoch beat the start on dev, so the model is as it was."
    what = "all layers" if recipe["layers"] == "all" else f"the last {recipe['layers']} layers"
    by = {"graded": ", by grades", "teacher": ", by a teacher's scores"}.get(recipe["loss"], "")
    if recipe["layers"] == 1:
        what = "the last layer"
    gain = "gained" if d.mean >= 0 else "lost"
    return (
        f"Learned from {train} queries{by}, in {what}, epoch {done.best_epoch} of {recipe['epochs']} kept: nDCG@10 on {test} test "
        f"queries {gain} {abs(d.mean):.3f}; {d.wins} are ranked better, {d.losses} worse."
    )


def _settled(done, test, d):
    if done.best_epoch == 0:
        return ""
    interval = f"the 95 % interval goes from {d.low:+.3f} to {d.high:+.3f}"
    if d.low > 0:
        return f"That is settled: {interval}."
    if d.high < 0:
        return f"That it is worse is settled: {interval}; do not use it."
    half, text = (d.high - d.low) / 2, f"That is not settled: {interval} and holds 0"
    needed = ceil(test * (half / d.mean) ** 2) - test if d.mean > 0 else 0
    if 0 < needed <= MANY:
        return f"{text}; if the gain is what it seems, about {needed} more test queries would show it."
    return f"{text}; a gain so small takes thousands of test queries to show." if d.mean > 0 else f"{text}."


def _cost(d):
    if d is None:
        return "What it cost elsewhere was not measured; give --general."
    text = f"General queries changed by {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
    if d.high < 0 or d.mean < -FALL:
        return f"{text}: something was forgotten{'' if d.high < 0 else ', or it is chance'}."
    return f"{text}: no loss is seen, and one of {max(0.0, -d.low):.3f} is not excluded."


def _next(done, train, d, general):
    """Return sentences on what to try, the most promising first; two at most."""
    out, recipe = [], done.recipe
    if done.best_epoch == 0:
        out += ["Next: look at the labels with data check, then add training queries or lower --learning-rate."]
    elif done.best_epoch == recipe["epochs"]:
        out += [f"Next: dev was best in the last epoch, so try --epochs {2 * recipe['epochs']}."]
    elif d.high > 0 and train < 300:
        out += ["Next: dev was best before the last epoch, so more epochs will not help; more training questions may."]
    if general is not None and (general.high < 0 or general.mean < -FALL):
        fewer = recipe["layers"] in (1, None)
        out += ["To keep more of the general skill leave replay on." if fewer else "Fewer --layers forget less."]
    elif done.best_epoch and d.high < 0:
        out += ["Compare how train and test were made before anything else."]
    return out[:2]
