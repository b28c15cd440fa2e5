"""One self-contained page about a run: its contents as records, its plots, and the page itself."""
