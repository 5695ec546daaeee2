"""Readers of files: each gives `Records` (read in chunks, checked, never unpickled), tables and images also classes.

`arrays` (.npz, .safetensors), `table` (.csv, .parquet), `text` (characters, bytes, a tokenizer's tokens), `images`
(a folder for each class). `ml.data.sources` chooses among them.
"""
