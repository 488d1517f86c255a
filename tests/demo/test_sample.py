"""The bundled codebase trains, and holds the traps of the codebases that it stands for."""

import ast
import csv
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts.forked import launch

SAMPLE = Path(__file__).parents[2] / "energy_patch" / "demo" / "sample"
SCRIPT = SAMPLE / "finetune_Energy.py"
TEXT = SCRIPT.read_text(encoding="utf-8")
TREE = ast.parse(TEXT)
FUNCTIONS = {node.name: node for node in ast.walk(TREE) if isinstance(node, ast.FunctionDef)}
LIMIT = 120


def calls(tree, name):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == name:
            yield node


def train(folder, ranks, arguments):
    """Status and output of a training; of no launcher where `ranks` is None, and then a warning is an error."""
    shutil.copytree(SAMPLE, folder / "code", ignore=shutil.ignore_patterns("__pycache__", "runs"))
    script = folder / "code" / SCRIPT.name
    given = [*shlex.split(arguments), "--runs", str(folder / "runs"), "--num_held_out", "24"]
    if ranks is not None:
        ran = launch(ranks, script, *given, seconds=LIMIT)
        return ran.status, ran.output + ran.errors
    process = subprocess.run(
        [sys.executable, "-W", "error", str(script), *given],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return process.returncode, process.stdout


@pytest.mark.parametrize("ranks", [None, 1, 2])
def test_trains_without_a_warning(tmp_path, ranks):
    status, output = train(tmp_path, ranks, "--batch_size 3 --max_steps 4 --held_out_freq 2 --log_freq 1 --save_freq 4")
    assert status == 0, output
    assert ranks is None or "Warning" not in output
    (run,) = (path for path in (tmp_path / "runs").iterdir() if (path / "held_out.csv").exists())
    with (run / "held_out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "4"]
    assert all(0 <= float(row["top1"]) <= 1 for row in rows)
    assert list((tmp_path / "runs").glob("*-4/energy_model.pt"))


def test_trains_under_torchrun(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    flags = ["--batch_size", "3", "--max_steps", "2", "--num_held_out", "24", "--runs", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [*command, *flags], cwd=tmp_path, env=environment, timeout=LIMIT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert (next(tmp_path.iterdir()) / "held_out.csv").is_file()


def test_accumulation_counts_optimizer_steps(tmp_path):
    status, output = train(tmp_path, 1, "--batch_size=3 --max_steps=2 --grad_accumulation_steps=2 --log_freq=1")
    assert status == 0, output
    (log,) = (tmp_path / "runs").glob("*/train.csv")
    assert [line.split(",")[0] for line in log.read_text().split()[1:]] == ["1", "2"]


def test_validation_fails_as_in_the_codebase_it_stands_for(tmp_path):
    status, output = train(tmp_path, 1, "--batch_size 3 --max_steps 2 --use_val_set --val_freq 1")
    assert status != 0
    assert "'NoneType' object has no attribute" in output or "not callable" in output


def test_unknown_argument_is_a_usage_error(tmp_path):
    status, output = train(tmp_path, 1, "--batchsize 3")
    assert status != 0
    assert "unknown argument: --batchsize" in output


def test_a_failing_rank_ends_the_others(tmp_path):
    script = tmp_path / "one_fails.py"
    script.write_text("import os, time\nif os.environ['RANK'] == '1':\n    raise SystemExit(3)\ntime.sleep(600)\n")
    command = [sys.executable, "-m", "energy_patch.demo.launch", "--ranks", "3", str(script)]
    assert subprocess.run(command, timeout=60, capture_output=True, check=False).returncode == 1


def test_trap_forward_pass_has_no_config():
    arguments = FUNCTIONS["run_forward_pass"].args
    assert "cfg" not in [argument.arg for argument in arguments.args]
    assert "energy_model = None," in TEXT


def test_trap_two_callers_differ():
    finetune, validation = (next(calls(FUNCTIONS[name], "run_forward_pass")) for name in ("finetune", "run_validation"))
    passed = [{keyword.arg for keyword in call.keywords} for call in (finetune, validation)]
    assert passed[0] - passed[1] == {"energy_model"}
    unpacked = {
        len(node.targets[0].elts)
        for node in ast.walk(TREE)
        if isinstance(node, ast.Assign) and node.value in (finetune, validation)
    }
    assert unpacked == {2, 3}


def test_trap_energy_model_alone_is_not_wrapped():
    wrapped = {ast.unparse(call.args[0]) for call in calls(FUNCTIONS["finetune"], "wrap") if call.args}
    assert wrapped == {"vla", "action_head"}


def test_trap_clip_comes_right_before_the_step():
    lines = [line.strip() for line in TEXT.splitlines()]
    assert lines[lines.index("energy_optimizer.step()") - 1].startswith("torch.nn.utils.clip_grad_norm_")


def test_trap_one_call_and_many_commented_ones():
    assert len(list(calls(TREE, "energy_inbatch_swap_infonce"))) == 1
    comments = [line for line in TEXT.splitlines() if line.strip().startswith("#")]
    assert sum("energy_inbatch_swap_infonce(" in line for line in comments) == 1
    assert sum("energy_inbatch_swap_infonce_2d(" in line for line in comments) == 1
    assert not TEXT.isascii()


def test_trap_layer_actions_are_made_and_unused():
    names = [node for node in ast.walk(FUNCTIONS["run_forward_pass"]) if isinstance(node, ast.Name)]
    assert [node.id for node in names].count("layer_actions") == 2  # made, and appended to


def test_trap_head_is_called_around_ddp():
    assert TEXT.count("action_head.module.predict_action(") == 2


def test_trap_resume_forgets_the_energy_model():
    assert {ast.unparse(call.func) for call in calls(TREE, "load_state_dict")} == {
        "vla.load_state_dict",
        "action_head.load_state_dict",
    }


def test_trap_last_fields_have_no_comments():
    fields = TEXT.split("# fmt: on")[0].rstrip().splitlines()[-3:]
    assert all(": " in field and "#" not in field for field in fields)
    assert fields[0].endswith("     ")


def test_trap_infonce_loss_unpacks_one_result():
    text = (SAMPLE / "energy" / "energy_model.py").read_text(encoding="utf-8")
    assert "E_pos, _ = energy_model(" in text
