"""`python -m gensyn_node` is the command `gensyn`."""

from cli.main import main

if __name__ == "__main__":
    main()
