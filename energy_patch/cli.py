"""Options in, outcome out: the command line holds no logic of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from energy_patch import __version__
from energy_patch.refusal import WrongUse
from energy_patch.strategies.base import Option, Value
from energy_patch.strategies.registry import DEFAULT, strategies

SCRIPTS = click.argument("scripts", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SCRIPT...")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the diff and write nothing.")
Command = Callable[..., Any]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="energy-patch")
def main() -> None:
    """Give a multi-GPU energy model the negatives and the shared weights that it has on one GPU.

    \b
    energy-patch apply --dry-run finetune_Energy.py   show what would change
    energy-patch apply finetune_Energy.py             change it
    energy-patch revert finetune_Energy.py            take it all back
    """


def _all_options() -> dict[str, Option]:
    return {option.name: option for item in strategies().values() for option in item.options}


def _strategy_options(command: Command) -> Command:
    for option in reversed(_all_options().values()):
        owners = [item.name for item in strategies().values() if item.option(option.name)]
        default = "off" if option.only_when_given else option.default
        text = f"{option.help} [{', '.join(owners)}; default: {default}]"
        command = click.option(option.flag, option.name, type=type(option.default), default=None, help=text)(command)
    return command


@main.command("apply")
@click.option(
    "--strategy",
    type=click.Choice(list(strategies())),
    default=None,
    help=f"Which loss the script is given. [default: {DEFAULT}]",
)
@_strategy_options
@click.option(
    "--sync/--no-sync",
    "synchronise",
    default=None,
    help="Keep the ranks' energy models equal, or leave that to something else. [default: --sync]",
)
@click.option(
    "--log-metrics/--no-log-metrics",
    "logs",
    default=None,
    help="Log top-1, loss / ln N and margin beside the energies that the script logs. [default: off]",
)
@DRY_RUN
@click.option("--full", is_flag=True, help="With --dry-run: new files too, in a diff that `git apply` accepts.")
@click.option("--check", is_flag=True, help="Write nothing; exit with 3 if there is something to do.")
@JSON
@SCRIPTS
def apply_command(
    scripts: tuple[Path, ...],
    strategy: str | None,
    synchronise: bool | None,
    logs: bool | None,
    dry_run: bool,
    full: bool,
    check: bool,
    as_json: bool,
    **values: Value | None,
) -> None:
    """Patch scripts: the loss, its config fields, and the lines that keep the ranks one model."""
    from energy_patch.commands.apply import Request, apply

    if full and not dry_run:
        raise click.UsageError("--full belongs to --dry-run")
    request = Request(strategy, _checked(values), synchronise, logs)
    try:
        report = apply(scripts, request, write=not (dry_run or check), cwd=Path.cwd())
    except WrongUse as wrong:
        raise click.UsageError(str(wrong)) from None
    names = " ".join(str(path) for path in scripts)
    after = (
        "Next, in the script's folder: torchrun --nproc-per-node 8 -m energy_losses.check MODULE:CLASS, your energy "
        "model's, say energy.energy_model:EnergyModel. If all is ok, start training as before.\n"
        f"To take it back: energy-patch revert {names}"
    )
    _finish(report, as_json, diff=dry_run, full=full, after=after if report.outcome == "patched" else "")
    if check and report.exit_code == 0 and report.has_work:
        sys.exit(3)
    sys.exit(report.exit_code)


def _checked(values: Mapping[str, Value | None]) -> dict[str, Value]:
    """The strategies' options that were given."""
    given = {name: value for name, value in values.items() if value is not None}
    for name, value in given.items():
        if fault := _all_options()[name].fault(value):
            raise click.UsageError(fault)
    return given


@main.command("revert")
@DRY_RUN
@JSON
@SCRIPTS
def revert_command(scripts: tuple[Path, ...], dry_run: bool, as_json: bool) -> None:
    """Take the patch back: the original bytes, or your own later edits without the patch."""
    from energy_patch.commands.revert import revert

    report = revert(scripts, write=not dry_run, cwd=Path.cwd())
    _finish(report, as_json, diff=dry_run)
    sys.exit(report.exit_code)


@main.command("status")
@JSON
@SCRIPTS
def status_command(scripts: tuple[Path, ...], as_json: bool) -> None:
    """Say whether scripts are patched, with what, and whether the patch is intact."""
    from energy_patch.commands.status import status

    report = status(scripts)
    _finish(report, as_json)
    sys.exit(report.exit_code)


@main.command("diagnose")
@click.option("--gpus", type=click.IntRange(min=1), default=8, show_default=True, help="Ranks that train together.")
@click.option("--batch-size", type=click.IntRange(min=1), default=None, help="Per rank. [default: the config's own]")
@JSON
@click.argument("script", type=click.Path(path_type=Path), metavar="SCRIPT")
def diagnose_command(script: Path, gpus: int, batch_size: int | None, as_json: bool) -> None:
    """Say what is wrong with a script before anything is patched; it is read, never run."""
    from energy_patch.commands.apply import refusal_of
    from energy_patch.diagnose import render
    from energy_patch.diagnose.engine import diagnose

    found = diagnose(script, gpus, batch_size, refusal_of)
    click.echo(render.as_json(found) if as_json else "\n".join(render.as_text(found)))


@main.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("energy-patch-demo"),
    show_default=True,
    help="Where the sample, its runs, the table and the figure go.",
)
def demo_command(out: Path) -> None:
    """Train a small sample on 8 ranks as it is, patch it, train again, and compare (about three minutes)."""
    from energy_patch.demo.runner import run_demo
    from energy_patch.refusal import Refusal

    try:
        run_demo(out, sys.stdout)
    except Refusal as refusal:
        click.echo(f"{out}: refused ({refusal.reason}): {refusal.message}", err=True)
        sys.exit(1)


def _finish(report: Any, as_json: bool, *, diff: bool = False, full: bool = False, after: str = "") -> None:
    """One JSON object or the diff on stdout; everything for a person on stderr."""
    from energy_patch.report import render as words

    if as_json:
        click.echo(words.as_json(report))
    elif diff:
        _print_diff(report.full_diff if full else b"".join(item.whole_diff for item in report.outcomes))
    for text in words.as_text(report, after=after):
        click.echo(text, err=True)


def _print_diff(diff: bytes) -> None:
    from energy_patch.files.diff import colour

    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    click.echo(colour(diff) if is_coloured else diff, nl=False, color=is_coloured)


def run() -> None:
    """The console script: a fault of energy-patch itself is one line, too."""
    try:
        main()
    except Exception as error:
        if os.environ.get("ENERGY_PATCH_DEBUG"):
            raise
        click.echo(
            f"energy-patch: internal error ({type(error).__name__}: {error}); the scripts are as they were. "
            "Please report it with what ENERGY_PATCH_DEBUG=1 prints",
            err=True,
        )
        sys.exit(1)
