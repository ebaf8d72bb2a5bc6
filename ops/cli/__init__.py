"""The command line ``visiongraph``."""
