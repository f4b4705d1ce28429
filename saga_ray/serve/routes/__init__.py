"""The endpoints, one file a subject; each file has a `router`."""
