"""What a training came to, in words: what was learned, whether it is settled, what it cost, what to do next."""

from math import ceil

from course_utils.language import _, _joined

FALL = 0.01  # nDCG@10 on general data that is worth a word
MANY = 2000  # test queries beyond which nobody labels


def paragraph(done, test, difference, general=None, above=None):
    """Return the closing paragraph of ``adapt``.

    Args:
        done: the Adaptation.
        test: number of test queries.
        difference: Difference in nDCG@10 on the test queries.
        general: Difference on the general set, or None.
        above: Difference to the model before plus a rule that never reads the query, or None.
    """
    parts = [_learned(done, test, difference), _settled(done, test, difference, above), _cost(general)]
    return _joined([part for part in parts if part] + _next(done, difference, general))


def _learned(done, test, d):
    recipe, train = done.recipe, _("{n} queries").format(n=done.counts["trained"])
    beside = [_("{n} more are dev").format(n=done.counts["dev"]["queries"])]
    if done.counts["replayed"]:
        beside += [_("{n} general ones mixed in").format(n=done.counts["replayed"])]
    train += _(" ({beside})").format(beside=_("; ").join(beside))
    if done.best_epoch == 0:
        return _("Nothing was learned from {train}: no epoch beat the start on dev, so the model is as it was.").format(
            train=train
        )
    what = (
        _("all layers") if recipe["layers"] == "all" else _("the last {layers} layers").format(layers=recipe["layers"])
    )
    by = {"graded": _(", by grades"), "teacher": _(", by a teacher's scores")}.get(recipe["loss"], "")
    if recipe["layers"] == 1:
        what = _("the last layer")
    gain = _("gained") if d.mean >= 0 else _("lost")
    kept = (
        _("half of the way to epoch {epochs}") if recipe["keep"] == "halfway" else _("epoch {best_epoch} of {epochs}")
    )
    return _(
        "Learned from {train}{by}, in {what}, {kept} kept: nDCG@10 on {test} "
        "test queries {gain} {mean:.3f}; {wins} are ranked better, {losses} worse."
    ).format(
        train=train,
        by=by,
        what=what,
        kept=kept.format(best_epoch=done.best_epoch, epochs=recipe["epochs"]),
        test=test,
        gain=gain,
        mean=abs(d.mean),
        wins=d.wins,
        losses=d.losses,
    )


def _settled(done, test, d, above):
    if done.best_epoch == 0:
        return ""
    interval = _("the 95 % interval goes from {low:+.3f} to {high:+.3f}").format(low=d.low, high=d.high)
    if d.low > 0 and above and above.low <= 0:
        return _(
            "Lists are ranked better ({interval}), but that queries are read is not settled: above the base with a rule that "
            "never reads the query it is {above:+.3f} [{low:+.3f}, {high:+.3f}], which holds 0 or less; choose wrong documents "
            "from the same source and style as right ones, or label more test queries."
        ).format(interval=interval, above=above.mean, low=above.low, high=above.high)
    if d.low > 0:
        beside = _(", and it is more than a rule that never reads the query adds") if above else ""
        return _("That is settled for this training, one seed of many: {interval}{beside}.").format(
            interval=interval, beside=beside
        )
    if d.high < 0:
        return _("That it is worse is settled: {interval}; do not use it.").format(interval=interval)
    half, text = (d.high - d.low) / 2, _("That is not settled: {interval} and holds 0").format(interval=interval)
    needed = ceil(2 * test * (half / d.mean) ** 2) - test if d.mean > 0 else 0  # 2: four of five tests show it
    if 0 < needed <= MANY:
        return _(
            "{text}; if the gain is what it seems, about {needed} more test queries show it in four of five tests."
        ).format(text=text, needed=needed)
    return (
        _("{text}; a gain so small takes thousands of test queries to show.").format(text=text)
        if d.mean > 0
        else _("{text}.").format(text=text)
    )


def _cost(d):
    if d is None:
        return _("What it cost elsewhere was not measured; give --general.")
    text = _("General queries changed by {mean:+.3f} [{low:+.3f}, {high:+.3f}]").format(
        mean=d.mean, low=d.low, high=d.high
    )
    if d.high < 0 or d.mean < -FALL:
        return _("{text}: something was forgotten{word}.").format(
            text=text, word="" if d.high < 0 else _(", or it is chance")
        )
    return _("{text}: no loss is seen, and one of {value:.3f} is not excluded.").format(
        text=text, value=max(0.0, -d.low)
    )


def _next(done, d, general):
    """Return sentences on what to try, the most promising first; two at most."""
    if done.history[0]["ndcg@10"] > 0.999:
        return [
            _(
                "Next: dev lists are ranked perfectly before training, so they choose nothing; give harder wrong documents."
            )
        ]
    out, recipe, best = [], done.recipe, max(done.history, key=lambda row: row["ndcg@10"])["epoch"]
    if done.best_epoch == 0:
        out += [_("Next: look at the labels with data check, then add training queries or lower --learning-rate.")]
    elif done.kept.get("high", 0) < 0:
        out += [
            _(
                "Next: on dev what is kept ranks worse than the start; look at the labels with data check, or use --keep best."
            )
        ]
    elif best == recipe["epochs"]:
        out += [
            _("Next: dev was best in the last epoch, so try --epochs {epochs}.").format(epochs=2 * recipe["epochs"])
        ]
    elif d.high > 0 and done.counts["trained"] < 300:
        out += [
            _("Next: dev was best before the last epoch, so more epochs will not help; more training questions may.")
            if recipe["keep"] == "best"
            else _("Next: more training questions may help.")
        ]
    if general is not None and (general.high < 0 or general.mean < -FALL):
        fewer = recipe["layers"] in (1, None)
        out += [_("To keep more of the general skill leave replay on.") if fewer else _("Fewer --layers forget less.")]
    elif done.best_epoch and d.high < 0:
        out += [_("Compare how train and test were made before anything else.")]
    return out[:2]
