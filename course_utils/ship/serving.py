"""Lines that start other people's rerank servers on folders written by ``course_utils.ship``.

Tried over HTTP on a CPU, with scores as here: Infinity 0.0.78 (one-label folder), vLLM 0.32 (both folders) and llama.cpp
(causal folder); see benchmarks/export_matrix.md. SGLang, TEI and Ollama were not run: their lines come from their code and
documentation.
"""

import json

from course_utils.language import _
from course_utils.ship.export import LLAMA_CPP_FILE


def serving_lines(causal="causal-lm", one_label="one-label", port=8000):
    """Return {server: how to start it, in a few lines of text} for folders that the exports wrote.

    Args:
        causal: folder of ``export_causal_lm``.
        one_label: folder of ``export_sequence_classifier``.
        port: TCP port.
    """
    overrides = json.dumps(
        {
            "architectures": ["Qwen3ForSequenceClassification"],
            "classifier_from_token": ["no", "yes"],
            "is_original_qwen3_reranker": True,
        }
    )
    wrapped = _(
        "# It knows no template: send the two texts of wrap_pair(query, document, instruction) instead of query and document."
    )
    return {
        "vLLM": f"vllm serve {causal} --runner pooling --hf_overrides '{overrides}' \\\n"
        f"  --chat-template {causal}/chat_template.jinja --port {port}\n"
        + _(
            "# POST /rerank: query, documents, instruction; use_activation false gives logits, the default probabilities.\n"
            "# max_tokens_per_doc cuts documents alone; truncate_prompt_tokens would cut the prompt.\n"
            "# Weights in fp32 are rounded to fp16 without a question; --dtype float32 keeps them."
        ),
        "vLLM, one label": f"vllm serve {one_label} --runner pooling --chat-template {one_label}/chat_template.jinja "
        f"--port {port}",
        "SGLang": f"python -m sglang.launch_server --model-path {causal} --chat-template {causal}/chat_template.jinja \\\n"
        f"  --disable-radix-cache --port {port}\n"
        + _(
            "# Without --is-embedding. POST /v1/rerank: query, documents, instruct. Use this template, not the one in its\n"
            "# examples: that one stops after the word assistant and leaves out the empty think block."
        ),
        "TEI": f"text-embeddings-router --model-id {one_label} --port {port}\n"
        + _("# POST /rerank: query, texts; raw_scores true gives logits.\n{wrapped}").format(wrapped=wrapped),
        "Infinity": f"infinity_emb v2 --model-id {one_label} --engine torch --port {port}\n"
        + _(
            "# POST /rerank: query, documents; raw_scores true gives logits.\n{wrapped}\n"
            "# It strips blanks at a document's end: strip your documents, too, before you compare scores."
        ).format(wrapped=wrapped),
        "llama.cpp": f"python convert_hf_to_gguf.py {causal} --outfile plain.gguf\n"
        f"gguf-new-metadata plain.gguf reranker.gguf --chat-template-config {causal}/{LLAMA_CPP_FILE}\n"
        f"llama-server -m reranker.gguf --rerank --port {port}\n"
        + _(
            "# The converter knows a reranker by the line # Qwen3-Reranker in README.md and writes its own prompt with the\n"
            "# default instruction; the second line, from the package gguf, puts the model's own in its place.\n"
            "# It needs a vocabulary that it knows: Qwen's, not the bundled nano's. Weights in fp32 become fp16 unless it is\n"
            "# given --outtype f32. The server's attention computes in fp16: scores move by some 0.002.\n"
            "# POST /rerank: query, documents; the answers are probabilities."
        ),
        "Ollama": _("# Ollama has no rerank endpoint: it cannot serve a reranker. Use one of the others."),
    }
