"""Options in, outcome out: the command line holds no logic of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from energy_patch import __version__
from energy_patch.options import COLOR, DRY_RUN, JSON, SCRIPTS, Command, Commands, Decorated, Rows, strategy_options
from energy_patch.strategies.base import Value
from energy_patch.strategies.registry import DEFAULT, in_order, strategies

if TYPE_CHECKING:
    from energy_patch.report.console import ColorMode

REFUSED = ("1", "refused; nothing was written")
USAGE = ("2", "wrong usage")
STATUS_CODES = [
    ("0", "each is patched, or not patched"),
    ("1", "a patch was modified, or a file cannot be read"),
    USAGE,
]
CHANGE_CODES = [("0", "done, or nothing to do"), REFUSED, USAGE]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="energy-patch")
def main() -> None:
    """Give a multi-GPU energy model the negatives and the shared weights that it has on one GPU.

    \b
    energy-patch apply --dry-run finetune_Energy.py   show what would change
    energy-patch apply finetune_Energy.py             change it
    energy-patch revert finetune_Energy.py            take it all back

    A SCRIPT may be a folder: all Python files below it.
    """


def _command(name: str, exit_codes: Rows, **sections: Rows) -> Callable[[Decorated], click.Command]:
    return main.command(name, cls=Command, sections={**sections, "Exit codes": exit_codes})


@_command(
    "apply",
    [*CHANGE_CODES, ("3", "--check: there is something to do")],
    Strategies=[(item.name, f"{item.summary}; {item.advice}") for item in in_order()],
)
@click.option(
    "--strategy",
    type=click.Choice(list(strategies())),
    default=None,
    metavar="NAME",
    help=f"Which loss the script is given; the strategies stand below. [default: {DEFAULT}, or the one in place]",
)
@strategy_options
@click.option(
    "--sync/--no-sync",
    "synchronize",
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
@COLOR
@SCRIPTS
def apply_command(
    scripts: tuple[Path, ...],
    strategy: str | None,
    synchronize: bool | None,
    logs: bool | None,
    dry_run: bool,
    full: bool,
    check: bool,
    as_json: bool,
    color: ColorMode,
    **values: Value | None,
) -> None:
    """Patch scripts: the loss, its config fields, and the line that keeps the ranks one model."""
    from energy_patch.commands.apply import Request, apply
    from energy_patch.commands.request import checked
    from energy_patch.report.console import show

    if full and not dry_run:
        raise click.UsageError("--full belongs to --dry-run")
    request = Request(strategy, checked(values), synchronize, logs)
    report = apply(scripts, request, write=not dry_run, check=check, cwd=Path.cwd())
    diff = (report.full_diff if full else report.diff) if dry_run else b""
    show(report, color, as_json=as_json, diff=diff)
    sys.exit(report.exit_code)


@_command("revert", CHANGE_CODES)
@DRY_RUN
@JSON
@COLOR
@SCRIPTS
def revert_command(scripts: tuple[Path, ...], dry_run: bool, as_json: bool, color: ColorMode) -> None:
    """Take the patch back: the original bytes, or your own later edits without the patch."""
    from energy_patch.commands.revert import revert
    from energy_patch.report.console import show

    report = revert(scripts, write=not dry_run, cwd=Path.cwd())
    show(report, color, as_json=as_json, diff=report.diff if dry_run else b"")
    sys.exit(report.exit_code)


@_command("status", STATUS_CODES)
@JSON
@COLOR
@SCRIPTS
def status_command(scripts: tuple[Path, ...], as_json: bool, color: ColorMode) -> None:
    """Say whether scripts are patched, with what, and whether the patch is intact."""
    from energy_patch.commands.status import status
    from energy_patch.report.console import show

    report = status(scripts)
    show(report, color, as_json=as_json)
    sys.exit(report.exit_code)


@_command("diagnose", [("0", "always: whatever is wrong with a script is the answer"), USAGE])
@click.option("--gpus", type=click.IntRange(min=1), default=8, show_default=True, help="Ranks that train together.")
@click.option("--batch-size", type=click.IntRange(min=1), default=None, help="Per rank. [default: the config's own]")
@JSON
@COLOR
@SCRIPTS
def diagnose_command(
    scripts: tuple[Path, ...], gpus: int, batch_size: int | None, as_json: bool, color: ColorMode
) -> None:
    """Say what is wrong with scripts before anything is patched; they are read, never run."""
    from energy_patch.commands.diagnose import diagnose_all, show

    show(diagnose_all(scripts, gpus, batch_size), color, as_json=as_json)


@_command("demo", [("0", "done"), ("1", "refused, or a training failed"), USAGE])
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


def run() -> None:
    """The console script: a fault of energy-patch itself is one line, too."""
    try:
        main()
    except Exception as error:
        if os.environ.get("ENERGY_PATCH_DEBUG"):
            raise
        message = (
            f"internal error ({type(error).__name__}: {error}); the scripts are as they were. "
            "Please report it with what ENERGY_PATCH_DEBUG=1 prints"
        )
        if "--json" in sys.argv:
            from energy_patch.report.contract import contract

            click.echo(contract(None, "internal-error", message=message))
        click.echo(f"energy-patch: {message}", err=True)
        sys.exit(1)
