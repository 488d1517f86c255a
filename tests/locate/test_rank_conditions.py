"""Which conditions on the rank stop a patch, and which iterations one rank may leave alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from energy_patch.locate.facts import Facts
from energy_patch.locate.locator import locate
from energy_patch.syntax.source import decode_source, read_source
from tests.conftest import Command, snapshot

IMPORT = "from energy.energy_model import energy_inbatch_swap_infonce\n"
LOSS = "energy_inbatch_swap_infonce(m, h, a)"


def facts_of(text: str) -> Facts:
    source = decode_source(Path("train.py"), (IMPORT + text).encode())
    (facts,) = locate(source, read_source)
    return facts


ON_ONE_RANK = [
    "rank == 0",
    "not rank",
    "dist.get_rank() == 0",
    'os.environ["RANK"] == "0"',
    'int(os.environ["LOCAL_RANK"]) == 0',
    'int(os.environ.get("RANK", 0)) == 0',
    'os.getenv("SLURM_PROCID", "0") == "0"',
    "trainer.is_global_zero",
    "accelerator.is_main_process",
    "self.is_main and step > 3",
    "step > 3 or rank == 0",
    "zero",
    "not zero",
    "zero is True",
    "number == 0",
    "is_zero()",
    "(r := dist.get_rank()) == 0",
    "rank % 8 == 0",
    "args.gpu == 0",
    "gpu % per_node == 0",
    "rank in (0, 1)",
    "rank > 0",
    "rank == world_size - 1",
    "0 <= rank < 4",
    "rank < world_size - 1",
    "rank >= world_size - 1",
    "utils.is_primary(args)",
    "is_first_process()",
    "primary(rank)",
]
ON_ALL_RANKS = [
    "gpu >= 0",
    "args.gpu",
    "gpu is not None",
    'device_id != "cpu"',
    'args.gpu == "cuda"',
    "rank >= 0",
    "0 <= rank",
    "rank != -1",
    "rank > -1",
    "rank is not None",
    "rank < world_size",
    "rank > world_size - 1",
    "rank <= dist.get_world_size() - 1",
    "world_size - 1 >= rank",
    "world_size - 1 < rank",
    "primary",
    "args.main",
    "self.is_first",
    "0 <= rank < dist.get_world_size()",
    '"RANK" in os.environ',
    'os.environ.get("RANK") is not None',
    "lora_rank == 0",
    "cfg.lora.rank > 0",
    "step == 0",
    "device_ids[0] > 0",
    "value > 0",
    "dist.is_initialized()",
]
ABOVE = """
def is_zero():
    return dist.get_rank() == 0


def train(m, h, a, rank, gpu, value=model_of(rank)):
    zero = dist.get_rank() == 0
    number = dist.get_rank() if dist.is_initialized() else 0
"""


@pytest.mark.parametrize("test", ON_ONE_RANK)
def test_on_one_rank(test: str) -> None:
    facts = facts_of(f"{ABOVE}    if {test}:\n        return {LOSS}\n")
    assert facts.calls[0].rank_lines == (10,)


@pytest.mark.parametrize("test", ON_ALL_RANKS)
def test_on_all_ranks(test: str) -> None:
    facts = facts_of(f"{ABOVE}    if {test}:\n        return {LOSS}\n")
    assert facts.calls[0].rank_lines == ()


@pytest.mark.parametrize(
    ("end", "lines"),
    [
        ("sys.exit()", (3,)),
        ("sys.exit(0)", (3,)),
        ("sys.exit(step)", (3,)),
        ("sys.exit(1)", ()),
        ("sys.exit('too many')", ()),
        ("os._exit(3)", ()),
        ("raise SystemExit", (3,)),
        ("raise SystemExit(0)", (3,)),
        ("raise SystemExit(step)", (3,)),
        ("raise SystemExit(1)", ()),
        ("raise SystemExit(f'{rank}')", ()),
        ("raise ValueError from None", ()),
        ("print(1)", ()),
    ],
)
def test_the_end_of_a_branch(end: str, lines: tuple[int, ...]) -> None:
    body = f"    if rank != 0:\n        {end}\n    return {LOSS}\n"
    assert facts_of(f"def train(m, h, a, rank, step):\n{body}").calls[0].rank_lines == lines


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (f"    match rank:\n        case 0:\n            return {LOSS}\n", (3,)),
        (f"    match step:\n        case 0:\n            return {LOSS}\n", ()),
        (f"    if rank != 0:\n        if step:\n            return\n        exit(1)\n    return {LOSS}\n", (3,)),
        (f"    try:\n        if rank != 0:\n            exit(1)\n        {LOSS}\n    except E:\n        pass\n", (4,)),
        (f"    if rank != 0:\n        raise ValueError\n    else:\n        return\n    return {LOSS}\n", (3,)),
        (f"    if rank == 1:\n        raise E\n    elif rank == 2:\n        return\n    return {LOSS}\n", (3,)),
        (f"    if rank != 0:\n        if step:\n            return\n        raise E\n    return {LOSS}\n", (3,)),
        (f"    with suppress(E):\n        if rank != 0:\n            raise E\n        {LOSS}\n", (4,)),
        (f"    try:\n        if rank != 0:\n            raise E\n        {LOSS}\n    except E:\n        pass\n", (4,)),
        (f"    try:\n        if rank != 0:\n            raise E\n        {LOSS}\n    finally:\n        pass\n", ()),
        (f"    try:\n        pass\n    except E:\n        if rank != 0:\n            raise\n        {LOSS}\n", ()),
        (f"    if rank == 0:\n        pass\n    else:\n        return\n    return {LOSS}\n", (3,)),
        (f"    if rank < 0:\n        raise ValueError\n    return {LOSS}\n", ()),
        (f"    if rank == 0:\n        with torch.no_grad():\n            return {LOSS}\n", ()),
        (f"    for i in h:\n        if rank != 0:\n            continue\n        {LOSS}\n", (4,)),
        (f"    for i in h:\n        if rank != 0:\n            break\n        {LOSS}\n", (4,)),
        (f"    for i in h:\n        if rank != 0:\n            continue\n    {LOSS}\n", ()),
        (f"    if rank == 0:\n        with torch.set_grad_enabled(False):\n            return {LOSS}\n", ()),
        (f"    if rank == 0:\n        with torch.set_grad_enabled(step):\n            return {LOSS}\n", (3,)),
        (f"    return rank == 0 and {LOSS}\n", (3,)),
        (f"    return {LOSS} if rank == 0 else 0\n", (3,)),
    ],
)
def test_around_the_call(body: str, lines: tuple[int, ...]) -> None:
    assert facts_of(f"def train(m, h, a, rank, step):\n{body}").calls[0].rank_lines == lines


@pytest.mark.parametrize(
    ("text", "test", "is_lone"),
    [
        ("is_main = True\nwhile step():\n    if TEST:\n        LOSS\n    is_main = False\n", "is_main", False),
        ("is_main = True\nis_main = is_main and not dist.get_rank()\nif TEST:\n    LOSS\n", "is_main", True),
        ("rank, group = 0, None\nif TEST:\n    LOSS\n", "rank == 0", False),
        ("rank, group = 0, None\nrank, group = setup()\nif TEST:\n    LOSS\n", "rank == 0", True),
        ("rank = 0\nif step():\n    rank = dist.get_rank()\nif TEST:\n    LOSS\n", "rank == 0", True),
        ("rank = -1\nwith group() as rank:\n    if TEST:\n        LOSS\n", "rank == 0", True),
        ("for rank, action in enumerate(best):\n    if TEST:\n        LOSS\n", "rank == 0", False),
        ("for action, rank in enumerate(best):\n    if TEST:\n        LOSS\n", "rank == 0", True),
        ("for rank in (1, 4, 16):\n    if TEST:\n        LOSS\n", "rank == 0", False),
        ("for rank in range(len(best)):\n    if TEST:\n        LOSS\n", "rank == 0", False),
        ("for rank in range(8):\n    if TEST:\n        LOSS\n", "rank == dist.get_rank()", True),
        ("for rank in ranks:\n    if TEST:\n        LOSS\n", "rank == 0", True),
        ("for arm, is_main in (('l', True), ('r', False)):\n    if TEST:\n        LOSS\n", "is_main", False),
        ("def run(rank=8):\n    if TEST:\n        LOSS\nrun()\nrun(rank=4)\n", "rank > 4", False),
        ("def run(rank=8):\n    if TEST:\n        LOSS\n", "rank > 4", True),
        ("def run(rank=8):\n    if TEST:\n        LOSS\nrun()\nrun(dist.get_rank())\n", "rank > 4", True),
        ("def run(rank=8):\n    if TEST:\n        LOSS\nrun()\nspawn(run)\n", "rank > 4", True),
        ("def run(rank=8):\n    if TEST:\n        LOSS\nrun(*sys.argv)\n", "rank > 4", True),
        ("@command()\ndef run(rank=8):\n    if TEST:\n        LOSS\nrun()\n", "rank > 4", True),
        ("def run(main=True):\n    if TEST:\n        LOSS\nrun()\n", "main", False),
        ("def run(main=True):\n    if TEST:\n        LOSS\nrun(dist.get_rank() == 0)\n", "main", True),
        ("def run(main):\n    if TEST:\n        LOSS\nrun(main=not rank)\n", "main", True),
        ("primary: bool = dist.get_rank() == 0\nif TEST:\n    LOSS\n", "primary", True),
        ("class T:\n    def __init__(self):\n        self.is_main = True\n    def step(self):\n        if TEST:\n"
         "            LOSS\n        self.is_main = False\n", "self.is_main", False),
        ("class T:\n    def __init__(self):\n        self.rank, self.size = 0, 1\n        self.rank = 0\n"
         "    def step(self):\n        if TEST:\n            LOSS\n", "self.rank == 0", True),
        ("class T:\n    rank = 0\n    def step(self):\n        self.rank = 0\n        if TEST:\n"
         "            LOSS\n", "self.rank == 0", True),
        ("class T:\n    def __init__(self):\n        self.rank = 0\n    def step(self):\n        if TEST:\n"
         "            LOSS\nT().rank = setup()\n", "self.rank == 0", True),
        ("p.add_argument('--rank', help='LoRA rank')\nif TEST:\n    LOSS\n", "args.rank > 4", False),
        ("p.add_argument('--rank', help='of the node')\nif TEST:\n    LOSS\n", "args.rank > 4", True),
        ("p.add_argument('--gpu', default=1)\nif TEST:\n    LOSS\n", "args.gpu > 0", False),
        ("p.add_argument('-g', '--gpu-id')\nif TEST:\n    LOSS\n", "args.gpu_id > 0", False),
        ("p.add_argument('--gpu')\ninit_distributed_mode(args)\nif TEST:\n    LOSS\n", "args.gpu == 0", True),
        ("p.add_argument('--gpu')\nargs.gpu = gpu\nif TEST:\n    LOSS\n", "args.gpu == 0", True),
    ],
)  # fmt: skip
def test_what_a_name_is_given(text: str, test: str, is_lone: bool) -> None:
    text = text.replace("TEST", test).replace("LOSS", LOSS)
    (call,) = facts_of(text).calls
    assert bool(call.rank_lines) is is_lone


@pytest.mark.parametrize(
    ("branches", "lines"),
    [
        ("if rank == 0:\n    with profile():\n        CALL\nelse:\n    CALL\n", ()),
        ("if rank == 0:\n    try:\n        CALL\n    finally:\n        log()\nelse:\n    CALL\n", ()),
        ("if rank == 0:\n    log()\n    for i in h:\n        CALL\nelse:\n    for k in h:\n        CALL\n", ()),
        ("if rank == 0:\n    CALL\nelif rank == 1:\n    CALL\nelse:\n    CALL\n", ()),
        ("if rank == 0:\n    if step:\n        CALL\nelse:\n    if step:\n        CALL\n", ()),
        ("CALL if rank == 0 else CALL\n", ()),
        ("if rank == 0:\n    CALL\n    CALL\nelse:\n    CALL\n", (7,)),
        ("if rank == 0:\n    CALL\nelif rank == 1:\n    CALL\n", (7, 9)),
        ("if rank == 0:\n    for i in h:\n        CALL\nelse:\n    CALL\n", (7,)),
        ("if rank == 0:\n    while CALL:\n        log()\nelse:\n    CALL\n", (7,)),
        ("if rank == 0:\n    if step:\n        CALL\nelse:\n    CALL\n", (7,)),
        (
            "if rank == 0:\n    if step:\n        CALL\n    else:\n        log()\nelse:\n    if step:\n        log()\n"
            "    else:\n        CALL\n",
            (7,),
        ),
        ("if rank == 0:\n    step and CALL\nelse:\n    CALL\n", (7,)),
        ("if rank == 0:\n    [CALL for i in h]\nelse:\n    CALL\n", (7,)),
        ("if rank == 0:\n    later = lambda: CALL\nelse:\n    CALL\n", (7,)),
        ("if rank == 0:\n    try:\n        log()\n    except E:\n        CALL\nelse:\n    CALL\n", (7,)),
        ("if rank == 0:\n    with torch.no_grad():\n        CALL\nelse:\n    CALL\n", (7,)),
        ("if rank == 0:\n    CALL\nelse:\n    log()\n", (7,)),
        ("CALL if rank == 0 else 0\n", (7,)),
    ],
)
@pytest.mark.parametrize("call", [LOSS, "step_of(m, h, a)", "self.step(m, h, a)"])
def test_in_both_branches(call: str, branches: str, lines: tuple[int, ...]) -> None:
    head = f"def step_of(m, h, a):\n    return {LOSS}\nclass T:\n    def step(self, m, h, a):\n"
    body = "".join(f"        {line}\n" for line in branches.replace("CALL", call).splitlines())
    text = f"{head}        return {LOSS}\n    def run(self, m, h, a, rank, step):\n{body}"
    facts = facts_of(text)
    assert sorted({line - 1 for item in facts.calls for line in item.rank_lines}) == [*lines]


def test_a_decorator() -> None:
    assert facts_of(f"@rank_zero_only\ndef step(m, h, a):\n    return {LOSS}\n").calls[0].rank_lines == (3,)
    assert facts_of(f"@torch.compile\ndef step(m, h, a):\n    return {LOSS}\n").calls[0].rank_lines == ()


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ("if torch.isfinite(loss):\n    loss.backward()\n", [4]),
        ("if torch.isfinite(loss):\n    accelerator.backward(loss)\n", [4]),
        ("if torch.isfinite(loss):\n    loss.backward()\nelse:\n    (0 * loss).backward()\n", []),
        ("if step % 2:\n    loss.backward()\n", []),
        ("if torch.isfinite(loss):\n    log(loss)\n", []),
        ("if pos.item() > 3:\n    continue\n", [4]),
        ("if loss is None:\n    continue\n", []),
        ("total += loss\nif total > 3:\n    break\n", [5]),
        ("total: float = loss.item()\nif total > 3:\n    break\n", [5]),
        ("if self.skip:\n    continue\n", []),
        ("self.loss = loss\nif self.loss > 3:\n    continue\n", [5]),
        ("self.loss = loss\nif self.skip:\n    continue\n", []),
        ("try:\n    loss.backward()\nexcept RuntimeError:\n    continue\n", [6]),
        ("try:\n    loss.backward()\nexcept RuntimeError:\n    raise\n", []),
        ("try:\n    log(loss)\nexcept RuntimeError:\n    continue\n", []),
    ],
)
def test_iterations_that_one_rank_may_leave(body: str, lines: list[int]) -> None:
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    facts = facts_of(f"for m, h, a in data:\n    loss, pos, _ = {LOSS}\n{indented}")
    assert [item.line for item in facts.warnings] == lines


MODULE = f"{IMPORT}\n\ndef energy_loss(m, h, a):\n    return {LOSS}\n"
HELPER = "from losses import energy_loss\n\n\ndef both(m, h, a):\n    return h.sum() + energy_loss(m, h, a)[0]\n"
CLASS = f"{IMPORT}\n\nclass Criterion:\n    def forward(self, m, h, a):\n        return {LOSS}\n"


@pytest.mark.parametrize(
    ("modules", "top", "call"),
    [
        ({"losses.py": MODULE}, "from losses import energy_loss", "energy_loss(m, h, a)"),
        ({"losses.py": MODULE}, "import losses", "losses.energy_loss(m, h, a)"),
        ({"losses.py": MODULE, "helper.py": HELPER}, "from helper import both", "both(m, h, a)"),
        ({"losses.py": CLASS}, "from losses import Criterion\ncriterion = Criterion()", "criterion(m, h, a)"),
        ({"losses.py": CLASS}, "from losses import Criterion\ncriterion = Criterion()", "criterion.forward(m, h, a)"),
    ],
)
def test_around_what_leads_to_a_module(
    modules: dict[str, str], top: str, call: str, tmp_path: Path, energy_patch: Command
) -> None:
    for name, text in modules.items():
        (tmp_path / name).write_text(text)
    script = tmp_path / "train.py"
    head = f"{top}\nfor m, h, a, rank in data:\n"
    line = head.count("\n") + 1
    script.write_text(f"{head}    if rank == 0:\n        {call}[0].backward()\n")
    before = snapshot(tmp_path)
    ran = energy_patch("apply", "--json", script)
    (answer,) = ran.json["scripts"]
    assert (ran.exit_code, answer["reason"], answer["line"]) == (1, "unsupported", line)
    assert f"on line {line + 1} holds the loss and is computed only where a condition on the rank" in answer["message"]
    assert snapshot(tmp_path) == before

    script.write_text(f"{head}    loss = {call}[0]\n    if loss.isnan():\n        continue\n    loss.backward()\n")
    ran = energy_patch("apply", script)
    assert ran.exit_code == 0, ran.stderr
    assert f"warning, line {line + 1}: `if loss.isnan()` leaves the iteration on one rank alone" in ran.stderr


def test_around_what_leads_on_in_between(tmp_path: Path, energy_patch: Command) -> None:
    (tmp_path / "losses.py").write_text(MODULE)
    (tmp_path / "helper.py").write_text(HELPER.replace("    return", "    if m.rank == 0:\n        return"))
    (tmp_path / "train.py").write_text("from helper import both\nboth(m, h, a).backward()\n")
    (answer,) = energy_patch("apply", "--json", tmp_path / "train.py").json["scripts"]
    assert (answer["reason"], answer["line"]) == ("unsupported", None)
    assert answer["message"].startswith("helper.py, line 5: energy_loss on line 6 holds the loss")
