"""What all child processes of this plugin share: their environment, and how a failure is reported."""
