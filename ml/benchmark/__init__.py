"""What exact training costs on this machine, beside PyTorch: `models` (what is trained), `measures` (how it is timed).

Flows in: names. Flows out: figures as plain dicts, for `gensyn bench ml` and `make bench`.
"""
