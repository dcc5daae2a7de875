"""Hand a reranker to other people's software as a folder that it loads and that gives the same numbers.

Every export is written to a temporary folder and then renamed. The score is always logit(yes) - logit(no).

| function | for |
|---|---|
| ``export_causal_lm`` | transformers, vLLM, SGLang, llama.cpp; ``Reranker.load`` |
| ``export_sentence_transformers`` | ``CrossEncoder`` of sentence-transformers, and ``from_sentence_transformers`` back |
| ``export_sequence_classifier`` | servers that want a classifier with one label: vLLM, TEI, Infinity |

ONNX is in ``export_onnx.py``, the lines that start servers in ``serving.py``.
"""

import copy
import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch

from course_utils import prompt
from course_utils.errors import InputError
from course_utils.forward import decoder_of
from course_utils.reranker import SETTINGS_FILE, Reranker, replace_folder

LLAMA_CPP_FILE = "llama_cpp_prompt.json"


def chat_template(instruction=prompt.DEFAULT_INSTRUCTION):
    """Return the official prompt as a Jinja chat template with ``instruction`` as its default.

    Messages carry the roles "query" and "document" (sentence-transformers, vLLM) or are two user messages in that order
    (SGLang). Another instruction comes as a "system" message (sentence-transformers), as ``instruction`` (vLLM) or as
    ``instruct`` (SGLang). The words "yes" and "no" stand in plain quotes: SGLang looks for them to know a reranker.
    Jinja drops one newline at the end of a template, so the last two are written as an expression.
    """
    default = json.dumps(instruction, ensure_ascii=False)
    thinking, newlines = prompt.SUFFIX[:-2], json.dumps(prompt.SUFFIX[-2:])
    return (
        f"{{%- set ns = namespace(task=instruction | default(instruct | default({default}, true), true), query=none, "
        "document='') -%}\n"
        "{%- for message in messages -%}\n"
        "{%- if message.role in ['system', 'instruction'] -%}{%- set ns.task = message.content -%}\n"
        "{%- elif message.role == 'document' or (message.role == 'user' and ns.query is not none) -%}\n"
        "{%- set ns.document = message.content -%}\n"
        "{%- else -%}{%- set ns.query = message.content -%}{%- endif -%}\n"
        "{%- endfor -%}\n"
        + prompt.PREFIX
        + prompt.content_text("{{ ns.query }}", "{{ ns.document }}", "{{ ns.task }}")
        + f"{thinking}{{{{ {newlines} -}}}}\n"
    )


def wrap_pair(query, document, instruction=prompt.DEFAULT_INSTRUCTION):
    """Return the two texts to send to a server that joins query and document as they are (TEI, Infinity).

    The first, to be sent as the query, is the system text and the same for every pair; the second is the user's part of
    the prompt and goes where the document goes. The folder's tokenizer puts the end of the prompt behind the second
    text. The cut is where neither side has a blank: Infinity strips both texts, and a prompt that loses the newlines at
    its end gets another score.
    """
    system, user = prompt.PREFIX.removesuffix("user\n"), "user\n"
    return system, user + prompt.content_text(query, document, instruction)


@contextmanager
def new_folder(folder):
    """Yield a temporary folder that becomes ``folder`` when the block ends well and vanishes when it does not.

    An earlier model folder at that place is replaced.

    Raises:
        InputError: when ``folder`` is a file, or holds files that are not a model.
    """
    folder = Path(folder).expanduser()
    if folder.is_file():
        raise InputError(f"{folder} is a file; give the name of a new folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds files that are not a model; they would be lost: choose a new folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        for path in temporary.rglob("*.safetensors"):  # written for the owner alone; a server may be another user
            path.chmod((temporary / "config.json").stat().st_mode)
        replace_folder(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


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
    with new_folder(folder) as temporary:
        _causal_files(reranker, temporary)
        # llama.cpp's converter writes the default instruction into its file; gguf-new-metadata puts this in its place.
        rerank = prompt.prompt_text("{query}", "{document}", reranker.instruction)
        _write_json(temporary / LLAMA_CPP_FILE, {"chat_template": [{"name": "rerank", "template": rerank}]})
        write_readme(reranker, temporary, "transformers", CAUSAL_README)
    return Path(folder)


def export_sentence_transformers(reranker, folder):
    """Write a folder for ``sentence_transformers.CrossEncoder``, version 5.4 or later; ``predict`` gives raw logits.

    The instruction is its default prompt; ``predict(pairs, prompt="...")`` takes another. Arguments, returns and raises:
    see ``export_causal_lm``. Layout: ``BaseModel.save`` and ``CrossEncoder`` of sentence-transformers 6.2.
    """
    with new_folder(folder) as temporary:
        _causal_files(reranker, temporary)
        forward = {"method": "forward", "method_output_name": "logits"}
        files = {
            "modules.json": [
                {
                    "idx": 0,
                    "name": "0",
                    "path": "",
                    "type": "sentence_transformers.base.modules.transformer.Transformer",
                },
                {
                    "idx": 1,
                    "name": "1",
                    "path": "1_LogitScore",
                    "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
                },
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
            _write_json(temporary / name, content)
        write_readme(reranker, temporary, "sentence-transformers", CROSS_ENCODER_README)
    return Path(folder)


def from_sentence_transformers(folder, **options):
    """Return a Reranker from a folder that ``CrossEncoder.save_pretrained`` wrote.

    Instruction and length are taken from where sentence-transformers keeps them.

    Args:
        folder: a folder with ``config_sentence_transformers.json``.
        options: for ``Reranker.load``.

    Raises:
        InputError: when the folder is not such a folder.
    """
    folder = Path(folder).expanduser()
    try:
        saved = json.loads((folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
        tokenizer = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        instruction = (saved.get("prompts") or {}).get(saved.get("default_prompt_name"))
    except (OSError, ValueError, AttributeError):
        raise InputError(f"{folder} is not a folder that sentence-transformers saved a CrossEncoder to.") from None
    options.setdefault("instruction", instruction or None)
    reranker = Reranker.load(folder, **options)
    if not options.get("max_length"):
        limit = getattr(reranker.model.config, "max_position_embeddings", 8192)
        reranker.max_length = int(min(tokenizer.get("model_max_length") or limit, limit))
    return reranker


def one_label_model(reranker):
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
        raise InputError(f"transformers has no sequence classifier for {config.model_type}.") from None
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear) or head.bias is not None:
        raise InputError(f"The classifier of {config.model_type} has no plain linear head called score.")
    setattr(model, model.base_model_prefix, decoder_of(reranker.model))
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
    with new_folder(folder) as temporary:
        one_label_model(reranker).save_pretrained(temporary)
        finish_files(reranker, temporary)
        _end_pairs(temporary, reranker.instruction)
        (temporary / "generation_config.json").unlink(missing_ok=True)
        write_readme(reranker, temporary, "transformers", ONE_LABEL_README)
    return Path(folder)


def check_template(tokenizer, instruction=prompt.DEFAULT_INSTRUCTION):
    """Raise InputError unless the chat template gives the official prompt, as text and as token ids.

    Scoring tokenises prefix, content and suffix one by one, software that renders the template tokenises the whole. They
    agree for Qwen's tokenizer; for another base they need not.
    """
    for query, document in (("alpha?", " \nbravo.\n"), ("糖尿病 症状", "多饮、多尿。")):
        messages = [{"role": "query", "content": query}, {"role": "document", "content": document}]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        if text != prompt.prompt_text(query, document, instruction):
            raise InputError("The chat template does not give the official prompt; export the folder again.")
        parts = prompt.encode_groups(tokenizer, [(query, [document])], instruction).full_ids(0, 0)
        if parts != tokenizer.encode(text, add_special_tokens=False):
            raise InputError(
                "This tokenizer joins tokens across the parts of the prompt, so other software would score other tokens."
            )


def _end_pairs(folder, instruction):
    """Make the tokenizer in ``folder`` put the end of the prompt behind a pair of texts; single texts stay as they are."""
    from tokenizers import Tokenizer, processors
    from transformers import AutoTokenizer

    core = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = core.encode(prompt.SUFFIX, add_special_tokens=False)
    core.post_processor = processors.TemplateProcessing(
        single="$A",
        pair="$A $B [end]",
        special_tokens=[{"id": "[end]", "ids": end.ids, "tokens": end.tokens}],
    )
    core.save(str(folder / "tokenizer.json"))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    pair = ("dose of iron?", "铁剂剂量")
    whole = prompt.encode_groups(tokenizer, [(pair[0], [pair[1]])], instruction).full_ids(0, 0)
    if tokenizer(*wrap_pair(*pair, instruction))["input_ids"] != whole:
        raise InputError("This tokenizer joins tokens across the parts of the prompt; pairs of texts cannot be served.")


def _pad_token(tokenizer):
    """Return (token, id) to pad with: the tokenizer's own, else its end-of-text token."""
    if tokenizer.pad_token_id is not None:
        return tokenizer.pad_token, tokenizer.pad_token_id
    if tokenizer.eos_token_id is None:
        raise InputError("The tokenizer has neither a pad nor an end token; set tokenizer.pad_token before the export.")
    return tokenizer.eos_token, tokenizer.eos_token_id


def _check_merged(reranker):
    if hasattr(reranker.model, "peft_config"):
        raise InputError("The model carries an adapter: set reranker.model = reranker.model.merge_and_unload() first.")


def _causal_files(reranker, temporary):
    """Write weights, tokenizer, template and settings of the causal language model."""
    from transformers import GenerationConfig

    _check_merged(reranker)
    reranker.model.save_pretrained(temporary)
    ends = {"eos_token_id": reranker.tokenizer.eos_token_id, "pad_token_id": _pad_token(reranker.tokenizer)[1]}
    GenerationConfig(do_sample=False, max_new_tokens=1, **ends).save_pretrained(temporary)
    finish_files(reranker, temporary)


def finish_files(reranker, temporary):
    """Write tokenizer, template and settings, and make config and tokenizer readable for older software."""
    from transformers import AutoTokenizer

    reranker.tokenizer.save_pretrained(temporary)
    _forget_lengths(temporary)
    (temporary / "chat_template.jinja").write_text(chat_template(reranker.instruction), encoding="utf-8", newline="\n")
    # A second, named template would be taken for the rerank prompt by llama.cpp's converter.
    shutil.rmtree(temporary / "additional_chat_templates", ignore_errors=True)

    def tokenizer_for_all(config):
        for key in ("is_local", "local_files_only", "backend", "chat_template"):
            config.pop(key, None)
        # transformers 4 knows neither the class nor the list of special tokens that transformers 5 writes.
        if config.get("tokenizer_class") == "TokenizersBackend":
            config["tokenizer_class"] = "PreTrainedTokenizerFast"
        if isinstance(config.get("extra_special_tokens"), list):
            config["additional_special_tokens"] = config.pop("extra_special_tokens")
        config["pad_token"] = _pad_token(reranker.tokenizer)[0]
        config["padding_side"], config["model_max_length"] = "left", reranker.max_length
        config["model_input_names"] = ["input_ids", "attention_mask"]

    def model_for_all(config):
        # transformers 4 and TEI read rope_theta here and fall back to 10000 without a word, which ruins the scores.
        rope = config.get("rope_parameters") or {}
        if rope.get("rope_type", "default") == "default" and "rope_theta" in rope:
            config["rope_theta"] = rope["rope_theta"]
        config["pad_token_id"] = _pad_token(reranker.tokenizer)[1]

    _edit_json(temporary / "tokenizer_config.json", tokenizer_for_all)
    _edit_json(temporary / "config.json", model_for_all)
    _write_json(temporary / SETTINGS_FILE, {"instruction": reranker.instruction, "max_length": reranker.max_length})
    check_template(AutoTokenizer.from_pretrained(temporary, local_files_only=True), reranker.instruction)


def write_readme(reranker, temporary, library, body):
    """Write README.md. llama.cpp's converter takes a folder for a reranker when it finds ``# Qwen3-Reranker`` in it."""
    title = "Qwen3-Reranker" if reranker.model.config.model_type == "qwen3" else "Reranker"
    head = f"---\nlibrary_name: {library}\npipeline_tag: text-ranking\n---\n# {title}, adapted\n\n"
    facts = (
        "Judges whether a document answers a query: score = logit(yes) - logit(no) at the last token of the prompt; "
        "sigmoid(score) is the probability.\n\n"
        f"- instruction: {reranker.instruction}\n"
        f"- longest prompt: {reranker.max_length} tokens; only the document is cut\n\n"
    )
    (temporary / "README.md").write_text(head + facts + body, encoding="utf-8", newline="\n")


CAUSAL_README = """\
A causal language model. `chat_template.jinja` holds the prompt, with the roles `query` and `document`.

```python
from course_utils.reranker import Reranker

print(Reranker.load("FOLDER").score([("query", "document")]))
```

A number from another program means nothing unless it used this prompt to the letter. `llama_cpp_prompt.json` is the same
prompt for llama.cpp.
"""

CROSS_ENCODER_README = """\
For sentence-transformers 5.4 or later (5.6 or later for documents that are cut). `predict` returns raw logits; for
probabilities pass `activation_fn=torch.nn.Sigmoid()`. The instruction is the default prompt.

```python
from sentence_transformers import CrossEncoder

model = CrossEncoder("FOLDER")
print(model.predict([("query", "document")]))
print(model.predict([("query", "document")], prompt="Another instruction"))
```
"""

ONE_LABEL_README = """\
A sequence classifier with one label; its logit is the score. The row of the head is W[yes] - W[no]. The prompt is not
part of the model: render `chat_template.jinja`. A server that joins two texts as they are gets the system text and the
user's part of the prompt; the tokenizer puts the end of the prompt behind every pair, so it survives truncation.

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForSequenceClassification.from_pretrained("FOLDER").eval()
pairs = [[{"role": "query", "content": "query"}, {"role": "document", "content": "document"}]]
batch = tokenizer.apply_chat_template(pairs, padding=True, return_tensors="pt", return_dict=True)
print(model(**batch).logits[:, 0])
```
"""


def _forget_lengths(folder):
    """Drop padding and truncation that a tokenizer keeps from its last call: servers would obey them."""
    from tokenizers import Tokenizer

    core = Tokenizer.from_file(str(folder / "tokenizer.json"))
    core.no_padding()
    core.no_truncation()
    core.save(str(folder / "tokenizer.json"))


def _edit_json(path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    _write_json(path, content)


def _write_json(path, content):
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
