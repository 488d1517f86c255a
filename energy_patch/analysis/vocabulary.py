"""What names say that a call does, where its definition is out of sight."""

from __future__ import annotations

import re

from energy_patch.locate.near_misses import SIBLING
from energy_patch.strategies.registry import strategies

WRAPS = frozenset({"DDP", "DistributedDataParallel", "FSDP", "FullyShardedDataParallel", "fully_shard"})
# Names of whatever makes ranks agree. `torch.cuda.synchronize` and `broadcast_to` do not.
EXCHANGES = re.compile(
    r"all_?reduce|reduce_scatter|reduce_(grad|param)|all_?gather|all_to_all|broadcast(?!_to$|_tensors$|_shapes$)"
    r"|(^|_)sync(_|$)|(?<!torch_)synchroni[sz]e_|average_(grad|param|weight|model)|Distributed(?!Sampler)|ZeroRedundancy"
    r"|^replicate$|^hvd$|horovod|deepspeed|^prepare(_model)?$"
)
AGREES = frozenset({"replicate", "broadcast_parameters", "average_gradients"})  # energy-patch's own
HOOKS = re.compile(r"register_\w*hook|^no_sync$|^join$")
LOADS = re.compile(r"load|restore|resume|pretrained")
SAVES = frozenset({"save", "save_file", "save_model", "save_pretrained"})
STAYS = frozenset(  # methods that give the module back
    {"to", "cuda", "cpu", "float", "half", "bfloat16", "double", "type", "apply", "requires_grad_", "train", "eval"}
)
ACCESS = frozenset({"parameters", "named_parameters", "buffers", "named_buffers", "state_dict"})
NUMBERS = frozenset({"numel", "item", "shape", "dtype", "device", "size", "dim", "ndim", "is_leaf", "requires_grad"})
HARMLESS = frozenset(
    {"print", "len", "isinstance", "hasattr", "id", "type", "repr", "str", "sum", "any", "all", "min", "max", "bool"}
    | {"count_parameters", "summary", "watch", "log", "info", "debug", "append_metrics", "unscale_", "step", "update"}
    | {"clip_grad_norm_", "clip_grad_value_", "clip_grad_norm", "clip_grad_value", "get_total_norm", "deepcopy"}
    | {"copy_", "lerp_", "zero_grad", "issubclass", "super", "unwrap_model"}
)
PASSES_ON = frozenset(
    {"list", "tuple", "filter", "chain", "set", "sorted", "dict", "zip", "enumerate", "reversed", "iter", "next"}
    | {
        "from_iterable",
        "parameters_to_vector",
        "_flatten_dense_tensors",
        "map",
        "items",
        "values",
        "compile",
        "getattr",
    }
)
GROWS = frozenset({"append", "extend", "update", "add", "insert", "setdefault", "add_param_group"})
SCHEDULER = re.compile(r"LR$|[Ss]chedule|[Ww]armup|GradScaler")
OPTIMIZER = re.compile(r"adam|sgd|rmsprop|lion|adagrad|adadelta|lamb|muon|optim", re.IGNORECASE)
PLAIN_BASES = frozenset({"object", "Module", "ABC", "Generic", "Protocol", "NamedTuple"})


def is_loss(name: str) -> bool:
    """Whether a name is that of a loss: one that comes with the public energy model, or one of energy-patch's."""
    return bool(SIBLING.fullmatch(name)) or name in {item.function for item in strategies().values() if item.function}
