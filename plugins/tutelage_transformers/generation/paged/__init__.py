"""Generation on a GPU: the keys and values of every sequence in blocks, and a batch that stays full.

    engine      requests in, generated tokens out; keeps a decoder while its model is loaded
    scheduler   decides which sequences run: admits waiting ones as others end, yields finished ones
    decoder     the running sequences on the device: prefills prompts, decodes a token of each in one CUDA graph
    capturing   which models' steps can be captured as a CUDA graph: not all mixtures of experts
    blocks      which sequence owns which block of the cache; sequences with a common prefix share blocks (pure Python)
    attention   writes keys and values into blocks, and attends over them, below any transformers model
    kernels     Triton kernels: attention of one new token per sequence, and nucleus sampling
    cache_kernels   Triton kernels that copy keys and values to and from their blocks

transformers' own continuous batching is launch-bound (``docs/speed.md`` has figures): it prepares each step in
Python. Here a captured step is one replay of a graph, whatever the lengths of its sequences.
"""

from tutelage_transformers.generation.paged.engine import check, generate, is_preferred, weigh

__all__ = ["check", "generate", "is_preferred", "weigh"]
