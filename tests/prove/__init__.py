"""Long measurements of what the documentation claims. Their results are written to docs/proof.json."""
