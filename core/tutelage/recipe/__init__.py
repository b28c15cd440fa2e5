"""The recipe: its schema, the checks of its values, and how recipe files are loaded."""
