"""``autoseg report``: what there is about a task as one page to show each other."""
