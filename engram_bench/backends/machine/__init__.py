"""What this machine can do: its processor, its GPU and its matrix libraries."""
