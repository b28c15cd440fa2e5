"""Generation on a GPU: every row's keys and values in pages, and a batch that stays full.

    engine      prompts in, rows of tokens out; keeps a decoder while its model is loaded
    scheduling  which rows run: admits waiting ones as others end, streams finished rows
    decoding    the rows that run, on the device: reads prompts, appends a token to every row in one CUDA graph
    pages       who owns which page; rows that begin with the same tokens share pages (pure Python)
    attention   keys and values into pages, and attention over them, beneath any transformers model
    kernels     the two Triton kernels: attention of one new token a row, and nucleus sampling

transformers' own continuous batching is launch-bound (``docs/speed.md`` has figures): it builds each step in
Python. Here a step is one replay of a graph, whatever the lengths of its rows.
"""

from tutelage_transformers.generation.paged.engine import check, is_for, write

__all__ = ["check", "is_for", "write"]
