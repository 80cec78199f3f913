"""Wires the subcommands of `baton` together, and turns Baton's errors into one line and exit 1."""

import sys

import typer

from baton.cli.chat import chat
from baton.cli.key import key
from baton.cli.pull import model_pull
from baton.cli.serve import serve
from baton.common.errors import BatonError


def new_app() -> typer.Typer:
    app = typer.Typer(
        help="Baton serves language models with prefill and decode on separate workers.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # square brackets in help texts are ours
    )
    app.command()(serve)
    app.command()(chat)
    app.command()(key)
    model = typer.Typer(help="Models on this machine.", no_args_is_help=True)
    model.command("pull")(model_pull)
    app.add_typer(model, name="model")
    return app


def run() -> None:
    """Obeys argv. Ends the process with the command's status."""
    try:
        new_app()()
    except BatonError as error:
        print(f"baton: {error.message}", file=sys.stderr)
        sys.exit(1)
