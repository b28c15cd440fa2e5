"""Attention over packed sequences, and fused activations, below any transformers model."""
