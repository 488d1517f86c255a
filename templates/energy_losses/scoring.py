"""Energies of many candidate actions, with each context encoded once.

The energy model meets context and actions in ``nn.MultiheadAttention`` only, where the steps of an action are
queries, and queries do not see each other. So the model is called with B contexts and with N candidates, and at the
attention all candidates become one long query of each context ("folding"):

    query [N, H, E], key [B, S, E]  ->  query [B, N * H, E], key [B, S, E]  ->  output [B * N, H, E]

Plain scoring, which any model can take, calls it with B * N pairs and encodes each context N times.
"""

import contextlib
import inspect
import warnings
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .ranks import unwrapped

# The most that one pass holds at once; longer lists of candidates are scored in chunks. A pass of 8192 steps fills
# a device, and takes about 0.3 GB with a hidden size of 512.
_STEPS_PER_FOLDED_PASS = 8192
_PAIRS_PER_PLAIN_PASS = 64

_ATTENTION_ARGUMENTS = tuple(inspect.signature(nn.MultiheadAttention.forward).parameters)[1:]

_Memory = list[tuple[Tensor, Tensor, Tensor | None]]  # key, value and key_padding_mask of each folded attention


class _Method(NamedTuple):
    """How a model is scored: what a comparison with plain scoring has shown to be equal."""

    folds: bool = False
    repeats_candidates: bool = False  # shared candidates must be given once per context, for a residual around them
    reuses_keys: bool = False  # later chunks need no context but the first chunk's keys and values
    trims: bool = False  # positions that every row masks can be left out


class _Watched(NamedTuple):
    """What a comparison looks at: six pairs, of two contexts and three candidates."""

    outputs: list[Tensor]  # of all modules in the order of their calls
    energies: Tensor  # [6]
    slope: Tensor  # of the energies in the actions


_methods: "weakref.WeakKeyDictionary[nn.Module, dict[tuple[bool, bool], _Method]]" = weakref.WeakKeyDictionary()


def energy_matrix(
    energy_model: nn.Module, h: Tensor, a: Tensor, pad_mask: Tensor | None = None, *, chunk: int | None = None
) -> Tensor:
    """Energies of B contexts with many candidate actions each, [B, N].

    Args:
        energy_model: called as ``energy_model(h, a, pad_mask)`` for pairs, returns an energy per pair, [B, 1], or a
            tuple that starts with it.
        h: contexts, [B, S, D].
        a: candidates that all contexts share, [N, H, Da], or own candidates of each context, [B, N, H, Da].
        pad_mask: [B, S], True at positions of ``h`` to ignore.
        chunk: candidates in one pass (default: by size). Later chunks are computed again in the backward pass, so
            memory does not grow with N.

    A model is folded once a comparison with plain scoring, made at the first call, has shown that it can be.
    """
    if h.dim() != 3 or a.dim() not in (3, 4) or (a.dim() == 4 and len(a) != len(h)):
        raise ValueError(f"expected h [B, S, D], a [N, H, Da] or [B, N, H, Da]; got {[*h.shape]}, {[*a.shape]}")
    dtype = _dtype(energy_model, h)
    if not torch.is_grad_enabled():
        energy_model = unwrapped(energy_model)  # DistributedDataParallel sends buffers at every call
    candidates = a.to(dtype) if a.dim() == 4 else a.to(dtype).unsqueeze(0)  # [B or 1, N, H, Da]
    method = _method(energy_model, h, candidates, pad_mask, shared=a.dim() == 3)
    if method.repeats_candidates:
        candidates = candidates.expand(len(h), -1, -1, -1)
    if method.trims and pad_mask is not None and pad_mask.dtype == torch.bool and pad_mask.shape == h.shape[:2]:
        h, pad_mask = _trimmed(h, pad_mask)
    return _in_chunks(method, energy_model, h.to(dtype), candidates, pad_mask, chunk)


def is_folded(energy_model: nn.Module) -> bool:
    """Whether the model has been scored, and always with each context encoded once."""
    methods = _methods.get(unwrapped(energy_model), {})
    return bool(methods) and all(method.folds for method in methods.values())


def _in_chunks(
    method: _Method, energy_model: nn.Module, h: Tensor, candidates: Tensor, pad_mask: Tensor | None, chunk: int | None
) -> Tensor:
    rows, steps = len(h), candidates.shape[2]
    fitting = _STEPS_PER_FOLDED_PASS // (rows * steps) if method.folds else _PAIRS_PER_PLAIN_PASS // rows
    # The first chunk goes through a DistributedDataParallel wrapper, so that its gradients are reduced. Later ones do
    # not: they run again inside the backward pass, where the wrapper must not start another step.
    first, later = _eager(energy_model) if method.folds else energy_model, unwrapped(energy_model)
    memory: _Memory | None = [] if method.folds else None

    def score_later(part: Tensor) -> Tensor:
        if memory is None:
            return _score_pairs(later, h, part, pad_mask)
        if not method.reuses_keys:
            return _score_folded(later, h, part, pad_mask, [])
        one_position = None if pad_mask is None else torch.zeros_like(pad_mask[:, :1])
        return _score_folded(later, h[:, :1], part, one_position, memory)

    head, *tail = torch.split(candidates, max(1, chunk or fitting), dim=1)
    if memory is None:
        energies = [_score_pairs(first, h, head, pad_mask)]
    else:
        energies = [_score_folded(first, h, head, pad_mask, memory)]
    for part in tail:
        energies.append(
            checkpoint(score_later, part, use_reentrant=False) if torch.is_grad_enabled() else score_later(part)
        )
    return torch.cat(energies, dim=1)


def _score_pairs(model: nn.Module, h: Tensor, candidates: Tensor, pad_mask: Tensor | None) -> Tensor:
    rows, count = len(h), candidates.shape[1]
    actions = candidates.expand(rows, -1, -1, -1).flatten(0, 1)  # [B * N, H, Da]
    masks = None if pad_mask is None else pad_mask.repeat_interleave(count, dim=0)
    return _first(model(h.repeat_interleave(count, dim=0), actions, masks)).reshape(rows, count)


def _score_folded(model: nn.Module, h: Tensor, candidates: Tensor, pad_mask: Tensor | None, memory: _Memory) -> Tensor:
    """Energies [B, N] from one pass; ``memory`` is filled if it is empty, and used instead of ``h`` otherwise."""
    rows, count = len(h), candidates.shape[1]
    # Where actions or pairs are as many as contexts, the fold could not tell them apart. More candidates, dropped again
    # below, make it three different numbers.
    while candidates.shape[1] == 1 or (len(candidates) == 1 and candidates.shape[1] == rows):
        candidates = torch.cat([candidates, candidates[:, :1]], dim=1)
    with _folded_attention(model, rows, candidates.shape[1], memory):
        energies = _first(model(h, candidates.flatten(0, 1), pad_mask))
    return energies.reshape(rows, candidates.shape[1])[:, :count]


@contextlib.contextmanager
def _folded_attention(model: nn.Module, rows: int, count: int, memory: _Memory) -> Iterator[None]:
    """While open, attentions in ``model`` whose keys are the contexts take all candidates as one query each."""
    filled = bool(memory)
    recalled = iter(tuple(memory))
    steps: list[int | None] = []  # of the attention that is running: H if it is folded

    def before(module: nn.MultiheadAttention, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        call = {**dict(zip(_ATTENTION_ARGUMENTS, args, strict=False)), **kwargs}
        query, key = call["query"], call["key"]
        batch = 0 if module.batch_first else 1
        if query.dim() != 3 or key.shape[batch] != rows or query.shape[batch] not in {count, rows * count} - {rows}:
            steps.append(None)
            return None
        if call.get("attn_mask") is not None or call.get("is_causal"):
            raise NotImplementedError("an attention between context and actions has an attn_mask")
        steps.append(query.shape[1 - batch])
        if filled:
            call["key"], call["value"], call["key_padding_mask"] = next(recalled)
        else:
            memory.append((key, call["value"], call.get("key_padding_mask")))
        query = query.transpose(0, batch).reshape(-1, count * query.shape[1 - batch], query.shape[2])
        call["query"] = query.expand(rows, -1, -1).transpose(0, batch)
        return (), call

    def after(module: nn.MultiheadAttention, args: Any, kwargs: Any, outputs: Any) -> Any:
        length = steps.pop()
        if length is None:
            return None
        output, weights = outputs
        output = output.transpose(0, 0 if module.batch_first else 1).reshape(rows * count, length, -1)
        if weights is not None:  # [B, N * H, S], or [B, heads, N * H, S]
            weights = weights.unflatten(-2, (count, length)).movedim(-3, 1).flatten(0, 1)
        return output.transpose(0, 0 if module.batch_first else 1), weights

    with contextlib.ExitStack() as hooks:
        hooks.enter_context(_without_fast_path())
        for module in model.modules():
            if isinstance(module, nn.MultiheadAttention):
                hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
                # Prepended: the user's own hooks see the shapes they know.
                hooks.callback(module.register_forward_hook(after, with_kwargs=True, prepend=True).remove)
        yield


def _method(
    energy_model: nn.Module, h: Tensor, candidates: Tensor, pad_mask: Tensor | None, *, shared: bool
) -> _Method:
    """What is known of this model, found out at its first call with this kind of input."""
    model = unwrapped(energy_model)
    known = _methods.setdefault(model, {})
    mode = shared, pad_mask is not None
    if mode not in known:
        method, reason = _find_method(energy_model, h, candidates, pad_mask, shared)
        known[mode] = method
        if not method.folds:
            rows, count = len(h), candidates.shape[1]
            warnings.warn(
                f"energy_losses scores {type(model).__name__} pair by pair, because {reason}: each context is encoded "
                f"once per candidate, here {rows} x {count} times, instead of {rows} times",
                RuntimeWarning,
                stacklevel=3,
            )
    return known[mode]


def _find_method(
    energy_model: nn.Module, h: Tensor, candidates: Tensor, pad_mask: Tensor | None, shared: bool
) -> tuple[_Method, str]:
    if _has_compiled_parts(_eager(energy_model)):
        return _Method(), "a part of it is compiled"
    model = unwrapped(energy_model)
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return _Method(), "its BatchNorm depends on which pairs are scored together"
    reason = ""
    for is_shared in (True, False) if shared else (False,):
        try:
            method = _compare(model, h, candidates, pad_mask, is_shared)
        except Exception as error:  # whatever a model raises at inputs that it was not written for
            reason = reason or f"folding it raises {type(error).__name__} ({str(error).splitlines()[:1]})"
            continue
        if method.folds:
            return method._replace(repeats_candidates=shared and not is_shared), ""
        reason = reason or "folding it gives other energies"
    return _Method(), reason


class _StandIn(nn.Module):
    """The model with copies of its tensors, so that a check changes neither its gradients nor its buffers.

    The weights are a little away from the model's own: what a zero-initialised gate or head hides today counts as soon
    as it is trained. In 16 bits, candidates can be too close to tell apart, so the copies have 32.
    """

    def __init__(self, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__()
        self.model = model
        self.tensors: dict[str, Tensor] = {}
        for name, buffer in model.named_buffers():
            self.tensors[name] = buffer.detach().to(_wide(buffer.dtype), copy=True)
        for name, parameter in model.named_parameters():
            tensor = parameter.detach().to(_wide(parameter.dtype), copy=True)
            if tensor.is_floating_point():
                noise = 0.1 * torch.randn(tensor.shape, generator=generator).to(tensor)
                tensor = torch.where(tensor == 0, 0.1 * noise.sign(), tensor * (1 + noise))
            self.tensors[name] = tensor

    def forward(self, *inputs: Any) -> Any:
        return torch.func.functional_call(self.model, self.tensors, inputs)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _compare(model: nn.Module, h: Tensor, candidates: Tensor, pad_mask: Tensor | None, shared: bool) -> _Method:
    """Compare folded with plain scoring on two contexts and three candidates, where no count equals another."""
    generator = torch.Generator().manual_seed(0)
    dtype = _wide(_dtype(model, h))
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # what a model has to say of its inputs, it says again in the real pass
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(h.device.type, enabled=False))
        stack.enter_context(torch.random.fork_rng([h.device] if h.is_cuda else []))
        stack.enter_context(_full_precision())
        stack.enter_context(_without_fast_path())
        model = _StandIn(model, generator)
        rows = torch.nan_to_num(h.detach()[[0, -1]].to(dtype), posinf=0.0, neginf=0.0)
        noise = torch.randn(rows.shape, generator=generator).to(rows)
        rows = rows + noise * rows.abs().mean().clamp_min(1e-3)  # distinct, also where the batch has one row
        mask = None if pad_mask is None else pad_mask[[0, -1]]
        actions = 2 * torch.rand(1, 3, *candidates.shape[2:], generator=generator).to(rows) - 1
        if not shared:
            actions = torch.cat([actions, actions.flip(1)])

        memory: _Memory = []
        with evaluating(model):
            plain = _watched(model, _score_pairs, rows, actions, mask)
            if not _agree(plain, _watched(model, _score_folded, rows, actions, mask, memory)) or not memory:
                return _Method()
            method = _Method(
                folds=True,
                reuses_keys=_reuses_keys(model, plain, rows, actions, mask, memory),
                trims=_ignores_padding(model, rows, actions, mask),
            )
            # Four candidates are a multiple of two contexts, three were none.
            one_more = torch.cat([actions, actions[:, :1]], dim=1)
            if not _close(plain.energies.view(2, 3, 1), _score_folded(model, rows, one_more, mask, [])[:, :3, None]):
                return _Method()
        # As the model is set, in training that is: its own branches, and its own recomputation in the backward pass.
        torch.autograd.backward(_score_folded(model, rows, one_more.requires_grad_(), mask, []).sum())
        return method


def _reuses_keys(
    model: nn.Module, plain: _Watched, h: Tensor, actions: Tensor, mask: Tensor | None, memory: _Memory
) -> bool:
    one_position = None if mask is None else torch.zeros_like(mask[:, :1])
    try:
        return _agree(plain, _watched(model, _score_folded, h[:, :1], actions, one_position, memory))
    except Exception:
        return False


def _ignores_padding(model: nn.Module, h: Tensor, actions: Tensor, mask: Tensor | None) -> bool:
    """Whether a second half that is masked may as well be missing."""
    kept = h.shape[1] // 2
    if mask is None or mask.dtype != torch.bool or mask.shape != h.shape[:2] or kept == 0:
        return False
    hidden = (torch.arange(h.shape[1], device=h.device) >= kept).expand(len(h), -1)
    try:
        whole = _watched(model, _score_folded, h, actions, hidden, [])
        return _agree(whole, _watched(model, _score_folded, h[:, :kept], actions, hidden[:, :kept], []))
    except Exception:
        return False


def _watched(model: nn.Module, score: Any, h: Tensor, actions: Tensor, *args: Any) -> _Watched:
    seen: list[Tensor] = []

    def watch(module: nn.Module, inputs: Any, outputs: Any) -> None:
        output = _first(outputs)
        if isinstance(output, Tensor):
            seen.append(output)

    with contextlib.ExitStack() as hooks:
        for module in model.modules():
            hooks.callback(module.register_forward_hook(watch).remove)
        actions = actions.detach().requires_grad_()
        energies = score(model, h, actions, *args).flatten()
    slope = torch.zeros_like(actions)
    if energies.requires_grad:
        torch.autograd.backward((energies * torch.arange(1.0, 7.0).to(energies)).sum())
        slope = slope if actions.grad is None else actions.grad
    return _Watched([output.detach() for output in seen], energies.detach(), slope)


def _agree(plain: _Watched, other: _Watched) -> bool:
    """Whether all that is computed per pair is equal, to a small part of what tells a context's candidates apart.

    The energies of a fresh model can differ by less than a tolerance on their size would allow, or not at all; then
    the hidden layers before them decide. Both contexts have the same candidates, so a mean over these that differs
    shows a layer that has seen the context.
    """
    slope = plain.slope
    if not (slope - other.slope).abs().max() <= 8 * torch.finfo(slope.dtype).eps ** 0.5 * slope.abs().max():
        return False
    decided = False
    for expected, found in zip([*plain.outputs, plain.energies], [*other.outputs, other.energies], strict=True):
        if expected.shape != found.shape or len(expected) != 6:
            continue  # encodes contexts or candidates, not pairs
        expected, found = expected.reshape(2, 3, -1), found.reshape(2, 3, -1)
        if not _close(expected, found):
            return False
        means, (spread, noise) = expected.mean(1), _spread_and_noise(expected)
        decided |= bool(spread > 50 * noise and (means[0] - means[1]).abs().max() > noise)
    return decided


def _close(expected: Tensor, found: Tensor) -> bool:
    """Whether values of two contexts and three candidates, [2, 3, ...], are equal to a part of their spread."""
    spread, noise = _spread_and_noise(expected)
    tolerance = noise.maximum(8 * torch.finfo(expected.dtype).eps ** 0.5 * spread)
    return bool((expected - found).abs().max() <= tolerance)


def _spread_and_noise(values: Tensor) -> tuple[Tensor, Tensor]:
    spread = (values.amax(1) - values.amin(1)).max()
    return spread, 64 * torch.finfo(values.dtype).eps * values.abs().max()


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, every module's own flag restored after it."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Without TF32, whose rounding is larger than what may tell a fresh model's candidates apart."""
    matmul = torch.backends.cuda.matmul
    name, full = ("fp32_precision", "ieee") if hasattr(matmul, "fp32_precision") else ("allow_tf32", False)
    before = getattr(matmul, name)
    try:
        setattr(matmul, name, full)
        yield
    finally:
        setattr(matmul, name, before)


@contextlib.contextmanager
def _without_fast_path() -> Iterator[None]:
    """Without the inference kernels of ``nn.TransformerEncoder``, whose nested tensors a fold cannot take."""
    backend = getattr(torch.backends, "mha", None)  # torch 2.3 and later
    if backend is None:
        yield
        return
    before = backend.get_fastpath_enabled()
    try:
        backend.set_fastpath_enabled(False)
        yield
    finally:
        backend.set_fastpath_enabled(before)


def _eager(energy_model: nn.Module) -> nn.Module:
    """The model without an outermost ``torch.compile``, whose code is fixed and takes no hooks."""
    return getattr(energy_model, "_orig_mod", energy_model)


def _has_compiled_parts(model: nn.Module) -> bool:
    return any(hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) for m in model.modules())


def _trimmed(h: Tensor, pad_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Without the trailing positions that every row masks; this waits for the device once."""
    kept = (~pad_mask).any(dim=0)
    length = int((kept * torch.arange(1, len(kept) + 1, device=kept.device)).max().clamp_min(1))
    return h[:, :length], pad_mask[:, :length]


def _dtype(energy_model: nn.Module, h: Tensor) -> torch.dtype:
    return next((p.dtype for p in energy_model.parameters() if p.is_floating_point()), h.dtype)


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]
