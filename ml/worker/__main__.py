"""`python -m ml.worker`: the worker process."""

from ml.worker.main import main

if __name__ == "__main__":
    main()
