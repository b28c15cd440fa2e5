"""Attention over packed sequences, and fused activations, norms and rotations, below any transformers model."""
