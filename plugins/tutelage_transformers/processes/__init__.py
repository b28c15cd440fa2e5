"""What all child processes of this plugin share: their environment, and the report of a failure."""
