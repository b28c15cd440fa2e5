"""Answers: candidates, demonstrations and judgements, through one engine on a CPU and another on a GPU."""
