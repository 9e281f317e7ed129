"""Pure array operations: numpy and scipy, no torch, no files."""
