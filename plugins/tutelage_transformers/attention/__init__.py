"""Attention over packed sequences, and fused activations and norms, below any transformers model."""
