"""From answers to preference pairs: judging prompts and score parsing, pair rules, and lists of prompts."""
