"""What happens to an operation of pairs: a rule, remembered results, real copies, or another way to call the model."""

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from .pair_rules import RULES
from .pairs import (
    EachPair,
    NoRule,
    Pairs,
    copies,
    is_opaque,
    is_out_of_memory,
    names,
    pairs_in,
    replaced,
    tensors,
    unflatten,
    wrapped,
)

# Of one tensor's place in the graph or in memory, which a stand-in does not have.
_NEEDS_PLAIN = names("""
    grad backward register_hook register_post_accumulate_grad_hook retain_grad requires_grad_ detach_ numpy __array__
    data_ptr storage untyped_storage __dlpack__ share_memory_ set_ resize_ resize_as_ as_strided_""")
# The result may have the memory of the operand.
_VIEWS = names("""
    view reshape flatten unflatten squeeze unsqueeze view_as reshape_as permute transpose swapaxes swapdims movedim
    moveaxis t T__get__ mT__get__ H__get__ mH__get__ expand expand_as select narrow unbind split chunk tensor_split
    __getitem__ positive __pos__ to type type_as float double half bfloat16 bool int long contiguous cpu cuda detach
    data__get__ view_as_complex view_as_real""")
_IN_PLACE = names("""
    __setitem__ __iadd__ __isub__ __imul__ __itruediv__ __ipow__ __iand__ __ior__ __ixor__ __imod__ __ilshift__
    __irshift__""")
_FILLS = names("zero_ fill_ normal_ uniform_ bernoulli_ exponential_ random_ log_normal_ cauchy_ geometric_ copy_")
# Of finite values they say the same whatever the values are.
_CHECKS = names("isfinite isnan isinf")
# Their parts are remembered, and a part may draw random numbers.
_COMPOSED = names("multi_head_attention_forward stack")


def called(func: Any, name: str, operands: list[Pairs], args: Any, kwargs: Any) -> Any:
    """The result of an operation that has these operands, of pairs, among its arguments."""
    trouble = _trouble(func, name, operands)
    if trouble:
        for x in operands:
            x.grid.run.notice("plain", trouble)
        return func(*copies("", args), **copies("", kwargs))
    written = _written(name, args, kwargs)
    if written is not None:
        return _write(func, name, written, args, kwargs)
    return _result(func, name, operands, args, kwargs)


def _trouble(func: Any, name: str, operands: list[Pairs]) -> str:
    """Why only plain tensors will do, if so."""
    for x in operands:
        if x.grid is not operands[0].grid:
            return f"{name} with a tensor of another call"
        if is_opaque(x):
            return f"{name} after an autograd.Function or a backward hook"
    if torch._C._are_functorch_transforms_active():
        return f"{name} in torch.func"
    return name if name in _NEEDS_PLAIN or name.endswith("__set__") or _has_schema_that_writes(func) else ""


def _has_schema_that_writes(func: Any) -> bool:
    """Whether it is one of ``torch.ops``, perhaps the user's own, whose name need not say that it writes."""
    overloads = [getattr(func, name) for name in func.overloads()] if hasattr(func, "overloads") else [func]
    return any(hasattr(each, "_schema") and each._schema.is_mutable for each in overloads)


def _result(func: Any, name: str, operands: list[Pairs], args: Any, kwargs: Any) -> Any:
    try:
        result = _recalled(func, name, operands, args, kwargs)
    except NoRule as none:
        return _without_rule(func, name, operands, args, kwargs, isinstance(none, EachPair))
    if name in _VIEWS:
        for x in tensors(result):
            if isinstance(x, Pairs) and x is not operands[0]:
                _twins(operands[0]).append(weakref.ref(x))
                x.twins = operands[0].twins
    return result


def _recalled(func: Any, name: str, operands: list[Pairs], args: Any, kwargs: Any) -> Any:
    """The rule's result, from the memo if no operand depends on candidates and an equal operation has been there."""
    grid = operands[0].grid
    memo, key = grid.run.memo, None
    if memo is not None and all(x.fixed for x in operands):
        key = _key(func, name, args, kwargs)
    if memo is not None and key in memo:
        return replaced(lambda x: _fixed(wrapped(x.kept, x.at, grid)), memo[key][0])  # type: ignore[attr-defined]
    if memo is None or key is None or grid.run.remembers_no_more:
        return _by_rule(func, name, operands, args, kwargs)
    # Saved here for all chunks, outside of the checkpoint that this chunk may run in.
    with saved_tensors_hooks(lambda x: x, lambda x: x):
        result = _by_rule(func, name, operands, args, kwargs)
    if all(isinstance(x, Pairs) for x in tensors(result)):
        # The operands are held, so that no other tensor gets their identity.
        held = [x.kept if isinstance(x, Pairs) else x for x in tensors((args, kwargs))]
        memo[key] = replaced(lambda x: Pairs(x.kept, x.at, grid), result), held  # type: ignore[attr-defined]
    return result


def _fixed(x: Pairs) -> Pairs:
    x.fixed = True
    return x


def _key(func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """What makes two operations the same; None for those that draw random numbers."""
    draws = name == "scaled_dot_product_attention" and (kwargs.get("dropout_p") or any(args[4:5]))
    if draws or name.startswith("new_") or "dropout" in name or name in _COMPOSED:
        return None
    try:
        key = func, _mode(args[0] if args else None), _identity((args, kwargs))
        hash(key)
    except TypeError:
        return None
    return key


def _mode(x: Any) -> Any:
    device = next((y.device.type for y in tensors(x)), "cpu")
    try:
        autocast: Any = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    except (TypeError, AttributeError):  # before torch 2.4
        autocast = torch.is_autocast_enabled() and torch.get_autocast_gpu_dtype()
        autocast = autocast, torch.is_autocast_cpu_enabled() and torch.get_autocast_cpu_dtype()
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), autocast


def _identity(x: Any) -> Any:
    """What makes two operands the same: the memory seen and its version, or a number and its type."""
    if isinstance(x, Pairs):
        return _identity(x.kept), x.at
    if isinstance(x, Tensor):
        base = x if x._base is None else x._base
        version = -1 if x.is_inference() else x._version
        return id(base), x.storage_offset(), x.shape, x.stride(), version, x.dtype, x.requires_grad
    if isinstance(x, slice):
        return slice, _identity((x.start, x.stop, x.step))
    if isinstance(x, (tuple, list)):
        return type(x), *map(_identity, x)
    if isinstance(x, dict):
        return tuple((name, _identity(value)) for name, value in x.items())
    if x is None or x is Ellipsis or isinstance(x, (bool, int, float, str, torch.dtype, torch.device)):
        return type(x), x
    raise TypeError(type(x))


def _by_rule(func: Any, name: str, operands: list[Pairs], args: Any, kwargs: Any) -> Any:
    rule = RULES.get(name)
    if rule is None:
        raise NoRule
    try:
        result = rule(func, *args, **kwargs)
    # If the model is wrong, plain tensors show it. Not any Exception: a checkpoint stops its recomputation by one.
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ArithmeticError, StopIteration) as error:
        if is_out_of_memory(error):
            raise
        raise NoRule from error
    fixed = all(x.fixed for x in operands)
    checks = name in _CHECKS or all(x.checks for x in operands)
    for x in tensors(result):
        if isinstance(x, Pairs) and not any(x is y for y in operands):
            x.fixed, x.checks = fixed, checks
    return result


def _without_rule(func: Any, name: str, operands: list[Pairs], args: Any, kwargs: Any, each: bool) -> Any:
    """The result of plain tensors, still known to be of pairs unless it has the memory of an operand."""
    run = operands[0].grid.run
    if not each:
        run.notice("whole", name)
    made: list[tuple[Pairs, Tensor]] = []

    def copy(x: Tensor) -> Tensor:
        if isinstance(x, Pairs):
            made.append((x, x.plain(name)))
        return made[-1][1] if isinstance(x, Pairs) else x

    result = func(*replaced(copy, args), **replaced(copy, kwargs))
    views = [(x, y) for x, y in made if any(_same_memory(y, z) for z in tensors(result))]
    for x, y in views:
        if y.is_inference():
            run.notice("plain", name)  # there is no version to watch
        else:
            _twins(x).append(lambda y=y: y)  # type: ignore[misc]
            run.watched.append((y, y._version))
    return result if views else replaced(lambda y: _as_pairs(operands[0], y), result)


def _same_memory(x: Tensor, y: Tensor) -> bool:
    return y.layout == torch.strided and x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr() != 0


def _twins(x: Pairs) -> list[Callable[[], Tensor | None]]:
    x.twins = [weakref.ref(x)] if x.twins is None else x.twins
    return x.twins


def _as_pairs(like: Pairs, x: Tensor) -> Tensor:
    grid, inner = like.grid, like.kept.shape[like.at + 2]
    places = [i for i, n in enumerate(x.shape) if n == grid.pairs * inner]
    if type(x) is not Tensor or not (like.at in places or len(places) == 1):
        return x
    at = like.at if like.at in places else places[0]
    return wrapped(unflatten(x, at, (grid.rows, grid.columns, inner)), at, grid)  # type: ignore[no-any-return]


def _written(name: str, args: Any, kwargs: Any) -> Any:
    """What the operation writes, or None."""
    if kwargs.get("out") is not None:
        return kwargs["out"]
    in_place = kwargs.get("inplace") or name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))
    return args[0] if in_place and args else None


def _write(func: Any, name: str, written: Any, args: Any, kwargs: Any) -> Any:
    run = pairs_in((args, kwargs))[0].grid.run
    if not isinstance(written, Pairs):
        run.notice("plain" if pairs_in(written) else "whole", name)
        return func(*copies(name, args), **copies(name, kwargs))
    if written is kwargs.get("out"):
        run.notice("plain", name)
    if any(twin() is not None and twin() is not written for twin in written.twins or ()):
        run.notice("plain", f"{name} on a tensor whose memory another tensor has")
    if written.kept.requires_grad and not torch.is_grad_enabled():
        run.notice("plain", f"{name} with gradients disabled")
    new = _out_of_place(func, name, written, args[1:], {**kwargs, "inplace": False} if "inplace" in kwargs else kwargs)
    if not isinstance(new, Pairs) or new.shape != written.shape or not torch.can_cast(new.dtype, written.dtype):
        run.notice("plain", name)
        return new
    written.fixed, written.checks = new.fixed, new.checks
    new = wrapped(new.kept.to(written.dtype), new.at, new.grid)
    with torch._C.DisableTorchFunctionSubclass():
        if written.requires_grad or new.requires_grad:
            return written.copy_(new)
    # What `copy_` would do, but it imports half a second of torch.
    written.kept, written.at, written.attached = new.kept, new.at, None
    return written


def _out_of_place(func: Any, name: str, x: Pairs, args: Any, kwargs: Any) -> Any:
    """The result of an operation in place as a new tensor."""
    if "inplace" in kwargs:
        return func(x, *args, **kwargs)
    if name == "__setitem__":
        with contextlib.suppress(NoRule):
            return _by_rule(func, name, pairs_in((x, *args)), (x, *args), kwargs)
    other = "__" + name[3:] if name in _IN_PLACE else name[:-1]
    function = next((getattr(place, other) for place in (Tensor, F, torch) if hasattr(place, other)), None)
    if other in RULES and function is not None:
        return function(x, *args, **kwargs)
    if name not in _FILLS:
        x.grid.run.notice("whole", name)
    copy = x.plain(name).clone()
    func(copy, *copies(name, args), **copies(name, kwargs))
    return _as_pairs(x, copy)
