"""The recipe: its schema, the checks of its values, and the loading of recipe files."""
