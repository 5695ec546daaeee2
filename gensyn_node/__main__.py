"""`python -m gensyn_node run --home FOLDER`: a node without the command line's conveniences, for services and tests."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import structlog
import trio

from gensyn_node.app.node import Service, run_node
from gensyn_node.app.service import serve_interface
from gensyn_node.app.settings import load_settings
from gensyn_node.config.home import find_home
from gensyn_node.primitives.errors import InvariantViolation, Rejection

EXIT_REFUSED = 2
"""The home cannot be used; the message says why."""
EXIT_HALTED = 70
"""Something that must never be happened; nothing was signed after it."""

log = structlog.get_logger()


def main() -> int:
    """Run the node of a home until SIGTERM or SIGINT; its log goes to stderr, one JSON object a line."""
    parser = argparse.ArgumentParser(prog="gensyn_node")
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="run the node of a home")
    run.add_argument("--home", type=Path, default=None)
    run.add_argument("--without-roles", action="store_true", help="only the chain and its interface")
    chosen = parser.parse_args()
    services: tuple[Service, ...] = (serve_interface,)
    if not chosen.without_roles:
        # Imported late: a node that only follows the chain does without what training needs.
        from gensyn_node.app.role_service import serve_roles

        services = (serve_interface, serve_roles)
    try:
        settings = load_settings(find_home(chosen.home))
        _configure_log(settings.config.log.level)
        trio.run(run_node, settings, services)
    except Rejection as refusal:
        log.error("node_refused", why=str(refusal))
        return EXIT_REFUSED
    except InvariantViolation as violation:
        log.critical("node_halted", why=str(violation), exc_info=violation)
        return EXIT_HALTED
    return 0


def _configure_log(level: str) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=repr),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(main())
