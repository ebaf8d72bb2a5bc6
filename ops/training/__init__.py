"""Training of the muzzle models: photos, features, heads, verification and export."""
