"""Many specialists on one base (lesson 06): deltas, LoRA adapters, switching, merging, routing.

Begin with ``adapt_layers(reranker, train)``.
"""

from course_utils.domains.delta import Delta, attach, detach, load_delta, save_delta, swapped
from course_utils.domains.merging import Matrix, combine
from course_utils.domains.routing import train_router
from course_utils.domains.serve import Domains, storage_bytes
from course_utils.domains.train import adapt_layers, adapt_lora

__all__ = [
    "Delta",
    "Domains",
    "Matrix",
    "adapt_layers",
    "adapt_lora",
    "attach",
    "combine",
    "detach",
    "load_delta",
    "save_delta",
    "storage_bytes",
    "swapped",
    "train_router",
]
