"""The console script `gensyn`: groups of commands, errors, exit codes."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import typer

from cli import (
    bench,
    chain,
    data,
    devnet,
    dispute,
    explain,
    gov,
    node,
    node_doctor,
    node_recovery,
    stake,
    task,
    task_audit,
    verify,
    wallet,
    why,
)
from cli.output import EXIT_CODES, EXIT_INTERRUPTED, EXIT_OK, errors, fail
from gensyn_node.primitives.errors import Rejection

_EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

_UsageError: Any = typer.BadParameter.__mro__[1]  # typer brings its own click, or uses the installed one

app = typer.Typer(
    name="gensyn",
    help="Train models on strangers' machines, with the work proved and paid for. Home: ~/.gensyn.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for name, group in (
    ("node", node.app),
    ("wallet", wallet.app),
    ("data", data.app),
    ("task", task.app),
    ("dispute", dispute.app),
    ("stake", stake.app),
    ("chain", chain.app),
    ("gov", gov.app),
    ("bench", bench.app),
    ("devnet", devnet.app),
):
    app.add_typer(group, name=name)
node_recovery.register(node.app)
node_doctor.register(node.app)
task_audit.register(task.app)
why.register(node.app, task.app)
app.command("verify")(verify.verify)
app.command("explain")(explain.explain)
app.command("version")(explain.version)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code."""
    given = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in given
    warnings.filterwarnings("ignore", module=r"torch\..*")  # notes for its developers
    try:
        code = app(given, prog_name="gensyn", standalone_mode=False)
    except Rejection as rejection:
        code = fail(rejection, as_json)
    except _UsageError as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort, EOFError):
        errors.print("interrupted")
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = EXIT_OK
    sys.exit(code if isinstance(code, int) else EXIT_OK)
