"""The muzzle API: cattle verified and identified by the print of their muzzle (``muzzle-openapi.json``)."""
