"""`python -m cli` is `gensyn`."""

from cli.main import main

main()
