"""The API of accounts: what a key uses, and the audit trail."""
