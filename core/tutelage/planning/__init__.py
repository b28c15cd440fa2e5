"""From a recipe to a plan: the steps, the pipelines, the roles, and every check that is possible before a run."""
