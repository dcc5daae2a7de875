"""Vectors beside BM25 in index, search and prepare find what shares no word; a tiny local model stands in."""

import pytest
import torch

from course_utils.cli import main
from course_utils.data import Bm25, Group, Plan, prepare
from course_utils.errors import InputError
from course_utils.ship import SearchIndex, build_index, search
from course_utils.ship.dense import _both_stages

models = pytest.importorskip("sentence_transformers.models")


@pytest.fixture
def encoder(tokenizer, tmp_path):
    from sentence_transformers import SentenceTransformer

    torch.manual_seed(0)
    weights = torch.randn(len(tokenizer), 16)

    def ids(text):
        return tokenizer.encode(text, add_special_tokens=False)

    weights[ids("physician")] = weights[ids("doctor")[0]].clone()  # what a trained model knows
    module = models.StaticEmbedding(tokenizer.backend_tokenizer, embedding_weights=weights.numpy())
    SentenceTransformer(modules=[module], device="cpu").save(str(tmp_path / "encoder"))
    return tmp_path / "encoder"


def test_vectors_find_what_shares_no_word(encoder, tmp_path):
    (tmp_path / "pages.txt").write_text("physician physician\nrent and lease\nsalt and sugar\n")
    build_index(tmp_path / "pages.txt", tmp_path / "plain")
    build_index(tmp_path / "pages.txt", tmp_path / "index", dense=str(encoder))
    assert search(tmp_path / "plain", "doctor") == []
    index = SearchIndex(tmp_path / "index")
    assert search(index, "doctor")[0].text == "physician physician"
    assert [h.text for h in search(index, "rent lease", top_k=1)] == ["rent and lease"]  # both stages agree


def test_a_missing_model_is_said_and_nothing_is_written(tmp_path):
    (tmp_path / "pages.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match="dense first stage cannot be loaded"):
        build_index(tmp_path / "pages.txt", tmp_path / "index", dense=str(tmp_path))
    assert not (tmp_path / "index").exists()


def test_prepare_mines_and_counts_with_both_stages(encoder, tmp_path):
    asked = [Group(f"doctor {i}", (f"physician rule {i}",), (1,), f"topic {i}") for i in range(12)]
    pages = [f"physician rule {i}" for i in range(12)] + [f"salt and sugar {i}" for i in range(40)]
    (tmp_path / "pages.txt").write_text("\n".join(pages) + "\n")
    found = {}
    for name, first in (("plain", Bm25), ("dense", _both_stages(str(encoder)))):
        plan = Plan(hard=2, random_negatives=0, ranks=(0, 5))
        found[name] = prepare(asked, tmp_path / "pages.txt", plan=plan, first_stage=first)
    assert "BM25 over all 52" in str(found["plain"]) and "The first stage over all 52" in str(found["dense"])
    assert found["dense"].recall[20] == 1.0  # one vector for both words, whatever the number behind them
    mined = [d for g in found["dense"].parts["train"] for d, r in zip(g.documents, g.relevance, strict=True) if not r]
    assert sum("physician" in d for d in mined) > len(mined) / 2  # BM25 alone knows only the number


def test_the_command_takes_a_dense_first_stage(encoder, tmp_path, capsys):
    rows = "".join(f"doctor {i},physician rule {i}\n" for i in range(12))
    (tmp_path / "asked.csv").write_text("query,document\n" + rows)
    (tmp_path / "pages.txt").write_text("".join(f"physician rule {i}\n" for i in range(20)))
    command = [
        "data",
        "prepare",
        str(tmp_path / "asked.csv"),
        str(tmp_path / "pages.txt"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*command, "--dense", str(encoder)]) == 0
    assert "The first stage over all 20 passages" in capsys.readouterr().out
    assert main([*command[:-1], str(tmp_path / "other"), "--dense", str(tmp_path / "asked.csv")]) == 2
    assert "dense first stage cannot be loaded" in capsys.readouterr().err and not (tmp_path / "other").exists()
