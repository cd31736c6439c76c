"""Access to the world outside: files, clock, commit, machine, and progress shown to a user."""
