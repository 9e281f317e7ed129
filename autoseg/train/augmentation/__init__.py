"""What happens to a patch between disk and network."""
