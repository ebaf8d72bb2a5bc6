"""The console: pages that show and use the service in a browser, made of its REST API alone."""
