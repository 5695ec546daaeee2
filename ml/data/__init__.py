"""Data sets: named tensors of records, in shards that are addressed by their content.

Reading order: `manifest` (the structs and the layout of a directory), `dataset` (opening one, verified; batches),
`records` (data as it is read, in chunks), `sources` (which reader for which file), `formats`, `split`. Flows in: a
person's files, or a directory fetched by its manifest. Flows out: batches. Nothing here ever unpickles.
"""
