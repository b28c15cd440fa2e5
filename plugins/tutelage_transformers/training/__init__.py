"""SFT and DPO by TRL's own trainers, packed beneath them, divided by what fits, continued after a kill."""
