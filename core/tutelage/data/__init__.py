"""What is learned from and asked: sets by name, other people's rows, and what is kept out of training."""
