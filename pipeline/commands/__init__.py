"""The commands, a module for each subject: what can be said to it, and what it then does."""
