"""What training minimises, and how: losses, optimisers, schedules."""
