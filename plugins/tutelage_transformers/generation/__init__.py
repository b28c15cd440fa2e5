"""Generation: candidates, demonstrations and judgements, by one engine on a GPU and another elsewhere."""
