"""One session: its options, its plan, its model and adapter, and what it comes to."""
