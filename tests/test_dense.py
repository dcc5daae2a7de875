"""An index with vectors beside BM25 finds what shares no word with the question; a tiny local model stands in."""

import pytest
import torch

from course_utils.errors import InputError
from course_utils.ship import SearchIndex, build_index, search

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
