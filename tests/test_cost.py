import json

import pytest
from conftest import make_groups

from course_utils.cli.parser import main
from course_utils.errors import InputError
from course_utils.model.reranker import Reranker
from course_utils.training import Recipe, adapt, cost


def test_a_forecast_leaves_the_model_as_it_was_and_grows_with_epochs_and_scored_lists(tiny):
    state = [(p, p.clone(), p.requires_grad) for p in tiny.model.parameters()]
    train, dev = make_groups(12)[:9], make_groups(12)[9:]
    runs = [cost.forecast(tiny, train, dev, recipe=Recipe(layers=2, epochs=n)) for n in (1, 20)]
    assert runs[1].seconds > runs[0].seconds > 0
    assert runs[0].memory_mb > 100
    assert cost.forecast(tiny, train, dev, train * 200, recipe=Recipe(layers=2, epochs=1)).seconds > runs[0].seconds
    for p, value, flag in state:
        assert p.equal(value)
        assert p.requires_grad == flag
        assert p.grad is None


def test_the_disk_in_a_forecast_is_what_adapt_writes(tiny, tmp_path):
    train, dev = make_groups(12)[:9], make_groups(12)[9:]
    told = cost.forecast(tiny, train, dev, recipe=Recipe(layers=2, epochs=1))
    adapt(tiny, train, dev, Recipe(layers=2, epochs=1), work_dir=tmp_path, quiet=True)
    states = sum(p.stat().st_size for p in tmp_path.glob("trunk/*/states.bin")) / 2**20
    assert states < told.disk_mb < 1.5 * states  # the constant prompt is kept besides, once a file
    assert cost.forecast(tiny, train, dev, recipe=Recipe(layers="all", epochs=1)).disk_mb == 0


@pytest.mark.slow
def test_a_forecast_of_the_bundled_model_is_near_the_truth():
    """A factor of three either way: other programs share the processor."""
    reranker = Reranker.load("nano", device="cpu", quiet=True)
    groups = make_groups(60, candidates=8)
    train, dev = groups[:50], groups[50:]
    told = cost.forecast(reranker, train, dev).seconds
    took = adapt(reranker, train, dev, quiet=True).seconds
    assert told / 3 < took < told * 3


def test_a_forecast_reads_as_a_sentence():
    assert str(cost._Forecast(2400, 6144, 1234)) == (
        "This will take about 40 minutes and 6.0 GB of memory, with 1,234 MB on disk meanwhile."
    )
    assert str(cost._Forecast(40, 512, 0)) == "This will take about 40 seconds and 0.5 GB of memory."


def test_too_few_queries_cannot_be_forecast(tiny):
    with pytest.raises(InputError, match="too few"):
        cost.forecast(tiny, make_groups(1), make_groups(2))


def test_the_command_line_estimates_and_stops(tmp_path, capsys):
    for name, groups in (("train", make_groups(24)[:16]), ("test", make_groups(24)[16:])):
        rows = [
            {"query": g.query, "document": d, "relevance": r}
            for g in groups
            for d, r in zip(g.documents, g.relevance, strict=True)
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    command = ["adapt", "--train", tmp_path / "train.json", "--test", tmp_path / "test.json"]
    command += ["--out", tmp_path / "out", "--json", tmp_path / "r.json", "--estimate", "--no-replay"]
    assert main([str(c) for c in command]) == 0
    assert "This will take about" in capsys.readouterr().out
    assert not (tmp_path / "r.json").exists()
    assert not (tmp_path / "out").exists()
