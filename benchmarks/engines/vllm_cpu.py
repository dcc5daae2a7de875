"""vLLM on the CPU with prefix caching, used as the model card does: one token, yes or no, from its log probabilities."""

import os

from transformers import AutoTokenizer

from benchmarks.gpu import prompts_of
from course_utils.model import prompt


def start(folder, kind, work):
    """Return (score, version); see ``here.start``. ``kind``: "fp32" or "bf16"."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GB
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # in this process, whose processor time is counted
    # As many threads as OMP_NUM_THREADS says, where the system puts them: nothing else here is bound to a core.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    import vllm

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    yes, no = prompt.yes_no_ids(tokenizer)
    # Only whole blocks are shared between prompts; the default of 128 tokens is longer than what they share.
    engine = vllm.LLM(
        str(folder), dtype="bfloat16" if kind == "bf16" else "float32", max_model_len=2048, enable_prefix_caching=True, block_size=32,
        logprobs_mode="processed_logprobs", disable_log_stats=True, enforce_eager=True,
    )  # fmt: skip
    sampling = vllm.SamplingParams(temperature=0, max_tokens=1, logprobs=2, allowed_token_ids=[yes, no])

    def score(query, documents):
        engine.reset_prefix_cache()  # a list is new; what its documents share is still computed once
        prompts = [{"prompt_token_ids": ids} for ids in prompts_of(tokenizer, query, documents)]
        said = [out.outputs[0].logprobs[0] for out in engine.generate(prompts, sampling, use_tqdm=False)]
        return [p[yes].logprob - p[no].logprob for p in said]

    return score, f"vllm {vllm.__version__}"
