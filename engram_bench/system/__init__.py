"""The world outside the program: files, clock, commit, machine, and progress told to a person."""
