"""Everything mode without leaving a GPU."""
