"""What travels between the ranks: every collective of this package is in this file.

A rank trains alone, and issues no collective, without a process group or with gradients disabled: validation may
run a different number of batches on each rank.
"""

import math
import threading
import weakref
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class Ranks(NamedTuple):
    """The ranks whose batches count as one in this call, and this rank's place among them."""

    rank: int
    size: int
    group: dist.ProcessGroup | None
    connected: bool  # False without a process group or with gradients disabled

    def problem(self, tau: float, min_distance: float, world_size: int | None) -> str:
        """What is wrong with a loss's settings, or nothing."""
        if not (tau > 0 and math.isfinite(tau)):
            return "tau must be a positive finite number"
        if not (min_distance >= 0 and math.isfinite(min_distance)):
            return "min_distance must be a finite number, zero or above"
        if self.connected and world_size not in (None, self.size):
            return "world_size contradicts the process group"
        return ""


ALONE = Ranks(0, 1, None, False)


def training_ranks(group: dist.ProcessGroup | None = None) -> Ranks:
    """The ranks of ``group`` (default: all) if gradients are enabled and there is a group, else this rank alone."""
    return _members(group) if torch.is_grad_enabled() else ALONE


def _members(group: dist.ProcessGroup | None) -> Ranks:
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    rank = dist.get_rank(group)
    if rank < 0:
        raise ValueError("this process is not a member of the process group that it was given")
    return Ranks(rank, dist.get_world_size(group), group, True)


def unwrapped(energy_model: nn.Module) -> nn.Module:
    """The user's own module inside ``torch.compile`` and ``DistributedDataParallel``."""
    while isinstance(energy_model, DistributedDataParallel) or hasattr(energy_model, "_orig_mod"):
        inner = "module" if isinstance(energy_model, DistributedDataParallel) else "_orig_mod"
        energy_model = getattr(energy_model, inner)
    return energy_model


def gather_integers(ranks: Ranks, values: list[int], device: torch.device) -> list[list[int]]:
    """Every rank's ``values``, a list of the same length on each, in rank order."""
    if ranks.size == 1:
        return [values]
    return gather(ranks, uploaded(values, transport(ranks, device))).tolist()


def uploaded(values: list[int], device: torch.device) -> Tensor:
    """The values on the device, without a wait for it, as ``torch.tensor(values, device=device)`` would take."""
    return torch.tensor(values).to(device, non_blocking=True)


def gather(ranks: Ranks, mine: Tensor) -> Tensor:
    """[W, n], a row of each rank's numbers [n], which must lie where ``transport`` says."""
    parts = mine.new_empty(ranks.size, len(mine))
    dist.all_gather(list(parts), mine, group=ranks.group)
    return parts


def weights_checksum(energy_model: nn.Module) -> Tensor | None:
    """A number, on the device, that will differ where parameters do; None for a model in shards, which differ."""
    if is_sharded(energy_model):
        return None
    sums = [_bytes(parameter).sum(dtype=torch.int64) for parameter in energy_model.parameters()]
    if not sums:
        return None
    places = torch.arange(1, len(sums) + 1, device=sums[0].device)
    return (torch.stack([each.to(places.device) for each in sums]) * places).sum()


def replicate(energy_model: nn.Module, *, group: dist.ProcessGroup | None = None) -> nn.Module:
    """Keep the ranks one model, as ``DistributedDataParallel`` does, but without a wrapper; returns the model.

    Call it before each training forward, on every rank. The first call gives every rank rank 0's parameters and
    buffers. From then on the mean of the ranks' gradients stands in ``grad`` when a backward pass ends that reached the
    model, so clipping, unscaling and the step decide the same on every rank. What earlier micro-batches left is equal
    on all ranks, and stays so when it is averaged again. ``torch.autograd.grad`` averages nothing.

    Every rank must run the same backward passes through the model: one that skips a pass keeps the others waiting. A
    rank without rows takes part through the losses of this package. A step inside the backward pass, from a hook of
    the user's, would come before the mean.

    Does nothing, and remembers nothing, on one rank, without a process group, with gradients disabled, or for a model
    in ``DistributedDataParallel``. Parameters that are added later are broadcast at the next call. The model is
    remembered weakly; copies of it (``deepcopy``, ``torch.save``) are models of their own.

    Raises:
        ValueError: on every rank, if a model has sharded parameters or the ranks' models differ in size.
    """
    ranks = training_ranks(group)
    if ranks.size == 1 or _has_ddp(energy_model):
        return energy_model
    model = unwrapped(energy_model)
    replica = _replicas.get(model)
    seen = replica.seen if replica else {}
    new = [p for p in model.parameters() if id(p) not in seen or seen[id(p)]() is not p]
    if new or replica is None:
        broadcast_parameters(model, group=group)
        _replicas[model] = replica or _Replica(group, seen)
        reach = partial(_reach, weakref.ref(model))  # a hook must not keep the model alive
        for parameter in new:
            seen[id(parameter)] = weakref.ref(parameter)
            _hook(parameter, reach)
    return energy_model


def _hook(parameter: nn.Parameter, hook: Callable[[Tensor], None]) -> None:
    """Set a hook that stays when the parameter is frozen or thawed; none can be set while it is frozen."""
    if parameter.is_floating_point() or parameter.is_complex():
        trained = parameter.requires_grad
        parameter.requires_grad_().register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
        parameter.requires_grad_(trained)


class _Replica(NamedTuple):
    group: dist.ProcessGroup | None
    seen: dict[int, "weakref.ref[nn.Parameter]"]


class _BackwardPass:
    """Averages the gradients of the models that a backward pass reaches, when it ends.

    The engine alone keeps it, for as long as the pass lasts, so one that fails leaves nothing behind.
    """

    def __init__(self) -> None:
        self.reached: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.is_last = False

    def __call__(self) -> None:
        global _under_way
        if not self.is_last:  # behind the callbacks that others have queued: DDP, around a larger module, ends its own
            self.is_last = True
            _queue_callback(self)
            return
        _under_way = _no_pass
        for model, replica in list(_replicas.items()):  # in the order of their first calls, which all ranks share
            if model in self.reached:
                average_gradients(model, group=replica.group)


def _no_pass() -> _BackwardPass | None:
    return None


_replicas: "weakref.WeakKeyDictionary[nn.Module, _Replica]" = weakref.WeakKeyDictionary()
_under_way: Callable[[], _BackwardPass | None] = _no_pass
_lock = threading.Lock()  # gradients on several devices arrive in several threads
_queue_callback = torch.autograd.Variable._execution_engine.queue_callback


def average_when_done(energies: Tensor) -> Tensor:
    """Let gradients that arrive in passes nested in the one through ``energies`` be averaged when that one ends.

    Reentrant checkpoints nest a pass each, and how many there are depends on a rank's rows. Returns ``energies``.
    """
    if energies.requires_grad:
        energies.register_hook(_begin_pass)  # type: ignore[no-untyped-call]
    return energies


def _begin_pass(_: Tensor) -> None:
    _current_pass()


def _reach(reference: "weakref.ref[nn.Module]", _: Tensor) -> None:
    model = reference()
    if model is not None:
        _current_pass().reached.add(model)


def _current_pass() -> _BackwardPass:
    global _under_way
    with _lock:
        current = _under_way()
        if current is None:
            current = _BackwardPass()
            _queue_callback(current)
            _under_way = weakref.ref(current)
        return current


def broadcast_parameters(energy_model: nn.Module, *, group: dist.ProcessGroup | None = None) -> None:
    """Give every rank rank 0's parameters and buffers, bit for bit.

    ``replicate`` does it; call it yourself in a loop that calls ``average_gradients`` itself. Does nothing on one rank
    or for a ``DistributedDataParallel`` model. Raises ``ValueError`` on every rank if a model has sharded parameters or
    the models differ in size.
    """
    ranks = _members(group)
    if ranks.size == 1 or _has_ddp(energy_model):
        return
    sharded = is_sharded(energy_model)
    tensors = [] if sharded else list(chain(energy_model.parameters(), energy_model.buffers()))
    device = tensors[0].device if tensors else torch.device("cpu")
    wire = [_bytes(tensor).to(transport(ranks, tensor.device)) for tensor in tensors]  # all dtypes, in one message
    sizes = [size for (size,) in gather_integers(ranks, [-1 if sharded else sum(map(len, wire))], device)]
    if -1 in sizes:
        raise ValueError(_SHARDED.format(sizes.index(-1)))
    if len(set(sizes)) > 1:
        raise ValueError(f"the ranks' energy models differ in size: {sizes} bytes")
    if not tensors:
        return
    flat = torch.cat(wire)
    dist.broadcast(flat, src=0 if group is None else dist.get_global_rank(group, 0), group=group)
    with torch.no_grad():
        for tensor, part in zip(tensors, torch.split(flat, [len(part) for part in wire]), strict=True):
            # A clone starts at an aligned address, which a view in a wider dtype needs. Through `data`, a forward pass
            # that came before the first call keeps a backward pass: of other weights once, where it would be an error.
            tensor.data.copy_(part.clone().view(tensor.dtype).view(tensor.shape))


_SHARDED = (
    "energy_losses: the energy model of rank {} has sharded parameters (FSDP, DTensor, ZeRO). What shards them also "
    "averages their gradients: take out the line with replicate (energy-patch apply --no-sync leaves it out)"
)


def is_sharded(energy_model: nn.Module) -> bool:
    """Whether this rank holds parts of parameters: FSDP of either kind, DTensor, or DeepSpeed's ZeRO-3."""
    marks = "_fsdp_flattened", "device_mesh", "ds_shape"
    return any(hasattr(parameter, mark) for parameter in energy_model.parameters() for mark in marks)


@torch.no_grad()
def average_gradients(energy_model: nn.Module, *, group: dist.ProcessGroup | None = None) -> None:
    """Replace each gradient by its mean over the ranks.

    ``replicate`` does it at the end of every backward pass; in a loop without it, call this once per optimizer step,
    before the clip. A gradient that is missing on some ranks counts as zero there; one that is missing on all stays
    ``None``, since an optimizer with weight decay would move its parameter otherwise. Does nothing on one rank or for a
    ``DistributedDataParallel`` model. Waits for the device only where a gradient is missing on this rank, and where
    checksums of the weights travel. Raises ``ValueError`` if the model has sharded parameters.
    """
    ranks = _members(group)
    if ranks.size == 1 or _has_ddp(energy_model):
        return
    if is_sharded(energy_model):
        raise ValueError(_SHARDED.format(ranks.rank))
    by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in energy_model.parameters():
        if parameter.requires_grad:
            # 16-bit gradients are summed in float32: precise, and every backend can do it.
            by_dtype.setdefault(torch.promote_types(parameter.dtype, torch.float32), []).append(parameter)
    check = _checks.pop(unwrapped(energy_model), None)
    for dtype, parameters in by_dtype.items():
        _average(ranks, dtype, parameters, check)
        check = None


def _average(ranks: Ranks, dtype: torch.dtype, parameters: list[nn.Parameter], check: "_Check | None") -> None:
    """One flat all-reduce: all gradients, a 1 for each that this rank has, and digits of a checksum."""
    device = transport(ranks, parameters[0].device)
    missing = [place for place, parameter in enumerate(parameters) if parameter.grad is None]
    present = torch.ones(len(parameters), dtype=dtype, device=device)
    for place in missing:
        present[place] = 0
    digits = _digits(check, device).to(dtype)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([*[grad.to(device, dtype).flatten() for grad in grads], present, digits])
    dist.all_reduce(flat, group=ranks.group)
    sizes = [*[grad.numel() for grad in grads], len(present), len(digits)]
    *means, share, mean_digits = torch.split(flat.div_(ranks.size), sizes)
    if missing:
        shares = share.tolist()
        missing = [place for place in missing if shares[place] == 0]
    for place, (parameter, grad, mean) in enumerate(zip(parameters, grads, means, strict=True)):
        if place not in missing:
            parameter.grad = grad.copy_(mean.view_as(grad))
    if check is not None:
        all_sent, *same = (mean_digits == digits).tolist()
        check.then(all(same) if all_sent else None)


class _Check(NamedTuple):
    checksum: Tensor
    then: Callable[[bool | None], None]


_checks: "weakref.WeakKeyDictionary[nn.Module, _Check]" = weakref.WeakKeyDictionary()
_DIGIT_BITS = 12  # sums of so small numbers are exact in float32


def _digits(check: _Check | None, device: torch.device) -> Tensor:
    """A 1 and the checksum's digits, or zeros where this rank sends none."""
    if check is None:
        return torch.zeros(5, dtype=torch.int64, device=device)
    places = torch.arange(0, 4 * _DIGIT_BITS, _DIGIT_BITS, device=device)
    digits = (check.checksum.to(device) >> places) % 2**_DIGIT_BITS
    return torch.cat([torch.ones_like(digits[:1]), digits])


def compare_with_gradients(energy_model: nn.Module, checksum: Tensor, then: Callable[[bool | None], None]) -> bool:
    """Let a checksum travel with the model's next averaged gradients, for a loss that exchanges nothing.

    ``then`` hears whether all ranks sent the same, or None if some sent none. Returns False, and does nothing, for a
    model whose gradients ``replicate`` does not average.
    """
    model = unwrapped(energy_model)
    if model in _replicas:
        _checks[model] = _Check(checksum, then)
    return model in _replicas


def _has_ddp(energy_model: nn.Module) -> bool:
    while not isinstance(energy_model, DistributedDataParallel) and hasattr(energy_model, "_orig_mod"):
        energy_model = energy_model._orig_mod  # type: ignore[assignment]
    return isinstance(energy_model, DistributedDataParallel)


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def transport(ranks: Ranks, device: torch.device) -> torch.device:
    """Where a message must lie: gloo carries CPU tensors, NCCL those of the current CUDA device."""
    backend = dist.get_backend(ranks.group)
    if backend == "nccl" and device.type == "cpu":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu") if backend == "gloo" else device
