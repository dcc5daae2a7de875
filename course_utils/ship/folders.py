"""What every exported folder needs: a new place, a chat template, settings, a README."""

import json
import shutil

from course_utils.errors import InputError
from course_utils.files import write_json
from course_utils.language import _
from course_utils.model import prompt
from course_utils.model.checkpoint import SETTINGS as SETTINGS_FILE


def chat_template(instruction=prompt.DEFAULT_INSTRUCTION, markup=()):
    """Return the official prompt as a Jinja chat template with ``instruction`` as its default.

    Messages carry the roles "query" and "document" (sentence-transformers, vLLM) or are two user messages in that order
    (SGLang). Another instruction comes as a "system" message (sentence-transformers), as ``instruction`` (vLLM) or as
    ``instruct`` (SGLang). The words "yes" and "no" stand in plain quotes: SGLang looks for them to know a reranker.
    Jinja drops one newline at the end of a template, so the last two are written as an expression.

    Args:
        instruction: the task in one English sentence.
        markup: tokens that a query or a document must not bring along (``_markup_of``); each is broken as ``_plain`` does.
    """
    default = json.dumps(instruction, ensure_ascii=False)
    thinking, newlines = prompt.SUFFIX[:-2], json.dumps(prompt.SUFFIX[-2:])
    broken = (
        f"{{%- for token in {json.dumps(list(markup), ensure_ascii=False)} -%}}\n"
        + "".join(
            f"{{%- set ns.{part} = (ns.{part} | default('', true)) | replace(token, token[:2] ~ ' ' ~ token[2:]) -%}}\n"
            for part in ("query", "document")
        )
        + "{%- endfor -%}\n"
    )
    return (
        f"{{%- set ns = namespace(task=instruction | default(instruct | default({default}, true), true), query=none, "
        "document='') -%}\n"
        "{%- for message in messages -%}\n"
        "{%- if message.role in ['system', 'instruction'] -%}{%- set ns.task = message.content -%}\n"
        "{%- elif message.role == 'document' or (message.role == 'user' and ns.query is not none) -%}\n"
        "{%- set ns.document = message.content -%}\n"
        "{%- else -%}{%- set ns.query = message.content -%}{%- endif -%}\n"
        "{%- endfor -%}\n"
        + broken * bool(markup)
        + prompt.PREFIX
        + prompt.content_text("{{ ns.query }}", "{{ ns.document }}", "{{ ns.task }}")
        + f"{thinking}{{{{ {newlines} -}}}}\n"
    )


def _markup_of(tokenizer):
    """Return the added tokens of a tokenizer, such as <|im_end|>: what must stay text inside a query or a document."""
    return sorted(token for token in tokenizer.get_added_vocab() if len(token) > 2 and not token.isspace())


def _plain(text, markup=("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>")):
    """Return ``text`` with a blank inside each token of ``markup``, so that it is read as text; other text is unchanged.

    Scoring here splits such tokens without a blank, which a template cannot; scores move a little (by 0.1 with nano where a document holds five of them).
    """
    for token in markup:
        text = text.replace(token, f"{token[:2]} {token[2:]}")
    return text


def wrap_pair(query, document, instruction=prompt.DEFAULT_INSTRUCTION):
    """Return the two texts to send to a server that joins query and document as they are (TEI, Infinity).

    The first, to be sent as the query, is the system text and the same for every pair; the second is the user's part of
    the prompt and goes where the document goes. The folder's tokenizer puts the end of the prompt behind the second
    text. The cut is where neither side has a blank: Infinity strips both texts, and a prompt that loses the newlines at
    its end gets another score. Chat markup in both texts is broken with ``_plain``.
    """
    system, user = prompt.PREFIX.removesuffix("user\n"), "user\n"
    return system, user + prompt.content_text(_plain(query), _plain(document), instruction)


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
    _finish_files(reranker, temporary)


def _finish_files(reranker, temporary):
    """Write tokenizer, template and settings, and make config and tokenizer readable for older software."""
    from transformers import AutoTokenizer

    reranker.tokenizer.save_pretrained(temporary)
    _forget_lengths(temporary)
    template = chat_template(reranker.instruction, _markup_of(reranker.tokenizer))
    (temporary / "chat_template.jinja").write_text(template, encoding="utf-8", newline="\n")
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
    write_json(temporary / SETTINGS_FILE, reranker.settings())
    _check_template(AutoTokenizer.from_pretrained(temporary, local_files_only=True), reranker.instruction)


def _write_readme(reranker, temporary, library, body):
    """Write README.md. llama.cpp's converter takes a folder for a reranker when it finds ``# Qwen3-Reranker`` in it."""
    title = "Qwen3-Reranker" if reranker.model.config.model_type == "qwen3" else "Reranker"
    head = f"---\nlibrary_name: {library}\npipeline_tag: text-ranking\n---\n# {title}"
    facts = _(
        ", adapted\n\n"
        "Judges whether a document answers a query: score = logit(yes) - logit(no) at the last token of the prompt; "
        "sigmoid(score) is the probability.\n\n"
        "- instruction: {instruction}\n"
        "- longest prompt: {max_length} tokens; only the document is cut\n\n"
    ).format(instruction=reranker.instruction, max_length=reranker.max_length)
    (temporary / "README.md").write_text(head + facts + _(body), encoding="utf-8", newline="\n")


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
    write_json(path, content)


def _check_template(tokenizer, instruction=prompt.DEFAULT_INSTRUCTION):
    """Raise InputError unless the chat template gives the official prompt, as text and as token ids.

    Scoring tokenises prefix, content and suffix one by one, software that renders the template tokenises the whole. They
    agree for Qwen's tokenizer; for another base they need not.
    """
    for query, document in (("alpha?", " \nbravo.\n"), ("糖尿病 症状", "多饮、多尿。")):
        messages = [{"role": "query", "content": query}, {"role": "document", "content": document}]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        if text != prompt.prompt_text(query, document, instruction):
            raise InputError("The chat template does not give the official prompt; export the folder again.")
        parts = prompt._encode_groups(tokenizer, [(query, [document])], instruction).full_ids(0, 0)
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
        single="$A", pair="$A $B [end]", special_tokens=[{"id": "[end]", "ids": end.ids, "tokens": end.tokens}]
    )
    core.save(str(folder / "tokenizer.json"))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    pair = ("dose of iron?", "铁剂剂量")
    whole = prompt._encode_groups(tokenizer, [(pair[0], [pair[1]])], instruction).full_ids(0, 0)
    if tokenizer(*wrap_pair(*pair, instruction))["input_ids"] != whole:
        raise InputError("This tokenizer joins tokens across the parts of the prompt; pairs of texts cannot be served.")


def _pad_token(tokenizer):
    """Return (token, id) to pad with: the tokenizer's own, else its end-of-text token."""
    if tokenizer.pad_token_id is not None:
        return tokenizer.pad_token, tokenizer.pad_token_id
    if tokenizer.eos_token_id is None:
        raise InputError("The tokenizer has neither a pad nor an end token; set tokenizer.pad_token before the export.")
    return tokenizer.eos_token, tokenizer.eos_token_id
