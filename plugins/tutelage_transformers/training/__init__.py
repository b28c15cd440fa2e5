"""SFT and DPO by TRL's own trainers: on packed batches, divided by what fits into memory, continued after a kill."""
