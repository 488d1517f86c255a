"""Cost of the global loss as the number of ranks grows: ``python tests/benchmarks/scaling.py``.

Compute and memory are those of one rank of 3 rows whose candidates are as many as so many ranks would send;
``loss_cost`` says how they are measured. Bytes are what a rank sends per step: a header, its padded actions, and one
flat gradient per optimizer step. Real gloo ranks, at a small size, show that the step's messages are these.
"""

import argparse
import sys
from pathlib import Path

sys.path.extend(str(Path(__file__).parents[2] / folder) for folder in (".", "templates", "tests/distributed"))

import loss_cost
import test_exchange
from gloo_pool import GlooPool

WORLDS = (1, 2, 8, 32, 128, 512, 1024)


def measure(worlds: list[int]) -> dict[int, tuple[float, int]]:
    counts = {f"{world} ranks": world * loss_cost.B for world in worlds}
    for name, count in counts.items():
        loss_cost.CASES[name] = loss_cost.Case("", loss_cost.B, count, loss_cost.energy_matrix)
    options = argparse.Namespace(model="", device="cpu", dtype="float32", compile=False, repeats=3)
    return dict(zip(worlds, loss_cost.run_round(list(counts), options).values(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, nargs="*", default=WORLDS)
    options = parser.parse_args()
    pool = GlooPool()
    for world in (2, 4, 8):
        sizes = pool.run(world, test_exchange.count_messages)[0]
        gathers, reduces = sizes["all_gather"], sizes["all_reduce"]
        print(f"{world} gloo ranks, small model: all-gathers of {gathers} B, all-reduces of {reduces} B per step")
    pool.close()
    header = test_exchange.HEADER
    parameters = sum(p.numel() for p in loss_cost.RealShapeEnergy().parameters())
    actions = loss_cost.B * loss_cost.H * loss_cost.DA * 4
    print(f"sent per rank: header {header} B, actions {actions} B per call; gradient {4 * parameters} B per step")
    print(f"{'ranks':>6}{'candidates':>12}{'seconds':>9}{'x first':>9}{'ms/candidate':>14}{'GB':>8}{'B received':>12}")
    costs = measure(options.worlds)
    first = costs[options.worlds[0]][0]
    for world, (seconds, size) in costs.items():
        count = world * loss_cost.B
        received = world * (header + actions)
        relative, each = seconds / first, 1e3 * seconds / count
        print(f"{world:6}{count:12}{seconds:9.3f}{relative:9.2f}{each:14.3f}{size / 1e9:8.3f}{received:12}")


if __name__ == "__main__":
    main()
