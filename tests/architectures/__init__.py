"""Architectures as people write them, trained exactly and by PyTorch: `python -m tests.architectures --help`."""
