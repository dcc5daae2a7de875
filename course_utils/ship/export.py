"""Hand a reranker to other people's software as a folder that it loads and that gives the same numbers.

Every export is written to a temporary folder and then renamed. The score is always logit(yes) - logit(no).

| function | for |
|---|---|
| ``export_causal_lm`` | transformers, vLLM, SGLang, llama.cpp; ``Reranker.load`` |
| ``export_sentence_transformers`` | ``CrossEncoder`` of sentence-transformers; back with ``Reranker.load`` and the instruction |
| ``export_sequence_classifier`` | servers that want a classifier with one label: vLLM, TEI, Infinity |

ONNX is in ``onnx.py``, the lines that start servers in ``serving.py``.
"""

import copy
from pathlib import Path

import torch

from course_utils.errors import InputError
from course_utils.files import whole_folder, write_json
from course_utils.language import _later
from course_utils.model import prompt
from course_utils.model.forward import _decoder_of
from course_utils.ship.folders import (
    _causal_files,
    _check_merged,
    _end_pairs,
    _finish_files,
    _pad_token,
    _write_readme,
)

LLAMA_CPP_FILE = "llama_cpp_prompt.json"
_MODULES = {"": "base.modules.transformer.Transformer", "1_LogitScore": "cross_encoder.modules.logit_score.LogitScore"}


def export_causal_lm(reranker, folder):
    """Write a plain causal language model folder: weights, tokenizer, chat template, generation config, README.

    One more file, ``LLAMA_CPP_FILE``, holds the prompt in llama.cpp's form.

    Args:
        reranker: a Reranker; its dtype is kept.
        folder: where to write; an earlier model folder there is replaced.

    Returns:
        pathlib.Path of the folder. ``Reranker.load`` reads it too.

    Raises:
        InputError: for an adapter that is not merged, a tokenizer whose tokens cross the parts of the prompt, or a
            place that holds other files.
    """
    with whole_folder(Path(folder).expanduser()) as temporary:
        _causal_files(reranker, temporary)
        # llama.cpp's converter writes the default instruction into its file; gguf-new-metadata puts this in its place.
        rerank = prompt.prompt_text("{query}", "{document}", reranker.instruction)
        write_json(temporary / LLAMA_CPP_FILE, {"chat_template": [{"name": "rerank", "template": rerank}]})
        _write_readme(reranker, temporary, "transformers", _CAUSAL_README)
    return Path(folder)


def export_sentence_transformers(reranker, folder):
    """Write a folder for ``sentence_transformers.CrossEncoder``, version 5.4 or later; ``predict`` gives raw logits.

    The instruction is its default prompt; ``predict(pairs, prompt="...")`` takes another. Arguments, returns and raises:
    see ``export_causal_lm``. Layout: ``BaseModel.save`` and ``CrossEncoder`` of sentence-transformers 6.2.
    """
    # The files are written here and not by ``CrossEncoder(...).save_pretrained``: that loads the weights a second time,
    # needs sentence-transformers where it is only exported, and saves tokenizer and config anew in a form that older
    # software cannot read. A test compares them with what save_pretrained writes, key for key.
    with whole_folder(Path(folder).expanduser()) as temporary:
        _causal_files(reranker, temporary)
        forward = {"method": "forward", "method_output_name": "logits"}
        files = {
            "modules.json": [
                {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
                for i, (path, kind) in enumerate(_MODULES.items())
            ],
            "sentence_bert_config.json": {
                "transformer_task": "text-generation",
                "modality_config": {"text": forward, "message": {**forward, "format": "flat"}},
                "module_output_name": "causal_logits",
            },
            "1_LogitScore/config.json": {
                "true_token_id": reranker.yes_id,
                "false_token_id": reranker.no_id,
                "module_input_name": "causal_logits",
            },
            "config_sentence_transformers.json": {
                "model_type": "CrossEncoder",
                "activation_fn": "torch.nn.modules.linear.Identity",
                "prompts": {"query": reranker.instruction},
                "default_prompt_name": "query",
            },
        }
        (temporary / "1_LogitScore").mkdir()
        for name, content in files.items():
            write_json(temporary / name, content)
        _write_readme(reranker, temporary, "sentence-transformers", _CROSS_ENCODER_README)
    return Path(folder)


def _one_label_model(reranker):
    """Return the model as ``*ForSequenceClassification`` with one label whose row is W[yes] - W[no].

    The difference is computed in fp32 and stored in the model's dtype. Decoder weights are shared, not copied. Source of
    the method: ``convert_model_to_seq_cls.py`` of vLLM, "from_2_way_softmax".

    Raises:
        InputError: when transformers has no such class for this architecture, or the adapter is not merged.
    """
    from transformers import AutoModelForSequenceClassification

    _check_merged(reranker)
    weight = reranker.model.get_output_embeddings().weight
    config = copy.deepcopy(reranker.model.config)
    config.num_labels, config.id2label, config.label2id = 1, {0: "relevance"}, {"relevance": 0}
    # Without it a batch of two fails: the class looks for the last token that is not padding.
    config.pad_token_id = _pad_token(reranker.tokenizer)[1]
    try:
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config, dtype=weight.dtype)
    except ValueError:
        raise InputError(
            "transformers has no sequence classifier for {model_type}.", model_type=config.model_type
        ) from None
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear) or head.bias is not None:
        raise InputError(
            "The classifier of {model_type} has no plain linear head called score.", model_type=config.model_type
        )
    setattr(model, model.base_model_prefix, _decoder_of(reranker.model))
    row = weight[reranker.yes_id].detach().float() - weight[reranker.no_id].detach().float()
    head.weight = torch.nn.Parameter(row[None].to(weight.dtype), requires_grad=False)
    model.config.architectures = [type(model).__name__]
    return model.eval()


def export_sequence_classifier(reranker, folder):
    """Write a folder for ``AutoModelForSequenceClassification`` with one label: its logit is the score.

    The prompt is not part of the model: pairs go through the chat template or ``wrap_pair``, whose end the tokenizer adds
    by itself, after truncation. In bf16 and fp16 the one row is rounded once more than the two rows it is made of.
    Arguments, returns and raises: see ``export_causal_lm``.
    """
    with whole_folder(Path(folder).expanduser()) as temporary:
        _one_label_model(reranker).save_pretrained(temporary)
        _finish_files(reranker, temporary)
        _end_pairs(temporary, reranker.instruction)
        (temporary / "generation_config.json").unlink(missing_ok=True)
        _write_readme(reranker, temporary, "transformers", _ONE_LABEL_README)
    return Path(folder)


_CAUSAL_README = _later("""\
A causal language model. `chat_template.jinja` holds the prompt, with the roles `query` and `document`.

```python
from course_utils.model import Reranker

print(Reranker.load("FOLDER").score([("query", "document")]))
```

A number from another program means nothing unless it used this prompt to the letter. `llama_cpp_prompt.json` is the same
prompt for llama.cpp.

Chat markup in a query or a document, such as `<|im_end|>`, gets a blank inside by the template, so that it stays text.
llama.cpp fills its prompt without a template: take such markup out before you send a text to it.
""")

_CROSS_ENCODER_README = _later("""\
For sentence-transformers 5.4 or later (5.6 or later for documents that are cut). `predict` returns raw logits; for
probabilities pass `activation_fn=torch.nn.Sigmoid()`. The instruction is the default prompt.

```python
from sentence_transformers import CrossEncoder

model = CrossEncoder("FOLDER")
print(model.predict([("query", "document")]))
print(model.predict([("query", "document")], prompt="Another instruction"))
```

Chat markup in a query or a document, such as `<|im_end|>`, gets a blank inside by the template, so that it stays text.
""")

_ONE_LABEL_README = _later("""\
A sequence classifier with one label; its logit is the score. The row of the head is W[yes] - W[no]. The prompt is not
part of the model: render `chat_template.jinja`. A server that joins two texts as they are gets the system text and the
user's part of the prompt; the tokenizer puts the end of the prompt behind every pair, so it survives truncation.

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForSequenceClassification.from_pretrained("FOLDER").eval()
pairs = [[{"role": "query", "content": "query"}, {"role": "document", "content": "document"}]]
end = "<|im_end|>\\n<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n"
texts = [tokenizer.apply_chat_template(pair, tokenize=False).removesuffix(end) for pair in pairs]
at = texts[0].index("user\\n")
parts = [text[:at] for text in texts], [text[at:] for text in texts]
batch = tokenizer(*parts, truncation="only_second", padding=True, return_tensors="pt")
print(model(**batch).logits[:, 0])
```

Chat markup in a query or a document, such as `<|im_end|>`, gets a blank inside by the template, so that it stays text.
A server that joins two texts as they are does not do so: `wrap_pair` of the course breaks the markup of the prompt,
every other added token of the vocabulary is live there.
""")
