"""What the commands of the command line have in common: their options, and a help that says everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from energy_patch.refusal import WrongUse
from energy_patch.strategies.base import Option
from energy_patch.strategies.registry import all_options, strategies

Decorated = Callable[..., Any]
Rows = list[tuple[str, str]]


class ScriptPath(click.Path):
    """A script or a folder; an empty word, as an unset variable of the shell leaves it, is not the folder here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("a script's name is empty", param, ctx)
        return super().convert(value, param, ctx)


SCRIPTS = click.argument("scripts", nargs=-1, required=True, type=ScriptPath(path_type=Path), metavar="SCRIPT...")
JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object on stdout; energy_patch/report/schema.json describes it.",
)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the diff and write nothing.")
COLOR = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Color on a terminal, always or never; auto heeds NO_COLOR and FORCE_COLOR. [default: auto]",
)


class Command(click.Command):
    """A command whose help ends with sections of its own."""

    sections: dict[str, Rows]

    def __init__(self, *arguments: Any, sections: dict[str, Rows], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sections = sections

    def get_short_help_str(self, limit: int = 45) -> str:
        """The whole first line: click would cut it at `limit` letters."""
        return (self.help or "").partition("\n")[0]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        for title, rows in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


class Commands(click.Group):
    """The group; what is wrong with a call is said in JSON too, where that was asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        is_json = "--json" in ctx.args  # what follows the command's name
        try:
            return super().invoke(ctx)
        except (WrongUse, click.UsageError) as wrong:
            usage = wrong if isinstance(wrong, click.UsageError) else click.UsageError(str(wrong))
            if is_json:
                from energy_patch.report.contract import contract

                click.echo(contract(ctx.invoked_subcommand, "wrong-usage", message=usage.format_message()))
            raise usage from None


def strategy_options(command: Decorated) -> Decorated:
    """The options of all strategies."""
    for option in reversed(all_options().values()):
        command = click.option(
            option.flag, option.name, type=type(option.default), default=None, help=_help_of(option)
        )(command)
    return command


def _help_of(option: Option) -> str:
    """What an option does, which field it sets, and which strategies have it."""
    owners = [item.name for item in strategies().values() if item.option(option.name)]
    field = f"config field {option.field}; " if option.field else ""
    default = "off" if option.only_when_given else option.default
    return f"{option.help} [{field}strategies {', '.join(owners)}; default: {default}]"
