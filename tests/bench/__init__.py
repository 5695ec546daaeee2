"""Figures, measured side by side in one run. Nothing here is a test and nothing asserts a time."""
