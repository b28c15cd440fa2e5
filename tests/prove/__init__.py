"""The long shows: what tutelage claims, run for real and written to docs/proof.json."""
