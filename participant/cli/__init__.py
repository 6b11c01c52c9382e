"""A participant's commands."""
