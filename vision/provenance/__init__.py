"""What a file says of where it comes from: signed content credentials, and metadata that nobody signed."""
