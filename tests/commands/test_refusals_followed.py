"""What each refusal advises, done: the script is then patched, or refused for the next true reason."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands.test_refusals import REFUSALS
from tests.conftest import Command

CALL = "energy_inbatch_swap_infonce(m, h, a)"
DIRECT = "from energy.energy_model import energy_inbatch_swap_infonce"


@dataclass(frozen=True)
class Followed:
    """The changes that a refusal advises, on the command line too; `then` is what becomes of the script."""

    changes: tuple[tuple[str, str], ...]
    options: str | None = None
    then: str = "patched"


def change(old: str, new: str, then: str = "patched") -> Followed:
    return Followed(((old, new),), then=then)


FOLLOWED = {
    "a_bare_generator": change("run(x for x in y)", "run((x for x in y))"),
    "an_attribute_instead_of_a_field": change("energy_tau =", "energy_tau: float ="),
    "another_function_of_that_name": change("tau=0.5, pad_mask=None", "pad_mask=None, tau=0.5"),
    "call_in_a_comment": change("# loss", "loss"),
    "chinese_comment": change("# 旧的: ", ""),
    "computed_reduce_steps": change(", kw['r']", ""),
    "error_on_one_rank_that_is_caught": change("raise ValueError(rank)", "print(rank)"),
    "field_of_another_type": change("energy_tau: str = 'x'", "energy_tau_name: str = 'x'"),
    "field_of_another_value": Followed((), "--no-sync"),
    "labs_attribute": Followed(
        ((".criterion = energy_inbatch_swap_infonce", ".warm = 1"), ("self.criterion(", "energy_inbatch_swap_infonce("))
    ),
    "labs_by_name": Followed(
        (("import importlib", DIRECT), ("getattr(losses, name)", "energy_inbatch_swap_infonce")),
    ),
    "labs_compiled_loss": Followed(
        (
            ("infonce = torch.compile(energy_inbatch_swap_infonce, dynamic=True)\n", ""),
            (" infonce(", " energy_inbatch_swap_infonce("),
        )
    ),
    "labs_default_argument": Followed(
        (
            ("loss_fn=energy_inbatch_swap_infonce, ", ""),
            ("self.loss_fn, self.weight = loss_fn, weight", "self.weight = weight"),
            ("self.loss_fn(", "energy_inbatch_swap_infonce("),
        )
    ),
    "labs_dict_of_losses": Followed(
        (
            ('    "infonce": energy_inbatch_swap_infonce,\n', ""),
            ("LOSSES[cfg.loss](energy_model", "energy_inbatch_swap_infonce(energy_model"),
        )
    ),
    "labs_keyword_batch": change("**batch", 'batch["h"], batch["a"], pad_mask=batch["mask"]'),
    "labs_loss_as_argument": Followed(
        ((", loss_fn=energy_inbatch_swap_infonce", ""), (" loss_fn(", " energy_inbatch_swap_infonce("))
    ),
    "labs_main_process": change("        if accelerator.is_main_process:\n    ", ""),
    "labs_module_handed_on": change(
        "fit(em.EnergyModel(), loss=em.energy_inbatch_swap_infonce",
        "def loss(m, h, a, mask):\n    return em.energy_inbatch_swap_infonce(m, h, a, mask)\n\n\n"
        "fit(em.EnergyModel(), loss=loss",
    ),
    "labs_other_ranks_return": change("        if self.rank != 0:\n            return None\n", ""),
    "labs_own_wrapper": change("compute(energy_inbatch_swap_infonce, model", "energy_inbatch_swap_infonce(model"),
    "labs_partial": Followed(
        (
            ("criterion = partial(energy_inbatch_swap_infonce, tau=0.2)\n", ""),
            ("criterion(energy_model, h, a, mask)", "energy_inbatch_swap_infonce(energy_model, h, a, mask, tau=0.2)"),
        )
    ),
    "labs_rank_zero": change("if rank == 0:", "if True:"),
    "labs_star_args": change("*prepare(batch)", 'batch["hidden"], batch["actions"], batch["pad_mask"]'),
    "labs_string_choice": Followed(
        (
            ("from trainer import Trainer", DIRECT),
            ('default="energy_inbatch_swap_infonce"', 'default="infonce"'),
            ("Trainer(EnergyModel(), loss=args.loss).fit()", CALL),
        )
    ),
    "labs_two_taus": Followed((("tau=cfg.tau", "tau=0.1"),), ""),
    "log_metrics_in_two_dictionaries": Followed((), ""),
    "log_metrics_without_a_dictionary": Followed((), ""),
    "loss_among_the_arguments_of_another": Followed(
        ((f"        {CALL}[1],\n", "        b,\n"), ("    return energy", f"    b = {CALL}[1]\n    return energy")),
    ),
    "loss_behind_a_function_that_only_rank_0_calls": change("if is_main_process:", "if True:"),
    "loss_on_one_rank": change("if dist.get_rank() == 0:", "with torch.no_grad():"),
    "no_call": change("import torch", f"{DIRECT}\n{CALL}"),
    "none_where_the_import_fails": change("energy_inbatch_swap_infonce = None", "raise"),
    "other_ranks_end_without_an_error": change("SystemExit(0)", "SystemExit(1)"),
    "own_call_among_the_arguments_of_the_loss": change(
        "return energy_inbatch_swap_infonce(m, h, part(m, h, a))", f"a = part(m, h, a)\n    return {CALL}"
    ),
    "passed_around": change("loss = energy_inbatch_swap_infonce\n", f"loss = {CALL}\n"),
    "rebound": Followed((("    energy_inbatch_swap_infonce = other", "    another = other"),)),
    "shadowing_local": change("def run(energy_inbatch_swap_infonce, ", "def run(other, "),
    "sibling": Followed((("infonce_2d\n", "infonce\n"), ("infonce_2d(", "infonce("))),
    "star_import": change("import *", "import energy_inbatch_swap_infonce"),
    "starred_arguments": change("(*args)", "(args[0], args[1], args[2])"),
    "starred_keywords": change("**kw", "pad_mask=kw['pad_mask']"),
    "syntax_error": change("def run(:\n    pass", f"def run():\n    {CALL}"),
    "syntax_error_without_the_loss": change("def (", "def run(): pass", then="not-found"),
    "tau_twice": Followed((("0.7", "0.5"),), "--no-sync"),
    "too_few": change("(m, h)", "(m, h, a)"),
    "too_many": change(", 1)", ")"),
    "unknown_keyword": change("temperature=1", "tau=1"),
}


@pytest.mark.parametrize("name", sorted(path.stem for path in REFUSALS.glob("*.py")))
def test_advice(name: str, tmp_path: Path, energy_patch: Command) -> None:
    first, _, text = (REFUSALS / f"{name}.py").read_text("utf-8").split("\n", 2)
    followed = FOLLOWED[name]
    for old, new in followed.changes:
        assert old in text
        text = text.replace(old, new)
    options = first.removeprefix("# energy-patch apply") if followed.options is None else followed.options
    script = tmp_path / "train.py"
    script.write_text(text, "utf-8")
    (answer,) = energy_patch("apply", *shlex.split(options), "--json", script).json["scripts"]
    assert (answer["reason"] or answer["outcome"]) == followed.then, answer
