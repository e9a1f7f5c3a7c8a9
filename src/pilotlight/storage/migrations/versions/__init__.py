"""One module for each schema revision, oldest first by number."""
