"""What people see of a training."""
