"""Cost of the ways to score candidates, on one rank of the real shape: ``python tests/benchmarks/loss_cost.py``.

A round is a process in which the cases take turns, step by step, so that what else the machine does meets all of
them. The table shows medians over rounds of the shortest forward and backward pass (one thread's processor time on a
CPU), and the peak of live tensor bytes above the model, its gradients and the inputs. Ratios are those of one run.
``--model energy.energy_model:EnergyModel``, with its folder in PYTHONPATH, measures a model of your own, made as
``EnergyModel(state_dim, act_dim)``.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

sys.path.extend(str(Path(__file__).parents[2] / folder) for folder in ("templates", "tests/distributed"))

from energy_losses.layer_infonce import make_negatives
from energy_losses.scoring import energy_matrix
from energy_zoo import own_model

D, HIDDEN, HEADS, S, H, DA, B = 4096, 512, 8, 610, 8, 7, 3
PADDING = (54, 57, 60)  # masked positions of the rows, as in the real script


class Mlp(nn.Module):
    """Residual blocks of a width, between two layers."""

    def __init__(self, blocks: int, size: int, output: int) -> None:
        super().__init__()
        self.entry = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, HIDDEN), nn.SiLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.SiLU()) for _ in range(blocks)
        )
        self.exit = nn.Sequential(nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, output))

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        for block in self.blocks:
            x = x + block(x)
        return self.exit(x)


class RealShapeEnergy(nn.Module):
    """Layers, sizes and checks of the energy model that the losses are made for."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.action, self.head = Mlp(1, D, HIDDEN), Mlp(1, DA, HIDDEN), Mlp(2, HIDDEN, 1)
        self.cross = nn.MultiheadAttention(HIDDEN, HEADS, batch_first=True)
        self.register_buffer("places", torch.randn(1, H, HIDDEN), persistent=False)

    def forward(self, h: Tensor, a: Tensor, pad_mask: Tensor | None = None) -> Tensor:
        h, a = h.to(self.places.dtype), a.to(self.places.dtype)
        for x in (h, a):
            if not torch.isfinite(x).all():
                raise RuntimeError("not finite")
        context = self.state(h)
        steps = self.action(a) + self.places
        z = self.meet(steps, context, pad_mask)
        return (self.head(z) * 0.5).sigmoid().mean(dim=1) * 2.0 + 0.1

    def meet(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """What the model's head reads: [pairs, steps or 1, HIDDEN]."""
        return self.cross(steps, context, context, key_padding_mask=mask, need_weights=False)[0]

    def heads(self, steps: Tensor, context: Tensor) -> Any:
        """Queries, keys and values of an attention of its own, [pairs, HEADS, length, HIDDEN // HEADS]."""
        weights, biases = self.cross.in_proj_weight.chunk(3), self.cross.in_proj_bias.chunk(3)
        given = zip((steps, context, context), weights, biases, strict=True)
        return (F.linear(x, w, b).unflatten(-1, (HEADS, -1)).transpose(1, 2) for x, w, b in given)


class OwnAttention(RealShapeEnergy):
    def meet(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        allowed = None if mask is None else ~mask[:, None, None]
        z = F.scaled_dot_product_attention(*self.heads(steps, context), allowed)
        return self.cross.out_proj(z.transpose(1, 2).flatten(2))


class SoftmaxByHand(RealShapeEnergy):
    def meet(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = self.heads(steps, context)
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(mask[:, None, None], float("-inf"))
        return self.cross.out_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def pooled(context: Tensor, mask: Tensor | None) -> Tensor:
    kept = torch.ones_like(context[..., :1]) if mask is None else (~mask)[..., None].to(context)
    return (context * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True)


class Film(RealShapeEnergy):
    def meet(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        z = pooled(context, mask)
        return steps * (1 + self.cross.out_proj(z)) + z


class PooledMlp(RealShapeEnergy):
    def __init__(self) -> None:
        super().__init__()
        self.fuse = Mlp(4, 2 * HIDDEN, HIDDEN)

    def meet(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        return self.fuse(torch.cat([steps.mean(1, keepdim=True), pooled(context, mask)], -1))


class JointSequence(RealShapeEnergy):
    def meet(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        both = torch.cat([context, steps], 1)
        if mask is not None:
            mask = torch.cat([mask, mask.new_zeros(steps.shape[:2])], 1)
        return self.cross(both, both, both, key_padding_mask=mask, need_weights=False)[0][:, -steps.shape[1] :]


def live_bytes(step: Callable[[], None]) -> int:
    """The peak of what a step allocates and has not freed; the resident size depends on the allocator's settings."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))


def plain_pairs(model: nn.Module, h: Tensor, a: Tensor, mask: Tensor) -> Tensor:
    """The user's own way: all pairs, each with its own copy of the context."""
    rows, count = len(h), len(a)
    return model(h.float().repeat_interleave(count, 0), a.repeat(rows, 1, 1), mask.repeat_interleave(count, 0)).view(
        rows, count
    )


def floor(model: nn.Module, h: Tensor, a: Tensor, mask: Tensor) -> Tensor:
    return model(h, a[: len(h)], mask)


def layer(model: nn.Module, h: Tensor, a: Tensor, mask: Tensor) -> Tensor:
    own = torch.cat([a[: len(h), None], make_negatives(a[: len(h)], [], 8)], dim=1)
    return energy_matrix(model, h, own, mask)


class Case(NamedTuple):
    title: str
    rows: int
    count: int
    score: Callable[..., Tensor]
    model: type[RealShapeEnergy] = RealShapeEnergy


CASES = {
    "floor": Case("positives only, 3 pairs", B, B, floor),
    "folded": Case("energy_matrix 3 x 24", B, 24, energy_matrix),
    "local": Case("the user's local loss, pairs 3 x 3", B, B, plain_pairs),
    "layer": Case("layer, 3 x 9", B, B, layer),
    "queue": Case("queue, 3 x 280", B, 280, energy_matrix),
    "folded384": Case("energy_matrix 3 x 384 (128 ranks)", B, 384, energy_matrix),
    "folded3072": Case("energy_matrix 3 x 3072 (1024 ranks)", B, 3072, energy_matrix),
    "pairs": Case("rows by pairs, 3 x 24", B, 24, plain_pairs),
    "matrix": Case("whole matrix on every rank by pairs, 6 x 6 of 24 x 24 (x 16)", 6, 6, plain_pairs),
}
# Kinds of model, each beside its own three pairs.
for _kind in (OwnAttention, SoftmaxByHand, Film, PooledMlp, JointSequence):
    CASES[f"{_kind.__name__}-floor"] = Case(f"{_kind.__name__}: positives only", B, B, floor, _kind)
    CASES[_kind.__name__] = Case(f"{_kind.__name__}: energy_matrix 3 x 24", B, 24, energy_matrix, _kind)
SLOW = {"pairs", "matrix", "folded3072", "JointSequence"}


def prepare(name: str, options: argparse.Namespace) -> Callable[[], None]:
    _, rows, count, score, kind = CASES[name]
    torch.manual_seed(0)
    own = options.model if kind is RealShapeEnergy else ""
    model = (own_model(own, D, DA) if own else kind()).to(options.device, getattr(torch, options.dtype))
    h = torch.randn(rows, S, D, device=options.device, dtype=torch.bfloat16)
    a = torch.rand(count, H, DA, device=options.device) * 2 - 1
    places = torch.arange(S, device=options.device)
    mask = places[None] >= S - torch.tensor(PADDING, device=options.device).repeat(2)[:rows, None]
    scored = torch.compile(model) if options.compile else model

    def step() -> None:
        score(scored, h, a, mask).float().square().mean().backward()

    step()  # now gradients exist
    return step


def timed(step: Callable[[], None], device: str) -> float:
    # On a CPU, the processor time of one thread: it hardly depends on what else the machine does.
    clock = time.perf_counter if device == "cuda" else time.process_time
    start = clock()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def peak(step: Callable[[], None], device: str) -> int:
    if device != "cuda":
        return live_bytes(step)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() - before


def run_round(names: list[str], options: argparse.Namespace) -> dict[str, tuple[float, int]]:
    torch.set_num_threads(1)
    steps = {name: prepare(name, options) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for index in range(options.repeats):
        for name, step in steps.items():
            if name not in SLOW or not index:
                seconds[name].append(timed(step, options.device))
    return {name: (min(seconds[name]), peak(step, options.device)) for name, step in steps.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="processes")
    parser.add_argument("--repeats", type=int, default=8, help="steps of each case in a process")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--compile", action="store_true", help="wrap the model in torch.compile")
    parser.add_argument("--model", default="", metavar="MODULE:CLASS", help="a model of your own")
    parser.add_argument("--round", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.round is not None:
        names = [name for name in options.cases if name not in SLOW or not options.round]
        print(json.dumps(run_round(names, options)))
        return
    results: dict[str, list[tuple[float, int]]] = {name: [] for name in options.cases}
    for index in range(options.rounds):
        command = [sys.executable, __file__, *sys.argv[1:], "--round", str(index)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=3600).stdout
        for name, measured in json.loads(output.splitlines()[-1]).items():
            results[name].append(measured)
    print(f"{'case':64}{'seconds':>9}{'x floor':>9}{'GB':>8}{'x floor':>9}")
    medians = {
        name: [statistics.median(column) for column in zip(*runs, strict=True)] for name, runs in results.items()
    }
    for name, (seconds, size) in medians.items():
        base = medians.get(f"{name.partition('-')[0]}-floor", medians.get("floor", next(iter(medians.values()))))
        print(f"{CASES[name].title:64}{seconds:9.3f}{seconds / base[0]:9.2f}{size / 1e9:8.3f}{size / base[1]:9.2f}")


if __name__ == "__main__":
    main()
