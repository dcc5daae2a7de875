"""llama.cpp through llama-cpp-python: the shared prefix decoded once, documents as sequences that continue it.

That is more than its server does for a list, which decodes each prompt from its beginning.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer

from benchmarks.common import in_own_process
from course_utils.model import prompt

TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
TOKENS = 512  # computed at once, as this package's buckets


def gguf_name(name):
    """Return the GGUF name of a weight of Qwen3."""
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in whole:
        return whole[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.weight"


def write_gguf(folder, path, kind):
    """Write the Qwen3 model of ``folder`` as GGUF without a vocabulary: token ids go in as they are."""
    import gguf

    config = AutoConfig.from_pretrained(folder)
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    wanted = gguf.GGMLQuantizationType[TYPES[kind]]
    for part in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(part, "pt") as file:
            for name in file.keys():  # noqa: SIM118, no mapping
                if name != "lm_head.weight":
                    values = file.get_tensor(name).float().numpy()
                    own = wanted if values.ndim == 2 else gguf.GGMLQuantizationType.F32
                    writer.add_tensor(gguf_name(name), gguf.quantize(values, own), raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Llama:
    """A context of llama.cpp that scores lists of one query."""

    def __init__(self, path, threads, exact=False):
        """Load ``path``. ``exact``: keys and values of the cache in fp32; its default is fp16."""
        import llama_cpp

        self.c = c = llama_cpp
        self.silent = c.llama_log_callback(lambda *_: None)
        c.llama_log_set(self.silent, None)
        c.llama_backend_init()
        self.model = c.llama_model_load_from_file(str(path).encode(), c.llama_model_default_params())
        options = c.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch, options.n_seq_max = 4096, 2048, 2 * TOKENS, 64
        if exact:
            options.type_k = options.type_v = c.GGML_TYPE_F32
        options.kv_unified, options.n_threads, options.n_threads_batch = True, threads, threads
        self.context = c.llama_init_from_model(self.model, options)
        if not self.context:
            raise RuntimeError("llama.cpp could not make a context")
        self.memory, self.batch = c.llama_get_memory(self.context), c.llama_batch_init(2048, 0, 1)

    def decode(self, rows, begin, wanted):
        """Decode rows {sequence: ids} from position ``begin``; return {sequence: where its last token stands}."""
        n, ends, batch = 0, {}, self.batch
        for sequence, ids in rows.items():
            for i, token in enumerate(ids):
                batch.token[n], batch.pos[n], batch.n_seq_id[n], batch.seq_id[n][0] = int(token), begin + i, 1, sequence
                batch.logits[n] = wanted and i == len(ids) - 1
                n += 1
            ends[sequence] = n - 1
        batch.n_tokens = n
        if self.c.llama_decode(self.context, batch):
            raise RuntimeError("llama.cpp could not decode a batch")
        return ends

    def score(self, prefix, rows, yes, no):
        """Return logit(yes) - logit(no) of each of ``rows``, which continue ``prefix``."""
        scores, order, c = np.empty(len(rows)), sorted(range(len(rows)), key=lambda i: len(rows[i])), self.c
        c.llama_memory_clear(self.memory, False)
        self.decode({0: prefix}, 0, False)
        while order:
            chosen, tokens = {}, 0
            while order and len(chosen) < 63 and tokens < TOKENS:
                tokens += len(rows[order[0]])
                chosen[len(chosen) + 1] = order.pop(0)
            for sequence in chosen:
                c.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)
            ends = self.decode({s: rows[i] for s, i in chosen.items()}, len(prefix), True)
            for sequence, i in chosen.items():
                logits = c.llama_get_logits_ith(self.context, ends[sequence])
                scores[i] = logits[yes] - logits[no]
                c.llama_memory_seq_rm(self.memory, sequence, -1, -1)
        return scores


def start(folder, kind, work):
    """Return (score, version); see ``here.start``. ``kind``: a key of TYPES."""
    import llama_cpp

    path = Path(work) / f"llama-{kind}.gguf"
    if not path.is_file():
        in_own_process(write_gguf, torch.get_num_threads(), folder, path, kind)  # its memory is not that of scoring
    engine = Llama(path, torch.get_num_threads(), kind == "f32")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    yes, no = prompt.yes_no_ids(tokenizer)

    def score(query, documents):
        encoded = prompt._encode_groups(tokenizer, [(query, documents)], max_length=2048)
        return engine.score([*encoded.constant, *encoded.prefixes[0]], encoded.candidates[0], yes, no)

    return score, f"llama-cpp-python {llama_cpp.__version__}"
